"""The back's end: consumes requests, produces responses. Source: public/io/ring.h, the BACK half."""

from __future__ import annotations

from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring.shared import Barrier, RingError, SharedRing


class BackRing:
    """Back end over `page`. `attach` starts at an index (BACK_RING_ATTACH), a restarted backend's at rsp_prod."""

    __slots__ = ("barrier", "indices", "nr_ents", "req_cons", "rsp_prod", "rsp_prod_pvt", "shared")

    def __init__(self, page: memoryview, slot_size: int, *, attach: int = 0, barrier: Barrier = None) -> None:
        self.shared = SharedRing(page, slot_size)
        self.barrier = barrier
        self.indices = self.shared.indices
        self.nr_ents = self.shared.nr_ents
        self.rsp_prod_pvt = self.req_cons = attach & MASK32
        self.rsp_prod = self.rsp_prod_pvt
        """What we published last: the word in the page is ours, but not only we can write it."""

    @classmethod
    def attach_at_rsp_prod(cls, page: memoryview, slot_size: int) -> BackRing:
        """Go on where the responses in the page end, as Linux's netback connects. RingError on an absurd page."""
        indices = page[:16].cast("I")
        start, pending = indices[RSP_PROD], (indices[REQ_PROD] - indices[RSP_PROD]) & MASK32
        indices.release()
        ring = cls(page, slot_size, attach=start)
        if pending > ring.nr_ents:
            ring.shared.release()
            raise RingError("request producer past the ring", pending)
        return ring

    def unconsumed_requests(self) -> int:  # hot
        """Requests published and not yet taken. RingError when there cannot be as many.

        Never more than have room to be answered (ring.h, RING_HAS_UNCONSUMED_REQUESTS).
        """
        req_cons = self.req_cons
        produced = (self.indices[REQ_PROD] - self.rsp_prod_pvt) & MASK32
        taken = (req_cons - self.rsp_prod_pvt) & MASK32
        if produced > self.nr_ents or produced < taken:
            raise RingError("request producer past the ring", produced)
        return produced - taken

    def peek_requests(self, count: int) -> bytes:  # hot
        """Private copies of the next `count` request slots, which stay unconsumed."""
        return self.shared.read(self.req_cons, count)

    def consume(self, count: int) -> None:
        """Take `count` requests; each is owed a response."""
        self.req_cons = (self.req_cons + count) & MASK32

    def add_responses(self, data: bytes) -> None:  # hot
        """Fill slots with ready responses (whole slots, padding zero), not yet published."""
        shared = self.shared
        shared.write(self.rsp_prod_pvt, data)
        self.rsp_prod_pvt = (self.rsp_prod_pvt + len(data) // shared.slot_size) & MASK32

    def push_responses(self) -> bool:  # hot: 0.4 us
        """Publish what was added; True if the front asked to be woken (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY)."""
        indices = self.indices
        old, new = self.rsp_prod, self.rsp_prod_pvt
        indices[RSP_PROD] = self.rsp_prod = new
        if self.barrier is not None:
            self.barrier()  # responses visible before we look at what the front waits for
        return (new - indices[RSP_EVENT]) & MASK32 < (new - old) & MASK32

    def final_check_requests(self) -> int:
        """Before sleeping, all that was there taken: ask to be woken, then look once more. 0: nothing to do.

        RING_FINAL_CHECK_FOR_REQUESTS but for its first look.
        """
        self.want_requests(1)
        return self.unconsumed_requests()

    def want_requests(self, count: int) -> None:
        """Ask to be woken when `count` more requests are there (req_event)."""
        self.indices[REQ_EVENT] = (self.req_cons + count) & MASK32
        if self.barrier is not None:
            self.barrier()  # the wish is visible before the next look, or a wake-up is lost
