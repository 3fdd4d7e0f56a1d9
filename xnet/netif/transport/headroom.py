"""Into a guest as xVM's netback did it until 2009: one frame, one page, and some bytes left free in front of it.

It never took scatter-gather from a frontend, so a frame is one slot; it copied each with a hypercall of its own.
Source: OpenSolaris' xnb.c (RX_BUFFER_HEADROOM).
"""

from __future__ import annotations

from xnet.abi.xen.netif import RX_RESPONSE, RX_SLOT_SIZE
from xnet.frame import Frames, Piece
from xnet.hv.api import Xen
from xnet.netif.hashing import Hashing
from xnet.netif.transport.extras import ExtrasCopy
from xnet.netif.transport.flip import FlipDeliver


class HeadroomCopy(ExtrasCopy):
    """Frames copied into the guest's pages, from byte `headroom` on; nothing but the slot's offset says so."""

    def __init__(self, xen: Xen, domid: int, headroom: int) -> None:
        super().__init__(xen, domid, headroom, Hashing())

    def extras(self, word: int, view: memoryview, length: int) -> list[bytes]:
        """See `ExtrasCopy`."""
        return []

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """See `Deliver`. Each frame is within one page (`fit`)."""
        answers = b""
        failed: dict[int, int] = {}
        slots = size = 0
        for frame in frames:
            answer, took, done, length = super().burst(Frames([frame]), requests[slots * RX_SLOT_SIZE :])
            if not done:
                break
            answers += answer
            slots += took
            size += length
            failed |= self.failed or {}
        self.failed = failed or None
        return answers, slots, slots, size


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
