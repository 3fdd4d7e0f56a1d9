"""Into a guest as xVM's netback did it until 2009: one frame, one page, and some bytes left free in front of it.

It never took scatter-gather from a frontend, so a frame is one slot; it copied each with a hypercall of its own.
Source: OpenSolaris' xnb.c (RX_BUFFER_HEADROOM).
"""

from __future__ import annotations

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xnet.abi.xen.netif import RX_REQUEST, RX_RESPONSE, RX_SLOT_SIZE
from xnet.frame import Frames, Piece
from xnet.hv.api import CopyOp, Xen
from xnet.netif.scatter import FLAGS
from xnet.netif.transport.copy import failures
from xnet.netif.transport.deliver import Deliver
from xnet.netif.transport.flip import FlipDeliver


class HeadroomCopy(Deliver):
    """Frames copied into the guest's pages, from byte `headroom` on."""

    def __init__(self, xen: Xen, domid: int, headroom: int) -> None:
        super().__init__()
        self.xen = xen
        self.domid = domid
        self.headroom = headroom

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """See `Deliver`. Each frame is within one page (`fit`)."""
        answers: list[bytes] = []
        failed: dict[int, int] = {}
        size, room = 0, len(requests) // RX_SLOT_SIZE
        for word, length, pieces in frames:
            if len(answers) == room:
                break
            ident, _, gref = RX_REQUEST.unpack_from(requests, len(answers) * RX_SLOT_SIZE)
            answers.append(RX_RESPONSE.pack(ident, self.headroom, FLAGS[word & 3], length))
            size += length
            ops = [self.copy(pieces[0], gref)]
            statuses = self.xen.copy_grants(ops)
            if statuses is not None:
                failed |= failures(ops, statuses)
        self.failed = failed or None
        return b"".join(answers), len(answers), len(answers), size

    def copy(self, piece: Piece, gref: int) -> CopyOp:
        """The copy of one frame."""
        addr, length, owner, source = piece
        own = owner == DOMID_SELF
        flags = GNTCOPY_dest_gref | (0 if own else GNTCOPY_source_gref)
        page = addr >> PAGE_SHIFT if own else source
        return CopyOp(page, owner, addr % PAGE_SIZE, gref, self.domid, self.headroom, length, flags)

    def close(self) -> None:
        """See `Deliver`."""


class HeadroomFlip(FlipDeliver):
    """Frames in pages that are flipped, from byte `headroom` on."""

    def __init__(self, xen: Xen, domid: int, name: str, headroom: int) -> None:
        super().__init__(xen, domid, name)
        self.headroom = headroom

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """See `Deliver`."""
        answers, slots, done, size = super().burst(frames, requests)
        said = bytearray(answers)
        for at in range(0, len(said), RX_SLOT_SIZE):
            ident, _, flags, length = RX_RESPONSE.unpack_from(said, at)
            RX_RESPONSE.pack_into(said, at, ident, self.headroom, flags, length)
        return bytes(said), slots, done, size

    def fill(self, addr: int, pieces: tuple[Piece, ...]) -> None:
        """See `FlipDeliver`."""
        super().fill(addr + self.headroom, pieces)
