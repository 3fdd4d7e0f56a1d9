"""Turn: when the run queue runs.

A file descriptor's callback holds the turn, lets frames and events pile up, and runs the queue at its end: everything a
frame causes inside the machine happens in one pass of the event loop. Only news that appears outside of any turn (a
xenstore client, a timer) asks the loop for one, by `kick`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xnet.engine.pump import Pump

BUDGET: Final = 256
"""Events delivered between two looks at the clock."""
ROUNDS: Final = 64
"""Rounds of them before the event loop has its turn."""

BUSY_S: Final = 0.0001
"""So shortly after a burst the machine is busy: whoever has frames now is one of many, and has his turn more rarely."""


class Turn:
    """Call it to run the queue until it is empty, or long enough. `held`: somebody will."""

    __slots__ = ("asked", "busy_s", "gro", "held", "left_at", "loop", "scheduled", "step")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, gro: bool = True) -> None:
        """`gro`: what one turn has for a TAP may be joined there (`frame.gro`)."""
        self.loop = loop
        self.gro = gro
        self.held = False
        self.asked: Pump | None = None
        """Whose lone frame was the last thing that came in."""
        self.left_at = 0.0
        """When the last burst was over, whosever it was."""
        self.busy_s = BUSY_S
        self.scheduled = False
        self.step: Callable[[int], int] = lambda budget: 0
        """`RunQueue.step`: less than the budget when nobody waits any more."""

    def __call__(self) -> None:  # hot
        """Deliver what waits."""
        self.held = True
        step = self.step
        for _ in range(ROUNDS):
            if step(BUDGET) < BUDGET:  # nobody waits
                self.held = False
                return
        self.held = False
        self.kick()

    def kick(self) -> None:
        """Work appeared: unless somebody holds the turn, take one soon."""
        if not self.held and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.soon)

    def soon(self) -> None:
        """The loop gave us one."""
        self.scheduled = False
        self()


class LoopClock:
    """The event loop's time, for drivers (`netif.credit.Clock`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time
        self.call_at = loop.call_at
