"""The frontend's end of a queue whose backend is not trusted (``trusted`` = 0, XSA-403): a granted page shows the frame
that is in it, and nothing of those before. Source: Linux's netfront, which copies each frame into zeroed pages.
"""

from __future__ import annotations

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.netif.front_queue import FrontQueue
from xnet.netif.posted import filled


class BouncedQueue(FrontQueue):
    """A `FrontQueue` whose tx pages are zero behind the frame."""

    def place(self, word: int, length: int) -> None:
        """See `FrontQueue`."""
        end = self.tx_addr + (self.tx_head + filled(length) << PAGE_SHIFT)
        tail = -length % PAGE_SIZE
        self.memory[end - tail : end] = bytes(tail)
        super().place(word, length)
