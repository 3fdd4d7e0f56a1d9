"""Pages granted for as long as a queue lives, cut in blocks that frames, or their headers, are copied into."""

from __future__ import annotations

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.errors import HypercallError
from xnet.hv.api import Xen


class Blocks:
    """Block b of `size` bytes is at ``addr + b * size``; none crosses a page."""

    def __init__(self, xen: Xen, backend: int, pages: int, size: int) -> None:
        self.xen = xen
        self.size = size
        self.per_page = PAGE_SIZE // size
        self.addr = xen.alloc_pages(pages)
        try:
            self.refs = xen.alloc_grefs(pages)
        except HypercallError:
            xen.free_pages(self.addr, pages)
            raise
        self.entries = xen.prepare_grants(backend, self.addr, pages, readonly=True)
        xen.grant(self.refs, self.entries)
        self.pages = list(range(pages))
        """Those of which no block is taken."""
        self.loose: list[int] = []
        """Free blocks of the other pages."""
        self.taken = [0] * pages

    def take(self, length: int) -> int:
        """A block for so many bytes, or a page's first block for more than fit one, the whole page taken."""
        if length <= self.size and self.loose:
            block = self.loose.pop()
            self.taken[block // self.per_page] += 1
            return block
        page = self.pages.pop()
        block = page * self.per_page
        if length <= self.size:
            self.taken[page] = 1
            self.loose += range(block + 1, block + self.per_page)
        else:
            self.taken[page] = self.per_page
        return block

    def give_back(self, block: int, length: int) -> None:
        """It is free again."""
        page = block // self.per_page
        self.taken[page] -= 1 if length <= self.size else self.per_page
        if length <= self.size:
            self.loose.append(block)
        if not self.taken[page]:
            first = page * self.per_page
            self.loose = [other for other in self.loose if not first <= other < first + self.per_page]
            self.pages.append(page)

    def place(self, block: int) -> tuple[int, int, int]:
        """Where a block is: its address, its page's reference, and its offset there."""
        at = block * self.size
        return self.addr + at, self.refs + at // PAGE_SIZE, at % PAGE_SIZE

    def grants(self) -> list[tuple[int, int, bytes]]:
        """What was granted: (address, reference, entry) of each page."""
        size = GRANT_ENTRY_V1.size
        return [
            (self.addr + page * PAGE_SIZE, self.refs + page, self.entries[page * size : (page + 1) * size])
            for page in range(len(self.taken))
        ]
