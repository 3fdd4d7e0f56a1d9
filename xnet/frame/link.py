"""Link: the only door between devices.

tx is away from the guest, rx toward it, on every floor. A netback hands its guest's frames to ``link.tx``; what comes
back enters by ``netback.rx``: the netback is the link's client. A vnic, a TAP in a bridge, or anything that wraps a
Link (a tap for captures, a fault, a limit) is a Link too.
"""

from __future__ import annotations

from typing import Final, Protocol

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.frame.chain import Chain

MOST_PAGES: Final = 17
"""What the largest frame takes of a `Client.room`."""


def pages_of(length: int) -> int:
    """What a frame takes of a `Client.room`: its pages, and one for what netif sends along."""
    return (length + PAGE_SIZE - 1 >> PAGE_SHIFT) + 1


class Client(Protocol):
    """Who sits at the guest's end of a Link."""

    def rx(self, chain: Chain) -> None:
        """Frames toward the guest. Always accepts: queue within a bound, drop by name past it."""

    def room(self) -> int:
        """Pages of frames that rx takes now without queueing (`pages_of`). A switch does not ask, a single wire may."""

    def link_ready(self) -> None:
        """The link, once without room, has it again."""


class Link(Protocol):
    """Where a guest's frames go."""

    mtu: int
    """Largest payload in bytes, Ethernet header not counted."""
    heads_only: bool
    """It looks no further than the first page of a frame: the rest may be left behind (`Chain.fetched`)."""

    def tx(self, chain: Chain) -> None:
        """Frames away from the guest; the chain is lent until the call returns."""

    def room(self) -> int:
        """Frames that tx takes now; 0: wait for the client's `link_ready`."""

    def client_ready(self) -> None:
        """The client, once without room, has it again."""

    def attach(self, client: Client | None) -> None:
        """Plug the guest's end in, or out with None; frames for nobody are dropped by name."""
