"""What a vnic can have between its client and the switch; a vnic without any pays nothing for it.

::

    client -> Guard.passed -> Stage.take -> switch.tx      away from the guest
    switch -> Guard.learn  -> Stage.take -> client.rx      toward it
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mypy_extensions import mypyc_attr

from xnet.frame import Chain


@mypyc_attr(allow_interpreted_subclasses=True)
class Guard(ABC):
    """What a client may send: link property ``protection``."""

    @abstractmethod
    def passed(self, chain: Chain) -> Chain:
        """The frames that may go, the very chain if all may; the others are counted by name."""

    @abstractmethod
    def learn(self, chain: Chain) -> None:
        """Frames toward the client, which may say what it may send."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Stage(ABC):
    """Frames in one direction, on their way to the next: at once, later, or never."""

    @abstractmethod
    def take(self, chain: Chain) -> None:
        """The chain is lent until the call returns."""
