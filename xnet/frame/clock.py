"""Clock: time for floors that have none of their own. The engine's is the event loop's, a test's is moved by hand
(`xnet.testing.clock`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that is to happen."""

    def cancel(self) -> None:
        """It is not."""


class Clock(Protocol):
    """Time, in seconds from no particular beginning."""

    def now(self) -> float: ...

    def call_at(self, when: float, then: Callable[[], None]) -> Timer:
        """Call `then` at that time, or a little later."""
