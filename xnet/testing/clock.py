"""Time in a test: it stands still unless somebody lets it pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class HandClock:
    """Time that passes when `World.pass_time` says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[HandTimer] = []

    def now(self) -> float:
        """Seconds since the world began."""
        return self.time

    def call_at(self, when: float, then: Callable[[], None]) -> HandTimer:
        """Call `then` when it is that late."""
        timer = HandTimer(self, when, then)
        self.timers.append(timer)
        return timer

    def run_until(self, time: float) -> None:
        """Let it be that late: what is due happens, in order."""
        while due := [timer for timer in self.timers if timer.when <= time]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.time = max(self.time, first.when)
            first.then()
        self.time = max(self.time, time)


@dataclass(eq=False)
class HandTimer:
    """Something that is to happen in a world."""

    clock: HandClock
    when: float
    then: Callable[[], None]

    def cancel(self) -> None:
        """It is not."""
        if self in self.clock.timers:
            self.clock.timers.remove(self)
