"""From whole frames to rx slots: what `gather` is to tx, on the way into the guest.

A frame takes a slot for each page it fills, from offset 0 on, and a GSO frame one more, the second, for its extra:
that slot's buffer goes back unused. Each request's id is echoed in its own slot. Source: Linux 6.12, xen-netback/rx.c.
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RING_SLOTS,
    RX_REQUEST,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xnet.frame import GSO_SIZE_SHIFT, GSO_TYPE_MASK, GSO_TYPE_SHIFT
from xnet.hv.api import COPY_RUN
from xnet.netif.known import remember

FLAGS: Final = (
    0,
    NETRXF_csum_blank | NETRXF_data_validated,
    NETRXF_data_validated,
    NETRXF_csum_blank | NETRXF_data_validated,
)
"""netif rx flags by the two low bits of the offload word; a blank checksum is always also validated data."""


class Place:
    """Where a frame goes and what its slots say then. It never changes."""

    __slots__ = ("answers", "grefs", "later", "length", "requests", "runs", "word")

    def __init__(self, word: int, length: int, requests: bytes, answers: bytes, grefs: list[int]) -> None:
        self.word = word
        self.length = length
        self.requests = requests
        self.answers = answers
        self.grefs = grefs
        """The pages it fills, in order."""
        self.runs = runs_of(grefs, length)
        """(first page of the frame, reference, bytes, copy flags) of each run of references."""
        self.later = runs_of(grefs[1:], length - PAGE_SIZE)
        """The same of the pages after the first, the second being page 0."""


class Scatter:
    """Places for the frames of one ring."""

    __slots__ = ("known", "last")

    def __init__(self) -> None:
        self.last: list[Place | None] = [None] * RING_SLOTS
        """The place of the frame before, by its first request's low byte: most often the next one there is the same."""
        self.known: dict[tuple[int, int, bytes], Place] = {}
        """Places by offload word, length and requests."""

    def place(self, word: int, length: int, requests: bytes) -> Place:  # hot: 0.3 us for one seen before
        """Of a frame into as many requests as it needs (`slots_of`)."""
        first = requests[0]
        place = self.last[first]
        if place is None or place.length != length or place.word != word or place.requests != requests:
            place = self.known.get((word, length, requests))
            if place is None:
                place = remember(self.known, (word, length, requests), place_of(word, length, requests))
            self.last[first] = place
        return place


def slots_of(word: int, length: int) -> int:
    """Slots that a frame takes."""
    return (length + PAGE_SIZE - 1 >> PAGE_SHIFT) + (word & GSO_TYPE_MASK > 0)


def place_of(word: int, length: int, requests: bytes) -> Place:  # 10 us for 17 slots
    """`Scatter.place` for what has not been seen."""
    out = bytearray(len(requests))
    grefs = []
    left, gso, mss = length, word & GSO_TYPE_MASK, word >> GSO_SIZE_SHIFT
    for at in range(0, len(requests), RX_SLOT_SIZE):
        ident, _, gref = RX_REQUEST.unpack_from(requests, at)
        if at == RX_SLOT_SIZE and gso:
            EXTRA_GSO.pack_into(out, at, XEN_NETIF_EXTRA_TYPE_GSO, 0, mss, gso >> GSO_TYPE_SHIFT, 0, 0)
            continue
        size = min(left, PAGE_SIZE)
        left -= size
        flags = NETRXF_more_data if left else 0
        if not at:
            flags |= FLAGS[word & 3] | (NETRXF_extra_info if gso else 0)
        RX_RESPONSE.pack_into(out, at, ident, 0, flags, size)
        grefs.append(gref)
    return Place(word, length, requests, bytes(out), grefs)


def runs_of(grefs: list[int], length: int) -> list[tuple[int, int, int, int]]:
    """Consecutive references as one, of as many bytes as they take."""
    runs = []
    start = 0
    for end in range(1, len(grefs) + 1):
        if end == len(grefs) or grefs[end] != grefs[end - 1] + 1:
            size = min(length, end << PAGE_SHIFT) - (start << PAGE_SHIFT)
            flags = GNTCOPY_dest_gref | COPY_RUN if size > PAGE_SIZE else GNTCOPY_dest_gref
            runs.append((start, grefs[start], size, flags))
            start = end
    return runs
