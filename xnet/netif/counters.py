"""Counters: what one end of a vif counted since it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

EACH_BURST: Final = (
    "tx_packets", "tx_bytes", "tx_slots", "tx_notified", "tx_suppressed",
    "rx_packets", "rx_bytes", "rx_slots", "rx_notified", "rx_suppressed",
)  # fmt: skip


class Counters:
    """Attributes for what every burst counts, for they are cheap; `others` by name for what is rare.

    ``*_notified *_suppressed``: events sent after a push, and those the other end did not ask for.
    """

    __slots__ = (*EACH_BURST, "others")

    def __init__(self, *others: str) -> None:
        """`others`: names that are there from the beginning."""
        self.tx_packets = self.tx_bytes = self.tx_slots = self.tx_notified = self.tx_suppressed = 0
        self.rx_packets = self.rx_bytes = self.rx_slots = self.rx_notified = self.rx_suppressed = 0
        self.others = dict.fromkeys(others, 0)

    def count(self, name: str, count: int = 1) -> None:
        """Something rare, by name."""
        self.others[name] = self.others.get(name, 0) + count

    def add(self, other: Counters) -> None:
        """Another's, which is no more."""
        for name in EACH_BURST:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, count in other.others.items():
            self.count(name, count)

    def statistics(self, more: Iterable[Counters] = ()) -> dict[str, int]:
        """All of them, with those of others added."""
        found = {name: getattr(self, name) for name in EACH_BURST} | self.others
        for other in more:
            for name, count in other.statistics().items():
                found[name] = found.get(name, 0) + count
        return found
