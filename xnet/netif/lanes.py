"""Lanes: several queues of a vif over the ways of its link.

::

    queue 0 ── lane 0 ─┐                       a link with as many ways (a TAP with several queues): lane i is way i,
    queue 1 ── lane 1 ─┼── way 0, 1, ...       and what comes by a way goes to its queue: its kernel has chosen
    queue 2 ── lane 2 ─┘                       a link with one way (a vnic): all lanes share it, and who the frame
                                               belongs to is chosen here, by its flow

A guest that said which queue is to have which flow (`hashing`) gets it so, whatever way the frame came. A flow's frames
keep their queue, so they keep their order.
"""

from __future__ import annotations

from xnet.frame import Chain, Client, Frame, Link, head
from xnet.netif.flow import flow_of, spread
from xnet.netif.hashing import Hashing


class Lanes:
    """The ways between `count` queues and a link."""

    def __init__(self, link: Link, count: int, hashing: Hashing) -> None:
        self.hashing = hashing
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
    """What comes by one way: for queue `index`, or, if that is -1 or the guest says so, for the queue of each frame's
    flow."""

    def __init__(self, lanes: Lanes, index: int) -> None:
        self.lanes = lanes
        self.index = index

    def queues(self) -> list[Client]:
        """Those it may go to."""
        clients = self.lanes.clients
        chosen = self.index >= 0 and not self.lanes.hashing.on
        return [client for client in ([clients[self.index]] if chosen else clients) if client is not None]

    def rx(self, chain: Chain) -> None:
        """Frames toward the guest."""
        queues, hashing = self.queues(), self.lanes.hashing
        if len(queues) == 1:
            queues[0].rx(chain)
            return
        parts: dict[int, list[Frame]] = {}
        for frame in chain.frames:
            flow = flow_of(head(chain, frame), frame[1])
            index = hashing.queue(flow, len(queues)) if hashing.on else spread(flow, len(queues))
            parts.setdefault(index, []).append(frame)
        for index, frames in parts.items():
            queues[index].rx(chain if len(frames) == len(chain.frames) else chain.part(frames))

    def room(self) -> int:
        """What the fullest queue takes: nobody knows yet whose the frames are."""
        return min((client.room() for client in self.queues()), default=0)

    def backlog(self) -> int:
        """The fullest queue's."""
        return max((client.backlog() for client in self.queues()), default=0)

    def link_ready(self) -> None:
        """The link has room again."""
        for client in self.queues():
            client.link_ready()
