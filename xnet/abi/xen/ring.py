"""The shared ring's page. Source: public/io/ring.h, DEFINE_RING_TYPES.

======  ====  ==========  ===========  ====================================================
offset  size  name        written by   meaning
======  ====  ==========  ===========  ====================================================
0       4     req_prod    front        index one past the last published request
4       4     req_event   back         wake me when req_prod reaches this
8       4     rsp_prod    back         index one past the last published response
12      4     rsp_event   front        wake me when rsp_prod reaches this
16      48    private     --           zero
64      n     ring[]      both         slots: the larger of request and response
======  ====  ==========  ===========  ====================================================

All four indices are free-running 32-bit counters; the slot of an index is ``index & (nr_ents - 1)``.
"""

from typing import Final

from xnet.abi.xen import PAGE_SIZE

REQ_PROD: Final = 0
REQ_EVENT: Final = 1
RSP_PROD: Final = 2
RSP_EVENT: Final = 3
"""Positions of the indices in the page seen as native u32 words."""

HEADER_SIZE: Final = 64
MASK32: Final = 0xFFFFFFFF


def nr_ents(slot_size: int, page_size: int = PAGE_SIZE) -> int:
    """Slots in one page: what fits after the header, rounded down to a power of two (ring.h, __RING_SIZE)."""
    return 1 << (((page_size - HEADER_SIZE) // slot_size).bit_length() - 1)
