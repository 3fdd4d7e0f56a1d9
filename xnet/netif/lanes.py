"""Lanes: several queues of a vif over the ways of its link.

::

    queue 0 ── lane 0 ─┐                       a link with as many ways (a TAP with several queues): lane i is way i,
    queue 1 ── lane 1 ─┼── way 0, 1, ...       and what comes by a way goes to its queue: its kernel has chosen
    queue 2 ── lane 2 ─┘                       a link with one way (a vnic): all lanes share it, and who the frame
                                               belongs to is chosen here, by its flow

A flow's frames keep their queue, so they keep their order. What a flow is: addresses, protocol and, of TCP and UDP that
is not in fragments, ports; of anything else the two MAC addresses.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from xnet.frame import Chain, Client, Frame, Link, head
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6

ETH_HLEN: Final = 14
PORTS: Final = (6, 17)
"""Protocols that have ports in the first four bytes: TCP and UDP."""
FRAGMENT: Final = 0x3FFF
"""More fragments, or an offset."""


class Lanes:
    """The ways between `count` queues and a link."""

    def __init__(self, link: Link, count: int) -> None:
        self.ways = link.ways(count)
        self.clients: list[Client | None] = [None] * count
        self.lanes = [Lane(self, self.ways[i % len(self.ways)], i) for i in range(count)]
        self.entries = [Entry(self, i if len(self.ways) > 1 else -1) for i in range(len(self.ways))]

    def attach(self, index: int, client: Client | None) -> None:
        """A queue comes or goes. Frames are taken from the link once all are there."""
        before, self.clients[index] = None not in self.clients, client
        now = None not in self.clients
        if now and not before:
            for way, entry in zip(self.ways, self.entries, strict=True):
                way.attach(entry)
        elif before and not now:
            for way in self.ways:
                way.attach(None)


class Lane(Link):
    """One queue's link."""

    def __init__(self, lanes: Lanes, way: Link, index: int) -> None:
        self.mtu = way.mtu
        self.heads_only = way.heads_only
        self.lanes = lanes
        self.way = way
        self.index = index

    def tx(self, chain: Chain) -> None:
        """See `Link`."""
        self.way.tx(chain)

    def room(self) -> int:
        """See `Link`."""
        return self.way.room()

    def client_ready(self) -> None:
        """See `Link`."""
        self.way.client_ready()

    def attach(self, client: Client | None) -> None:
        """See `Link`."""
        self.lanes.attach(self.index, client)


class Entry(Client):
    """What comes by one way: for queue `index`, or, if that is -1, for the queue of each frame's flow."""

    def __init__(self, lanes: Lanes, index: int) -> None:
        self.lanes = lanes
        self.index = index

    def queues(self) -> list[Client]:
        """Those it may go to."""
        clients = self.lanes.clients
        return [client for client in (clients if self.index < 0 else [clients[self.index]]) if client is not None]

    def rx(self, chain: Chain) -> None:
        """Frames toward the guest."""
        queues = self.queues()
        if len(queues) == 1:
            queues[0].rx(chain)
            return
        parts: dict[int, list[Frame]] = {}
        for frame in chain.frames:
            parts.setdefault(flow(head(chain, frame)) % len(queues), []).append(frame)
        for index, frames in parts.items():
            queues[index].rx(chain if len(frames) == len(chain.frames) else chain.part(frames))

    def room(self) -> int:
        """What the fullest queue takes: nobody knows yet whose the frames are."""
        return min((client.room() for client in self.queues()), default=0)

    def link_ready(self) -> None:
        """The link has room again."""
        for client in self.queues():
            client.link_ready()


def flow(view: memoryview) -> int:
    """A number that all frames of a flow have in common. `view`: a frame's beginning, headers at least."""
    kind = int.from_bytes(view[12:14], "big")
    if kind == ETH_P_IP and len(view) >= ETH_HLEN + 20:
        protocol, at = view[23], ETH_HLEN + (view[14] & 15) * 4
        whole = not int.from_bytes(view[20:22], "big") & FRAGMENT
        ports = view[at : at + 4] if whole and protocol in PORTS else b""
        return crc32(ports, crc32(view[26:34], protocol))
    if kind == ETH_P_IPV6 and len(view) >= ETH_HLEN + 40:
        protocol = view[20]
        ports = view[54:58] if protocol in PORTS else b""
        return crc32(ports, crc32(view[22:54], protocol))
    return crc32(view[:12])
