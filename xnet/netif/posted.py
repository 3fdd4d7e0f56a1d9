"""A frame in the frontend's run of tx pages: what its slots say, and what they are answered.

Page i of the run has request id i and grant reference ``refs + i``, so all of it is a function of the frame's first
page, offload word and length.
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    TX_REQUEST,
    TX_RESPONSE,
    TX_SLOT_SIZE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_RSP_NULL,
    XEN_NETIF_RSP_OKAY,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xnet.frame import GSO_SIZE_SHIFT, GSO_TYPE_MASK, GSO_TYPE_SHIFT

Posted = tuple[int, int, int]
"""(first page, offload word, length)"""
PADDING: Final = bytes(TX_SLOT_SIZE - TX_RESPONSE.size)
EXTRA_PADDING: Final = bytes(TX_SLOT_SIZE - EXTRA_GSO.size)
NULL: Final = TX_RESPONSE.pack(0, XEN_NETIF_RSP_NULL) + PADDING


def filled(length: int) -> int:
    """Pages that a frame fills."""
    return length + PAGE_SIZE - 1 >> PAGE_SHIFT


def slots_of(word: int, length: int) -> int:
    """Slots that a frame takes, on either ring."""
    return filled(length) + (word & GSO_TYPE_MASK > 0)


def pages_of(posted: Posted) -> range:
    """Those of the run that it lies in."""
    page, _, length = posted
    return range(page, page + filled(length))


def requests_of(posted: Posted, refs: int) -> list[bytes]:
    """The request slots of one frame."""
    page, word, length = posted
    pages, gso = pages_of(posted), word & GSO_TYPE_MASK
    slots: list[bytes] = []
    flags, size = word & 3, length  # csum_blank and data_validated stand where the offload word has them
    for i in pages:
        flags |= NETTXF_more_data if i < pages[-1] else 0
        extra = gso if i == page else 0
        slots.append(TX_REQUEST.pack(refs + i, 0, flags | NETTXF_extra_info if extra else flags, i, size))
        if extra:
            kind, mss = extra >> GSO_TYPE_SHIFT, word >> GSO_SIZE_SHIFT
            slots.append(EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, mss, kind, 0, 0) + EXTRA_PADDING)
        flags = 0
        size = min(length - (i + 1 - page) * PAGE_SIZE, PAGE_SIZE)
    return slots


def answers_of(posted: Posted) -> bytes:
    """The response slots of a backend that answers in order, and pads with zeros."""
    slots = [TX_RESPONSE.pack(i, XEN_NETIF_RSP_OKAY) + PADDING for i in pages_of(posted)]
    slots[1:1] = [NULL] if posted[1] & GSO_TYPE_MASK else []
    return b"".join(slots)
