"""The front's end: produces requests, consumes responses. Source: public/io/ring.h, the FRONT half."""

from __future__ import annotations

from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring.shared import Barrier, RingError, SharedRing


class FrontRing:
    """Front end over `page`. A new ring wants `shared.init()`; `attach` starts at an index (FRONT_RING_ATTACH)."""

    __slots__ = ("barrier", "indices", "nr_ents", "req_prod", "req_prod_pvt", "rsp_cons", "shared")

    def __init__(self, page: memoryview, slot_size: int, *, attach: int = 0, barrier: Barrier = None) -> None:
        self.shared = SharedRing(page, slot_size)
        self.barrier = barrier
        self.indices = self.shared.indices
        self.nr_ents = self.shared.nr_ents
        self.req_prod_pvt = self.rsp_cons = attach & MASK32
        self.req_prod = self.req_prod_pvt
        """What we published last: the word in the page is ours, but not only we can write it."""

    def free_requests(self) -> int:
        """Request slots that may be filled now (RING_FREE_REQUESTS); 0: full."""
        return self.nr_ents - ((self.req_prod_pvt - self.rsp_cons) & MASK32)

    def add_requests(self, data: bytes) -> None:  # hot: 0.5 us
        """Fill slots with ready requests, not yet published. The caller looked at `free_requests`."""
        shared = self.shared
        shared.write(self.req_prod_pvt, data)
        self.req_prod_pvt = (self.req_prod_pvt + len(data) // shared.slot_size) & MASK32

    def unpushed(self) -> bool:
        """Whether anything was added that is not published."""
        return self.req_prod_pvt != self.req_prod

    def push_requests(self) -> bool:  # hot: 0.4 us
        """Publish what was added; True if the back asked to be woken (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY)."""
        indices = self.indices
        old, new = self.req_prod, self.req_prod_pvt
        indices[REQ_PROD] = self.req_prod = new
        if self.barrier is not None:
            self.barrier()  # requests visible before we look at what the back waits for
        return (new - indices[REQ_EVENT]) & MASK32 < (new - old) & MASK32

    def unconsumed_responses(self) -> int:  # hot
        """Responses published and not yet taken. RingError when the back claims more than were asked for."""
        count = (self.indices[RSP_PROD] - self.rsp_cons) & MASK32
        if count > (self.req_prod_pvt - self.rsp_cons) & MASK32:
            raise RingError("response producer past the requests", count)
        return count

    def take_responses(self, count: int) -> bytes:  # hot
        """Private copies of the next `count` response slots; they are consumed."""
        data = self.shared.read(self.rsp_cons, count)
        self.rsp_cons = (self.rsp_cons + count) & MASK32
        return data

    def final_check_responses(self) -> int:
        """Before sleeping, all that was there taken: ask to be woken, then look once more. 0: nothing to do.

        RING_FINAL_CHECK_FOR_RESPONSES but for its first look.
        """
        self.indices[RSP_EVENT] = (self.rsp_cons + 1) & MASK32
        if self.barrier is not None:
            self.barrier()  # the wish is visible before the last look, or a wake-up is lost
        return self.unconsumed_responses()
