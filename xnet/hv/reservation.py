"""Reservation: which frames a domain owns, as it gives some up and gets others (public/memory.h, XENMEM_*).

A domain has a frame under each page it was made with, to begin with. It may give frames up (`decrease`: the page stays,
with nothing under it), ask for frames (`increase`: loose ones, which are under no page yet), put a loose one under a
page of its own (`place`), and get one from another domain, which is loose at first too (`GrantOps.transfer`). Only dom0
may have more frames than it was made with: Xen's max_pages.
"""

from __future__ import annotations

from xnet.errors import HostError, HypercallError
from xnet.hv.heap import Heap
from xnet.mem import NO_FRAME, Physmap
from xnet.mem.machine import runs_of


class Reservation:
    """One domain's frames. Pages are numbers of its window (pfn), frames of the machine (mfn)."""

    def __init__(self, domid: int, pages: int, physmap: Physmap, heap: Heap) -> None:
        self.domid = domid
        self.pages = pages
        """Pages it was made with."""
        self.total = pages
        """Frames it owns (Xen's tot_pages)."""
        self.limited = domid != 0
        self.loose: set[int] = set()
        """Frames it owns that are under none of its pages."""
        self.increased = self.decreased = self.given = self.received = 0
        """Frames that came from the heap and went back, that went to other domains and came from them."""
        self._physmap = physmap
        self._heap = heap

    @property
    def full(self) -> bool:
        """It may own no more."""
        return self.limited and self.total >= self.pages

    def increase(self, count: int) -> list[int]:
        """Up to `count` loose frames: as many as the heap has and the domain may own."""
        if self.limited:
            count = min(count, self.pages - self.total)
        try:
            frames = self._heap.take(self.domid, max(count, 0))
        except HypercallError:
            return []  # the host has no memory for them
        self.loose.update(frames)
        self.total += len(frames)
        self.increased += len(frames)
        return frames

    def decrease(self, pfn: int, count: int) -> int:
        """Give up the frames under own pages, but for those that others have mapped: how many that were. The pages show
        nothing from now on."""
        book, mapped = self._physmap.mfn, self._heap.machine.mapped
        pages = [page for page in range(pfn, pfn + count) if book[page] != NO_FRAME and not mapped(book[page])]
        frames = [book[page] for page in pages]
        for first, n in runs_of(pages):
            self._physmap.clear(first, n)
        self._gone(frames)
        return len(frames)

    def give_up(self, frames: list[int]) -> None:
        """Give up loose frames. HypercallError EINVAL, and nothing done, when one of them is not."""
        self._claim(frames)
        self._gone(frames)

    def place(self, pfn: int, frames: list[int]) -> None:
        """Put loose frames under own pages from `pfn` on, replacing what is there: that is loose then.

        HypercallError EINVAL for a frame that is not loose, ENOMEM when the host gives no mapping; some pages may have
        their frames then, the others are as they were.
        """
        self._claim(frames)
        try:
            for first, n in runs_of(frames):
                before = self._physmap.mfn[pfn : pfn + n]
                self._physmap.place(pfn, first, n)
                self.loose.difference_update(range(first, first + n))
                self.loose.update([mfn for mfn in before if mfn != NO_FRAME])
                pfn += n
        except HostError as error:
            raise HypercallError("ENOMEM", f"d{self.domid}: {error}") from error

    def fill(self, pfn: int, count: int) -> bool:
        """Frames from the heap under those of the pages that have none; False when there are not enough."""
        empty = [page for page in range(pfn, pfn + count) if self._physmap.mfn[page] == NO_FRAME]
        frames = self.increase(len(empty))
        try:
            if len(frames) < len(empty):
                return False
            for page, mfn in zip(empty, frames, strict=True):
                self.place(page, [mfn])
        except HypercallError:
            return False
        finally:
            self.give_up([mfn for mfn in frames if mfn in self.loose])
        return True

    def send(self, frame: int) -> None:
        """A loose frame leaves for another domain, or for nobody."""
        self.loose.remove(frame)
        self.total -= 1
        self.given += 1

    def receive(self, frame: int) -> None:
        """A frame came from another domain."""
        self.loose.add(frame)
        self.total += 1
        self.received += 1

    def _claim(self, frames: list[int]) -> None:
        if not self.loose.issuperset(frames) or len(set(frames)) != len(frames):
            raise HypercallError("EINVAL", f"d{self.domid}: frames that it does not own, or that are in use")

    def _gone(self, frames: list[int]) -> None:
        self.loose.difference_update(frames)
        self.total -= len(frames)
        self.decreased += len(frames)
        self._heap.give(frames)
