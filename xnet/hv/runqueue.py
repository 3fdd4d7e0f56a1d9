"""RunQueue: the domains with events to look at, each waiting for its turn. It is what a scheduler is to a real Xen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Vcpu:
    """A domain as the run queue sees it: its one virtual CPU."""

    __slots__ = ("queued", "upcall")

    def __init__(self, upcall: Callable[[], int]) -> None:
        self.upcall = upcall
        """Take the pending events, call their handlers: how many. Never raises."""
        self.queued = False
        """Set while it is on the queue; only the queue changes it."""


class RunQueue:
    """Round robin, one upcall a turn. A domain that is sent to during a step comes at the end, never inside the sender.

    `kick` asks for a `step` soon: when work appears while nobody is in `step`, and when `step` leaves some.
    """

    __slots__ = ("_kick", "_queue", "_stepping")

    def __init__(self, kick: Callable[[], None]) -> None:
        self._kick = kick
        self._queue: deque[Vcpu] = deque()
        self._stepping = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, vcpu: Vcpu) -> None:  # hot: <= 0.2 us
        """Give a domain a turn, if it does not wait for one already."""
        if vcpu.queued:
            return
        vcpu.queued = True
        self._queue.append(vcpu)
        if not self._stepping and len(self._queue) == 1:
            self._kick()

    def step(self, budget: int) -> int:  # hot: <= 0.4 us + the upcalls
        """Give turns until about `budget` events were handled or nobody waits: turns and events done.

        Called from within a handler it does nothing and returns 0: nobody's handler runs inside another's.
        """
        if self._stepping:
            return 0
        self._stepping = True
        done = 0
        queue = self._queue
        try:
            while queue and done < budget:
                vcpu = queue.popleft()
                vcpu.queued = False  # before the upcall: an event that comes during it needs a new turn
                done += vcpu.upcall() or 1
        finally:
            self._stepping = False
        if queue:
            self._kick()
        return done
