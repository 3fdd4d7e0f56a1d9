"""Page flipping: a guest does not get the bytes, it gets the page.

The frame is copied into pages of the backend's own, once, as xVM's netback and Linux's last one that flipped did it,
since what comes off a wire or from another guest lies in nobody's whole pages. Then the frames of memory under those
pages change hands (GNTTABOP_transfer): each goes to the guest for good, and another takes its place, for which the
hypervisor's heap is asked in batches. The guest had given up a frame for every buffer it posted, so nothing gets lost;
but the heap must be able to lend what is on its way. When it has none left, frames wait; asked again is with the next
burst, when the guest has posted buffers, and every second.

A page that nobody will have is lost to both and returns to the heap. Source: Linux 2.6.18-xen's netback.c (the pool
of replacements; a failed slot fails its packet), OpenSolaris' xnb.c (batches of 256, fewer rather than none).
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTST_bad_page
from xnet.abi.xen.netif import RING_SLOTS, RX_SLOT_SIZE, XEN_NETIF_RSP_ERROR
from xnet.frame import Frames, Piece
from xnet.hv.api import Xen
from xnet.netif.posted import filled, slots_of
from xnet.netif.scatter import answer
from xnet.netif.transport.deliver import Deliver

BATCH: Final = 256
"""Frames asked of the heap at once."""


class FlipDeliver(Deliver):
    """Frames to a guest, page by page. HypercallError when the backend's domain has no pages to fill."""

    pages = RING_SLOTS
    takes_lent = False

    def __init__(self, xen: Xen, domid: int, name: str) -> None:
        super().__init__()
        self.xen = xen
        self.domid = domid
        self.name = name
        self.addr = xen.alloc_pages(RING_SLOTS)
        """The pages that are filled: as many as there can be requests."""
        self.spare = xen.increase_reservation(BATCH)
        """Frames to take the place of those that go."""
        self.starved = False
        self.closed = False

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """See `Deliver`."""
        answers: list[bytes] = []
        refs: list[int] = []
        owners: list[int] = []
        at = size = 0
        self.starved = False
        for word, length, pieces in frames:
            end = at + slots_of(word, length) * RX_SLOT_SIZE
            if end > len(requests):
                break
            if not self.has(len(refs) + filled(length)):
                self.starved = True
                self.xen.console(f"{self.name}: memory squeeze, no pages to flip", limited=True)
                break
            data, grefs = answer(word, length, requests[at:end])
            self.fill(self.addr + (len(refs) << PAGE_SHIFT), pieces)
            owners += [len(answers)] * len(grefs)
            answers.append(data)
            refs += grefs
            at = end
            size += length
        self.failed = self.give(refs, owners) if refs else None
        return b"".join(answers), at // RX_SLOT_SIZE, len(answers), size

    def dry(self) -> bool:
        """See `Deliver`."""
        return self.starved

    def has(self, count: int) -> bool:
        """Whether that many pages can be given away, with a frame to replace each."""
        if len(self.spare) < count:
            self.spare += self.xen.increase_reservation(BATCH)
        return len(self.spare) >= count

    def fill(self, addr: int, pieces: tuple[Piece, ...]) -> None:
        """Copy a frame's bytes into own pages."""
        window = self.xen.window
        for start, length, _, _ in pieces:
            window[addr : addr + length] = window[start : start + length]
            addr += length

    def give(self, refs: list[int], owners: list[int]) -> dict[int, int] | None:
        """The filled pages go to the guest. What failed, by reference: all of a frame of which one page did."""
        count = len(refs)
        addrs = list(range(self.addr, self.addr + (count << PAGE_SHIFT), PAGE_SIZE))
        spare, self.spare = self.spare[:count], self.spare[count:]
        statuses = self.xen.transfer(addrs, spare, self.domid, refs)
        if not any(statuses):
            return None
        self.spare += [frame for frame, status in zip(spare, statuses, strict=True) if status == GNTST_bad_page]
        bad = {owner for owner, status in zip(owners, statuses, strict=True) if status}
        return {ref: XEN_NETIF_RSP_ERROR for ref, owner in zip(refs, owners, strict=True) if owner in bad}

    def close(self) -> None:
        """See `Deliver`."""
        if not self.closed:
            self.closed = True
            self.xen.release_frames(self.spare)
            self.xen.free_pages(self.addr, RING_SLOTS)
