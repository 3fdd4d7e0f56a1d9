"""Into a guest that wants more than the frame: its flow's hash, room for an XDP program, or both.

Hash: an extra info says what it is and of what (`hashing`); frames whose flow has none do without.

Headroom: every page of a frame begins with bytes that are the guest's own. The frontend asks for so many with
`xdp-headroom` and is told with each frame (extra info XDP). A page then holds less, so a frame takes more slots; each
says where its data begins. More than `HEADROOM_MAX` is not given.

Extras come in the order of their numbers: GSO, HASH, XDP.

Linux's netback counts slots and bytes as if there were no headroom, and says offset 0 and a length with the headroom in
it, which costs a frame its last bytes as soon as its page is full; its netfront takes the offset from the extra. Both
are told the truth here, and a frontend that goes by either finds its data: in the response the offset, in the extra the
same number.
"""

from __future__ import annotations

from xnet.abi.linux.netif import EXTRA_XDP, XEN_NETIF_EXTRA_TYPE_XDP
from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    EXTRA_HASH,
    RX_REQUEST,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xnet.frame import GSO_SIZE_SHIFT, GSO_TYPE_MASK, GSO_TYPE_SHIFT, Chain, Frames, Piece, head
from xnet.hv.api import CopyOp, Xen
from xnet.netif.flow import flow_of
from xnet.netif.hashing import Hashing
from xnet.netif.scatter import FLAGS
from xnet.netif.transport.copy import failures
from xnet.netif.transport.deliver import Deliver


class ExtrasCopy(Deliver):
    """Frames copied into the guest's pages, from byte `headroom` of each on, with the hashes that `hashing` says."""

    def __init__(self, xen: Xen, domid: int, headroom: int, hashing: Hashing) -> None:
        super().__init__()
        self.xen = xen
        self.domid = domid
        self.headroom = headroom
        self.capacity = PAGE_SIZE - headroom
        self.hashing = hashing
        self.chain = Chain(xen.window)
        """To look at frames by."""

    def slots(self, word: int, length: int, view: memoryview) -> int:
        """See `Deliver`."""
        return (length + self.capacity - 1) // self.capacity + len(self.extras(word, view, length))

    def extras(self, word: int, view: memoryview, length: int) -> list[bytes]:
        """What a frame takes along, all but flags that say that more follow."""
        found = []
        gso = (word & GSO_TYPE_MASK) >> GSO_TYPE_SHIFT
        if gso:
            found.append(EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, word >> GSO_SIZE_SHIFT, gso, 0, 0))
        hashed = self.hashing.of(flow_of(view, length)) if self.hashing.told else None
        if hashed is not None:
            found.append(
                EXTRA_HASH.pack(XEN_NETIF_EXTRA_TYPE_HASH, 0, hashed.kind, self.hashing.algorithm, hashed.value)
            )
        if self.headroom:
            found.append(EXTRA_XDP.pack(XEN_NETIF_EXTRA_TYPE_XDP, 0, self.headroom))
        return found

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """See `Deliver`."""
        answers: list[bytes] = []
        ops: list[CopyOp] = []
        at = size = 0
        for frame in frames:
            word, length, pieces = frame
            extras = self.extras(word, head(self.chain, frame), length)
            end = at + ((length + self.capacity - 1) // self.capacity + len(extras)) * RX_SLOT_SIZE
            if end > len(requests):
                break
            grefs: list[int] = []
            answers.append(self.answer(word, length, requests[at:end], extras, grefs))
            self.copies(pieces, grefs, ops)
            at = end
            size += length
        statuses = self.xen.copy_grants(ops) if ops else None
        self.failed = None if statuses is None else failures(ops, statuses)
        return b"".join(answers), at // RX_SLOT_SIZE, len(answers), size

    def answer(self, word: int, length: int, requests: bytes, extras: list[bytes], grefs: list[int]) -> bytes:
        """What the slots of a frame say; the references of the pages it fills are added to `grefs`."""
        out: list[bytes] = []
        left, flags = length, FLAGS[word & 3] | (NETRXF_extra_info if extras else 0)
        for ident, _, gref in RX_REQUEST.iter_unpack(requests):
            if 0 < len(out) <= len(extras):
                extra = extras[len(out) - 1]
                more = XEN_NETIF_EXTRA_FLAG_MORE if len(out) < len(extras) else 0
                out.append(extra[:1] + bytes([more]) + extra[2:])
                continue
            size = min(left, self.capacity)
            left -= size
            out.append(RX_RESPONSE.pack(ident, self.headroom, flags | (NETRXF_more_data if left else 0), size))
            grefs.append(gref)
            flags = 0
        return b"".join(out)

    def copies(self, pieces: tuple[Piece, ...], grefs: list[int], ops: list[CopyOp]) -> None:
        """Add the copies that lay a frame's pieces into its pages."""
        filled = 0
        for start, length, owner, source in pieces:
            own = owner == DOMID_SELF
            flags = GNTCOPY_dest_gref | (0 if own else GNTCOPY_source_gref)
            addr, left = start, length
            while left:
                slot, to = divmod(filled, self.capacity)
                at = addr % PAGE_SIZE
                size = min(left, PAGE_SIZE - at, self.capacity - to)
                page = (addr >> PAGE_SHIFT) + (0 if own else source - (start >> PAGE_SHIFT))
                ops.append(CopyOp(page, owner, at, grefs[slot], self.domid, self.headroom + to, size, flags))
                addr += size
                left -= size
                filled += size

    def close(self) -> None:
        """See `Deliver`."""
