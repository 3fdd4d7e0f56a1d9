"""Port: what the implicit switch knows of a vnic; and Groups, who of them hears what is for many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

from xnet.frame import Chain, Link
from xnet.frame.ether import BROADCAST


class Port(Link):
    """One place of a switch."""

    name: str
    mac: bytes
    macs: tuple[bytes, ...]
    """All its addresses, `mac` first."""
    vid: int
    all_multicast: bool
    joined: set[bytes]
    promiscuous: bool
    """It hears whatever crosses the link, in any VLAN (without the tag), but not itself."""
    counters: dict[str, int]

    @abstractmethod
    def sent(self, frames: int, size: int) -> None:
        """Count frames that were its to send."""

    @abstractmethod
    def sent_group(self, frames: int, size: int) -> None:
        """So many of those were for a group."""

    @abstractmethod
    def group(self, frames: int, size: int) -> None:
        """So many of the chain that comes next are for a group."""

    @abstractmethod
    def rx(self, chain: Chain) -> None:
        """Frames toward the guest."""

    @abstractmethod
    def backlog(self) -> int:
        """Packets that wait behind it."""

    @abstractmethod
    def alone(self, alone: bool) -> None:
        """Whether the wire is its own, from now on."""


NOBODY: Final[list[Port]] = []


class Groups:
    """Who hears what, worked out once for these ports as they are: to look it up takes no longer with more of them."""

    def __init__(self, ports: Iterable[Port]) -> None:
        self.all: dict[int, list[Port]] = {}
        """Of a VID: who hears broadcast."""
        self.open: dict[int, list[Port]] = {}
        """Of a VID: who hears every group."""
        self.joined: dict[tuple[bytes, int], list[Port]] = {}
        """Of a group that somebody asked for, and a VID: who hears it."""
        self.promiscuous: list[Port] = []
        for port in ports:
            self.all.setdefault(port.vid, []).append(port)
            if port.promiscuous:
                self.promiscuous.append(port)
            if port.all_multicast:
                self.open.setdefault(port.vid, []).append(port)
            else:
                for group in port.joined:
                    self.joined.setdefault((group, port.vid), []).append(port)
        for (_, vid), members in self.joined.items():
            members += self.open.get(vid, NOBODY)

    def members(self, group: bytes, vid: int) -> list[Port]:  # hot
        """Those of a group in a VLAN; not the caller's to change."""
        if group == BROADCAST:
            return self.all.get(vid, NOBODY)
        found = self.joined.get((group, vid))
        return self.open.get(vid, NOBODY) if found is None else found

    def and_promiscuous(self, ports: list[Port], sender: Port | None) -> list[Port]:
        """These, and who hears all."""
        return ports + [port for port in self.promiscuous if port is not sender and port not in ports]
