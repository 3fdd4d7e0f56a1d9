"""Patience: how long frames wait for a guest that posts too few buffers, and when it is taken for stalled.

A frame that has waited `drain_s` is dropped. A guest that has had too few buffers for `stall_s`, and got no frame all
the while, is stalled: its backend's link has no carrier until it posts enough for the first frame that waits. So it
begins, too: no carrier before the first buffers. One that does not say when it posts buffers (feature-rx-notify) is
looked at all the time instead, its frames do not wait long, and it is never taken for stalled.

Source: Linux's xen-netback (rx_drain_timeout_msecs, rx_stall_timeout_msecs, xenvif_rx_queue_stalled).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xnet.frame.clock import Clock, Timer

DRAIN_S: Final = 10.0
STALL_S: Final = 60.0
UNNOTIFIED_S: Final = 0.03
"""Instead of `drain_s`, for a guest that does not notify."""


class Patience:
    """One queue's. `drained` and `checked` are called when the time is over that `starve` began."""

    def __init__(self, clock: Clock, drain_s: float = DRAIN_S, stall_s: float = STALL_S, notified: bool = True) -> None:
        """`stall_s` 0: nobody is ever stalled."""
        self.clock = clock
        self.drain_s = drain_s if notified else min(drain_s, UNNOTIFIED_S)
        self.stall_s = stall_s if notified else 0.0
        self.stalled = self.stall_s > 0
        self.overdue = False
        """There have been no buffers for so long that frames are taken all the same, to be dropped by name."""
        self.fed = self.served = 0
        """Frames the guest had got when `drain` and `stall` began."""
        self.drain: Timer | None = None
        self.stall: Timer | None = None
        self.drained: Callable[[], None] = lambda: None
        self.checked: Callable[[], None] = lambda: None

    def expiry(self) -> float:
        """When a frame that begins to wait now has waited too long."""
        return self.clock.now() + self.drain_s

    def starve(self, served: int) -> None:
        """There are too few buffers, and `served` frames the guest has got so far: from now on time counts."""
        if self.drain is None:
            self.fed = served
            self.drain_at(self.expiry())
        if self.stall is None and self.stall_s and not self.stalled:
            self.served = served
            self.stall = self.clock.call_at(self.clock.now() + self.stall_s, self.check)

    def drain_at(self, when: float) -> None:
        """Look again then."""
        self.drain = self.clock.call_at(when, self.empty)

    def empty(self) -> None:
        """The first frame has waited long enough."""
        self.drain = None
        self.drained()

    def check(self) -> None:
        """The guest may be stalled."""
        self.stall = None
        self.checked()

    def close(self) -> None:
        """Time does not count any more."""
        for timer in (self.drain, self.stall):
            if timer is not None:
                timer.cancel()
        self.drain = self.stall = None
