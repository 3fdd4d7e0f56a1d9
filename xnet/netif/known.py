"""What slots say is a function of their bytes, and drivers write the same bytes again and again: page i of a frontend
has its own id and reference, and most frames of a bulk transfer are as long as the one before.

So each end of a queue remembers what it read or wrote, by the very bytes (`gather`, `scatter`, `assemble`, the
frontend's own requests): a frame of 17 slots costs one look into a dict instead of 17 times five integers. Nothing that
may change is remembered: neither what a grant says at the moment nor what is an error.
"""

from __future__ import annotations

from typing import Final, TypeVar

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
