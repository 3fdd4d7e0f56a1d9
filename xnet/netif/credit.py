"""Credit: how much a guest may send, `rate_bytes` in every `rate_usec` (netback's credit scheduler).

A packet is charged with its whole length when it is taken off the ring. One that costs more than what is left stays
there, untouched, until a timer has brought the next window's credit; unused credit is kept, up to a burst of 128 KiB,
or of a window where that is more. Away from the guest only, and for each queue by itself, as in Linux' netback
(tx_credit_exceeded, tx_add_credit).

The key ``rate`` of the backend's directory is "bytes,usec"; libxl writes it from xl's ``rate=10Mb/s@50ms``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xnet.abi.xen.netif import TX_SLOT_SIZE
from xnet.frame.clock import Clock, Timer
from xnet.netif.gather import next_packet

BURST: Final = 131072
USEC: Final = 1_000_000


def parse_rate(text: str | None) -> tuple[int, int] | None:
    """(bytes, usec) of a ``rate`` key; None, which is no limit, for a missing one or one that says nothing."""
    words = (text or "").split(",")
    if len(words) != 2 or not all(word.isascii() and word.isdecimal() and len(word) <= 20 for word in words):
        return None
    count, usec = map(int, words)
    return (count, usec) if count and usec else None


class Credit:
    """One queue's. `wake` is called when there is credit again for who had too little."""

    def __init__(self, rate: tuple[int, int], clock: Clock, wake: Callable[[], None]) -> None:
        self.bytes, self.usec = rate
        self.clock = clock
        self.wake = wake
        self.remaining = self.bytes
        self.window = clock.now()
        """When the present window began."""
        self.timer: Timer | None = None
        self.looked: list[tuple[int, int]] = []
        """Slots and length of each packet that was found affordable."""

    def afford(self, data: bytes, most: int) -> bytes:
        """Of the slots on the ring those of the first packets, `most` at most, that there is credit for. Where there is
        none, the timer is set. BadRing as in `gather`."""
        self.looked.clear()
        if self.timer is not None:
            return b""
        now = self.clock.now()
        if now >= self.window + self.usec / USEC:
            self.window = now
            self.add()
        left, at = self.remaining, 0
        while at * TX_SLOT_SIZE < len(data) and len(self.looked) < most:
            packet = next_packet(data, at)
            if packet.length > left:
                if not self.looked:
                    self.window += self.usec / USEC
                    self.timer = self.clock.call_at(self.window, self.due)
                break
            slots = len(packet.slots) // TX_SLOT_SIZE
            self.looked.append((slots, packet.length))
            left -= packet.length
            at += slots
        return data[: at * TX_SLOT_SIZE]

    def charge(self, slots: int) -> None:
        """So many of these slots were taken off the ring."""
        for count, length in self.looked:
            if slots <= 0:
                break
            slots -= count
            self.remaining -= length

    def add(self) -> None:
        """A window's worth."""
        self.remaining = min(self.remaining + self.bytes, max(BURST, self.bytes))

    def due(self) -> None:
        """The next window has come."""
        self.timer = None
        self.add()
        self.wake()

    def close(self) -> None:
        """The timer goes."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
