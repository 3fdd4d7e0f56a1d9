"""Pages granted for as long as a queue lives, cut in blocks that frames, or their headers, are copied into."""

from __future__ import annotations

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.errors import HypercallError
from xnet.frame import ETH_HLEN
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, headers_length, network, transport
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


def headers_of(view: memoryview) -> int:
    """Bytes of a frame that are headers, as far as it is looked at."""
    length = len(view)
    place = transport(view, length)
    if place is not None:
        return min(headers_length(view, place), length)
    found = network(view, length)
    if found is not None and found[1] in (ETH_P_IP, ETH_P_IPV6):
        return min(found[0] + (20 if found[1] == ETH_P_IP else 40), length)
    return min(ETH_HLEN, length)
