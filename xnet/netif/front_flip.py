"""The frontend's end of a queue whose backend flips pages: a buffer is a place for a page, not a page.

Posting a buffer gives its frame of memory up to the hypervisor, and puts a transfer grant in the table instead. The
answer comes with another frame, which goes under the same page of the window. A buffer that came back without one (its
backend failed, or an extra stood in its slot) stays empty until it is posted again. Between the two the page shows
nothing: who reads it reads zeros.

When the queue ends, frames that nobody sent are fetched from the heap again when the pages are next used: until then
the domain has less memory than it was made with, as if its balloon had them.

Source: Linux 2.6.18-xen's netfront.c (network_alloc_rx_buffers, netif_release_rx_bufs), OpenSolaris' xnf.c.
"""

from __future__ import annotations

from xnet.abi.xen import PAGE_SHIFT
from xnet.abi.xen.netif import RING_SLOTS
from xnet.frame import Chain, Frame
from xnet.netif.front_queue import GRANT_SIZE, FrontQueue


class FlipQueue(FrontQueue):
    """A `FrontQueue` with flipped rx."""

    def prepare_rx(self, backend: int) -> bytes:
        """See `FrontQueue`."""
        self.empty: set[int] = set()
        """Slots answered without a frame; their pages show nothing."""
        return self.xen.prepare_transfers(backend, RING_SLOTS)

    def lend(self, first: int, count: int) -> None:
        """See `FrontQueue`."""
        self.xen.decrease_reservation(self.rx_addr + (first << PAGE_SHIFT), count)
        self.xen.grant(self.rx_refs + first, self.rx_grants[first * GRANT_SIZE : (first + count) * GRANT_SIZE])

    def take_back(self, first: int, count: int) -> None:
        """See `FrontQueue`."""
        missing = self.xen.end_transfers(self.rx_refs + first, self.rx_addr + (first << PAGE_SHIFT), count)
        self.empty.difference_update(range(first, first + count))
        self.empty.update([first + slot for slot in missing])

    def arrived(self, chain: Chain, slots: int) -> None:
        """Frames go to the device, but for those that lack a page."""
        if self.empty:
            whole = [frame for frame in chain.frames if self.is_whole(frame)]
            if len(whole) < len(chain.frames):
                self.counters.count("rx_errors", len(chain.frames) - len(whole))
                self.counters.count("rx_unfulfilled", len(chain.frames) - len(whole))
                chain = chain.part(whole)
        if chain.frames:
            super().arrived(chain, slots)

    def is_whole(self, frame: Frame) -> bool:
        """Whether all of a frame's pages came."""
        base = self.rx_addr
        return not any(
            page in self.empty
            for addr, length, _, _ in frame[2]
            for page in range(addr - base >> PAGE_SHIFT, (addr - base + length - 1 >> PAGE_SHIFT) + 1)
        )

    def give_back_rx(self) -> None:
        """See `FrontQueue`."""
        self.take_back(0, RING_SLOTS)
        self.xen.free_grefs(self.rx_refs, RING_SLOTS)
        self.xen.free_pages(self.rx_addr, RING_SLOTS)
