"""What slots say is a function of their bytes, and drivers write the same bytes again and again: page i of a frontend
has its own id and reference, and most frames of a bulk transfer are as long as the one before.

So each end of a queue remembers what it read or wrote, by the very bytes (`gather`, `assemble`, the frontend's own
requests): a frame of 17 slots costs one comparison with what began at the same place last, else one
look into a dict, instead of 17 times five integers. Nothing that may change is remembered: neither what a grant says at
the moment nor what is an error.
"""

from __future__ import annotations

from typing import Final, TypeVar

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.netif import NETRXF_extra_info, NETRXF_more_data, NETTXF_extra_info, NETTXF_more_data
from xnet.frame import GSO_TYPE_MASK

assert (NETTXF_more_data, NETTXF_extra_info) == (NETRXF_more_data, NETRXF_extra_info)
MOST: Final = 1024
"""Entries of one dict, about 0.5 MB of 64 KiB frames; past them all are forgotten."""

K = TypeVar("K")
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V) -> V:
    """Keep a value that was worked out."""
    if len(known) >= MOST:
        known.clear()
    known[key] = value
    return value


def slots_of(word: int, length: int) -> int:
    """Rx slots that a frame takes."""
    return (length + PAGE_SIZE - 1 >> PAGE_SHIFT) + (word & GSO_TYPE_MASK > 0)


def guess_end(data: bytes, at: int, size: int, flags_at: int) -> int:  # hot
    """Where in `data`, slots of `size` bytes whose flags are at `flags_at`, that ends which begins at byte `at`, if it
    has one extra at most; 0 when its end is not there. A guess to look it up by: a wrong one is not known."""
    count = len(data)
    flags = data[at + flags_at]
    at += size
    if flags & NETTXF_extra_info:
        at += size
    while flags & NETTXF_more_data:  # a loop over bytes is compiled well, a search is not
        if at >= count:
            return 0
        flags = data[at + flags_at]
        at += size
    return at
