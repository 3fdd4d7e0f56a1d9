"""Deliver: how frames get into the pages that a guest posted."""

from __future__ import annotations

from abc import ABC, abstractmethod

from xnet.frame import Frames
from xnet.netif.posted import slots_of


class Deliver(ABC):
    """One strategy, for one queue."""

    pages = 0
    """Of the backend's own memory that it holds."""
    takes_lent = True
    """It takes frames that are still in another guest's pages; else who has them fetches them first."""

    def __init__(self) -> None:
        self.spare: list[int] = []
        """Frames of the backend's that are under no page."""
        self.failed: dict[int, int] | None = None
        """Grant references of the last burst that failed, each with what its slot is answered: a negative status."""

    @abstractmethod
    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:
        """Deliver as many of the frames as there are request slots, and pages, for: the response slots, and how many
        slots, frames and bytes those are. What `failed` has is answered otherwise."""

    def slots(self, word: int, length: int, view: memoryview) -> int:
        """Request slots that a frame takes. `view`: its beginning, headers at least."""
        return slots_of(word, length)

    def dry(self) -> bool:
        """Whether it was for want of pages, not of slots, that the last burst stopped."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""
