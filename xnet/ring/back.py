"""The back's end: consumes requests, produces responses. Source: public/io/ring.h, the BACK half.

Here are the rules; what runs is `_ring.c`, where it was compiled.
"""

from __future__ import annotations

from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring.shared import Barrier, RingError, SharedRing


class BackRing(SharedRing):
    """Back end over `page`. `attach` starts at an index (BACK_RING_ATTACH), a restarted backend's at rsp_prod."""

    __slots__ = ("req_cons", "rsp_prod", "rsp_prod_pvt")

    def __init__(self, page: memoryview, slot_size: int, *, attach: int = 0, barrier: Barrier = None) -> None:
        super().__init__(page, slot_size, barrier)
        self.rsp_prod_pvt = self.req_cons = attach & MASK32
        self.rsp_prod = self.rsp_prod_pvt
        """What we published last: the word in the page is ours, but not only we can write it."""

    @classmethod
    def attach_at_rsp_prod(cls, page: memoryview, slot_size: int) -> BackRing:
        """Go on where the responses in the page end, as Linux's netback connects. RingError on an absurd page."""
        ring = cls(page, slot_size)
        ring.rsp_prod = ring.rsp_prod_pvt = ring.req_cons = ring.indices[RSP_PROD]
        try:
            ring.unconsumed_requests()
        except RingError:
            ring.release()
            raise
        return ring

    def unconsumed_requests(self) -> int:
        """Requests published and not yet taken. RingError when there cannot be as many.

        Never more than have room to be answered (ring.h, RING_HAS_UNCONSUMED_REQUESTS).
        """
        produced = (self.indices[REQ_PROD] - self.rsp_prod_pvt) & MASK32
        taken = (self.req_cons - self.rsp_prod_pvt) & MASK32
        if produced > self.nr_ents or produced < taken:
            raise RingError("request producer past the ring", produced)
        return produced - taken

    def final_check_requests(self) -> int:
        """As `unconsumed_requests`, but before sleeping: if there are none, ask to be woken and look once more.

        0: nothing to do. RING_FINAL_CHECK_FOR_REQUESTS.
        """
        count = self.unconsumed_requests()
        if count:
            return count
        self.want_requests(1)
        return self.unconsumed_requests()

    def want_requests(self, count: int) -> None:
        """Ask to be woken when `count` more requests are there (req_event)."""
        self.indices[REQ_EVENT] = (self.req_cons + count) & MASK32
        if self.barrier is not None:
            self.barrier()  # the wish is visible before the next look, or a wake-up is lost

    def peek_requests(self, most: int) -> bytes:
        """Private copies of the next request slots, `most` if there are as many; they stay unconsumed. RingError."""
        return self.read(self.req_cons, min(most, self.unconsumed_requests()))

    def next_requests(self) -> bytes:
        """Copies of all that `final_check_requests` finds, which stay unconsumed; empty: nothing to do. RingError."""
        return self.read(self.req_cons, self.final_check_requests())

    def consume(self, count: int) -> None:
        """Take `count` requests; each is owed a response."""
        self.req_cons = (self.req_cons + count) & MASK32

    def add_responses(self, data: bytes) -> None:
        """Fill slots with ready responses (whole slots, padding zero), not yet published."""
        self.rsp_prod_pvt = self.write(self.rsp_prod_pvt, data)

    def push_responses(self, data: bytes = b"") -> bool:
        """Add these and publish all; True if the front asked to be woken (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY)."""
        self.add_responses(data)
        indices = self.indices
        old, new = self.rsp_prod, self.rsp_prod_pvt
        indices[RSP_PROD] = self.rsp_prod = new
        if self.barrier is not None:
            self.barrier()  # responses visible before we look at what the front waits for
        return (new - indices[RSP_EVENT]) & MASK32 < (new - old) & MASK32
