"""Link, the only door between devices, with a Client on this side of it; and Sink, where what a device sends goes in.

tx is away from the guest, rx toward it, on every floor. A netback hands its guest's frames to ``link.tx``; what comes
back enters by ``netback.rx``: the netback is the link's client. A vnic, a TAP in a bridge, or anything that wraps a
Link (a tap for captures, a fault, a limit) is a Link too.

They are base classes, not Protocols: compiled code calls their methods without a look for the name, which a lone frame
would pay a dozen times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from mypy_extensions import mypyc_attr

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.frame.chain import Chain

MOST_PAGES: Final = 17
"""What the largest frame takes of a `Client.room`."""


FRAME_MAX: Final = MOST_PAGES * PAGE_SIZE
"""Memory for a frame of unknown length: 64 KiB, and a page to notice what is longer."""


def pages_of(length: int) -> int:
    """What a frame takes of a `Client.room`: its pages, and one for what netif sends along."""
    return (length + PAGE_SIZE - 1 >> PAGE_SHIFT) + 1


def bytes_for(room: int) -> int:
    """Of memory that frames may be put in, one after another, when there is so much room: at least one frame's."""
    return max(room >> 1, MOST_PAGES) << PAGE_SHIFT  # at the worst each has one page


@mypyc_attr(allow_interpreted_subclasses=True)
class Client(ABC):
    """Who sits at the guest's end of a Link; toward a netfront, its device."""

    @abstractmethod
    def rx(self, chain: Chain) -> None:
        """Frames toward the guest. Always accepts: queue within a bound, drop by name past it."""

    @abstractmethod
    def room(self) -> int:
        """Pages of frames that rx takes now without queueing (`pages_of`). A switch does not ask, a single wire may."""

    @abstractmethod
    def link_ready(self) -> None:
        """The link, once without room, has it again."""

    def backlog(self) -> int:
        """Packets that wait in it because rx was faster than who is behind it."""
        return 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(ABC):
    """Where a guest's frames go."""

    mtu: int
    """Largest payload in bytes, Ethernet header not counted."""
    heads_only: bool
    """It looks no further than the first page of a frame: the rest may be left behind (`Chain.fetched`)."""

    @abstractmethod
    def tx(self, chain: Chain) -> None:
        """Frames away from the guest; the chain is lent until the call returns."""

    @abstractmethod
    def room(self) -> int:
        """Frames that tx takes now; 0: wait for the client's `link_ready`."""

    @abstractmethod
    def client_ready(self) -> None:
        """The client, once without room, has it again."""

    @abstractmethod
    def attach(self, client: Client | None) -> None:
        """Plug the guest's end in, or out with None; frames for nobody are dropped by name."""

    def ways(self, count: int) -> list[Link]:
        """The link as up to `count` links, each with frames of its own (a TAP's queues); just itself if it has no more.
        Asked at each connect: there are so many from now on."""
        return [self]

    def carrier(self, on: bool) -> None:  # noqa: B027 (nothing is right for most)
        """Whether frames toward the guest may get there; said when it changes. There is none at first."""

    def follow(self, groups: frozenset[bytes] | None) -> None:  # noqa: B027 (nothing is right for most)
        """The guest wants multicast of these groups only, or all of it with None. A link need not mind: the client
        does."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink(ABC):
    """Where frames that are read from a device are put."""

    memory: memoryview
    """What addresses count in."""
    came: int = 0
    """How what is put in now came: `Chain.came`, for who makes a chain of it."""

    @abstractmethod
    def reserve(self) -> tuple[int, int] | None:
        """Memory for one frame of any length or more: its address, which begins a page, and its size in bytes. None: no
        room now."""

    @abstractmethod
    def commit(self, word: int, lengths: list[int]) -> None:
        """The memory reserved last holds frames of these lengths, each at the start of a page."""

    @abstractmethod
    def flush(self) -> None:
        """The burst is over; nothing may have been committed."""
