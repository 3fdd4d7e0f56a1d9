"""A link whose cable is out: what a guest sends all the same goes nowhere, by name."""

from __future__ import annotations

from typing import Final

from xnet.frame import Chain, Client, Link
from xnet.netif.counters import Counters

ROOM: Final = 1 << 16


class Unplugged(Link):
    """Takes everything; `counters` says how much (``tx_link_down``)."""

    def __init__(self, counters: Counters) -> None:
        self.mtu = 0
        self.heads_only = True
        self.counters = counters

    def tx(self, chain: Chain) -> None:
        """Drop it."""
        self.counters.count("tx_link_down", len(chain.frames))

    def room(self) -> int:
        """Always."""
        return ROOM

    def client_ready(self) -> None:
        """Nobody waits."""

    def attach(self, client: Client | None) -> None:
        """Nobody is heard."""
