"""Physmap: one domain's pseudo-physical memory, pfn -> mfn, the same in the book and in its window."""

from __future__ import annotations

from array import array
from typing import Final

from xnet.mem.machine import Window

NO_FRAME: Final = 0xFFFF_FFFF
"""Entry of a pfn that has nothing under it."""


class Physmap:
    """Page numbers of a window and the machine frames under them. Every change is a real remap of the window."""

    __slots__ = ("mfn", "window")

    def __init__(self, window: Window, npages: int) -> None:
        self.window = window
        self.mfn = array("I", [NO_FRAME]) * npages
        """Indexed by pfn. Read it freely; change it through the methods."""

    def place(self, pfn: int, mfn: int, n: int = 1, *, readonly: bool = False) -> None:
        """Put n frames from mfn on under the pages from pfn on. Raises HostError and changes nothing."""
        self.window.map(pfn, mfn, n, readonly)
        self.mfn[pfn : pfn + n] = array("I", range(mfn, mfn + n))

    def clear(self, pfn: int, n: int = 1) -> None:
        """Leave nothing under n pages from pfn on."""
        self.window.unmap(pfn, n)
        self.mfn[pfn : pfn + n] = array("I", [NO_FRAME]) * n

    def replace(self, pfn: int, mfn: int) -> int:
        """Swap the frame under one page; the frame that was there. Raises HostError and changes nothing."""
        old = self.mfn[pfn]
        self.window.map(pfn, mfn, 1, False)
        self.mfn[pfn] = mfn
        return old
