"""The front's end: produces requests, consumes responses. Source: public/io/ring.h, the FRONT half.

Here are the rules; what runs is `_ring.c`, where it was compiled.
"""

from __future__ import annotations

from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring.shared import Barrier, RingError, SharedRing


class FrontRing(SharedRing):
    """Front end over `page`. A new ring wants `init()`; `attach` starts at an index (FRONT_RING_ATTACH)."""

    __slots__ = ("req_prod", "req_prod_pvt", "rsp_cons")

    def __init__(self, page: memoryview, slot_size: int, *, attach: int = 0, barrier: Barrier = None) -> None:
        super().__init__(page, slot_size, barrier)
        self.req_prod_pvt = self.rsp_cons = attach & MASK32
        self.req_prod = self.req_prod_pvt
        """What we published last: the word in the page is ours, but not only we can write it."""

    def free_requests(self) -> int:
        """Request slots that may be filled now (RING_FREE_REQUESTS); 0: full."""
        return self.nr_ents - ((self.req_prod_pvt - self.rsp_cons) & MASK32)

    def add_requests(self, data: bytes) -> None:
        """Fill slots with ready requests, not yet published. The caller looked at `free_requests`."""
        self.req_prod_pvt = self.write(self.req_prod_pvt, data)

    def unpushed(self) -> bool:
        """Whether anything was added that is not published."""
        return self.req_prod_pvt != self.req_prod

    def push_requests(self) -> bool:
        """Publish what was added; True if the back asked to be woken (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY)."""
        indices = self.indices
        old, new = self.req_prod, self.req_prod_pvt
        indices[REQ_PROD] = self.req_prod = new
        if self.barrier is not None:
            self.barrier()  # requests visible before we look at what the back waits for
        return (new - indices[REQ_EVENT]) & MASK32 < (new - old) & MASK32

    def unconsumed_responses(self) -> int:
        """Responses published and not yet taken. RingError when the back claims more than were asked for."""
        count = (self.indices[RSP_PROD] - self.rsp_cons) & MASK32
        if count > (self.req_prod_pvt - self.rsp_cons) & MASK32:
            raise RingError("response producer past the requests", count)
        return count

    def final_check_responses(self) -> int:
        """As `unconsumed_responses`, but before sleeping: if there are none, ask to be woken and look once more.

        0: nothing to do. RING_FINAL_CHECK_FOR_RESPONSES.
        """
        count = self.unconsumed_responses()
        if count:
            return count
        self.indices[RSP_EVENT] = (self.rsp_cons + 1) & MASK32
        if self.barrier is not None:
            self.barrier()  # the wish is visible before the last look, or a wake-up is lost
        return self.unconsumed_responses()

    def take_responses(self, count: int) -> bytes:
        """Private copies of the next `count` response slots, which the caller knows are there; they are consumed."""
        data = self.read(self.rsp_cons, count)
        self.rsp_cons = (self.rsp_cons + count) & MASK32
        return data

    def next_responses(self) -> bytes:
        """Take all that `final_check_responses` finds; empty: nothing to do. RingError."""
        return self.take_responses(self.final_check_responses())
