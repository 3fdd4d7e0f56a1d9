"""What is above a frontend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xnet.frame import Client
from xnet.frame.offload import Accepts
from xnet.netif.front_queue import FrontQueue


class Nic(Protocol):
    """The guest's network interface above the frontend: the TAP and its kernel."""

    @property
    def devices(self) -> Sequence[Client]:
        """For each queue there can be: who takes its frames, and is told when the queue, once full, has room."""

    def connected(self, queues: Sequence[FrontQueue], accepts: Accepts) -> None:
        """The queues may be filled from now on, with what `accepts` says."""

    def identify(self, mac: str, mtu: int | None) -> None:
        """What the frontend found in xenstore before it connects: its address, and its MTU if it asks for one."""

    def carrier(self, on: bool) -> None:
        """The backend came to life, or went."""

    def disconnected(self) -> None:
        """Touch the queues no more."""

    def wants_groups(self, tell: Callable[[frozenset[bytes] | None], None]) -> None:
        """The frontend asked for multicast control: until it is disconnected, `tell` it the groups the guest is in, now
        and whenever they change; None: it wants all multicast."""
