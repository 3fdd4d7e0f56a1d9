"""A frame in the frontend's run of tx pages: what its slots say, and what they are answered.

Page i of the run has request id i and grant reference ``refs + i``, so all of it is a function of the frame's first
page, offload word and length, and never changes.
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

GRANT_SIZE: Final = 8
"""Bytes of a grant entry."""
PADDING: Final = bytes(TX_SLOT_SIZE - TX_RESPONSE.size)
EXTRA_PADDING: Final = bytes(TX_SLOT_SIZE - EXTRA_GSO.size)


class Posted:
    """One frame. `grants`: the entries of the whole run."""

    __slots__ = ("answers", "end", "grants", "length", "page", "requests", "slots", "word")

    def __init__(self, page: int, word: int, length: int, *, refs: int, grants: bytes) -> None:  # 15 us for 17 slots
        end = page + (length + PAGE_SIZE - 1 >> PAGE_SHIFT)
        gso = word & GSO_TYPE_MASK
        self.page = page
        self.end = end
        """The page after its last."""
        self.word = word
        self.length = length
        self.slots = end - page + (1 if gso else 0)
        self.grants = grants[page * GRANT_SIZE : end * GRANT_SIZE]
        """The entries of its pages."""
        flags, size = word & 3, length  # csum_blank and data_validated stand where the offload word has them
        requests: list[bytes] = []
        answers: list[bytes] = []
        for i in range(page, end):
            flags |= NETTXF_more_data if i < end - 1 else 0
            extra = gso if i == page else 0
            requests.append(TX_REQUEST.pack(refs + i, 0, flags | NETTXF_extra_info if extra else flags, i, size))
            answers.append(TX_RESPONSE.pack(i, XEN_NETIF_RSP_OKAY) + PADDING)
            if extra:
                kind, mss = extra >> GSO_TYPE_SHIFT, word >> GSO_SIZE_SHIFT
                requests.append(EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, mss, kind, 0, 0) + EXTRA_PADDING)
                answers.append(TX_RESPONSE.pack(0, XEN_NETIF_RSP_NULL) + PADDING)
            flags = 0
            size = min(length - (i + 1 - page) * PAGE_SIZE, PAGE_SIZE)
        self.requests = b"".join(requests)
        self.answers = b"".join(answers)
        """The response slots of a backend that answers in order, and pads with zeros."""
