"""The edge: a TAP of dom0 as a Link, with the emulated machine behind it. What reads and writes it is a `pump.Pump`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from xnet.engine.pump import Pump
from xnet.engine.turn import Turn
from xnet.frame import FRAME_MAX, MOST_PAGES, Chain, Client, Link, Sink, bytes_for, pages_of
from xnet.frame.arena import Arena
from xnet.frame.chain import POLLED
from xnet.mac.lanes import Ring, Row, Way

BURST_BYTES: Final = 16 * FRAME_MAX
BACKLOG: Final = 256
"""Packets that may wait in the client before frames are left to the kernel, which drops them for nothing."""
GO_ON: Final = 16
"""It has caught up when fewer wait than this."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TapLink(Link):
    """A TAP of dom0 as a Link: the vif of xnbu, or the uplink under a switch."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        *,
        mtu: int,
        memory: memoryview,
        arena: Arena,
        turn: Turn,
        more: Sequence[int] = (),
        use: Callable[[int], None] = lambda count: None,
        plug: Callable[[bool], None] = lambda on: None,
    ) -> None:
        """`more`: descriptors of the TAP's other queues; `use` tells the TAP how many of all to use, `plug` whether it
        has a carrier."""
        self.mtu = mtu
        self.heads_only = False
        self.use = use
        self.plug = plug
        self.out = Way()
        """What went to the fd."""
        self.others = [TapLink(loop, each, mtu=mtu, memory=memory, arena=arena, turn=turn) for each in more]
        """The other queues, each a link."""
        self.staging = Staging(memory, arena)
        self.pump = Pump(loop, fd, self.staging, turn)
        self.pump.drained = self.drained

    def tx(self, chain: Chain) -> None:
        """Frames for the fd."""
        self.out.frames += len(chain.frames)
        self.out.size += chain.size()
        self.pump.rx(chain)

    def room(self) -> int:
        """Frames that tx takes now."""
        return self.pump.room()

    def attach(self, client: Client | None) -> None:
        """Plug the client in and read for it, or out."""
        self.staging.client = client
        if client is None:
            self.pump.pause()
        else:
            self.pump.link_ready()

    def client_ready(self) -> None:
        """The client has buffers again, or less waits in it."""
        client = self.staging.client
        if client is not None and not (self.staging.behind and client.backlog() >= GO_ON):
            self.staging.behind = False
            self.pump.link_ready()

    def drained(self) -> None:
        """The fd, once full, takes frames again."""
        if self.staging.client is not None:
            self.staging.client.link_ready()

    def carrier(self, on: bool) -> None:
        """The TAP's."""
        self.plug(on)

    def ways(self, count: int) -> list[Link]:
        """The TAP's queues."""
        found: list[Link] = [self, *self.others]
        self.use(count)
        return found[:count]

    def counters(self) -> dict[str, int]:
        """Of all queues."""
        return summed([self.pump, *(each.pump for each in self.others)])

    def lanes(self) -> dict[str, list[Row]]:
        """Of each queue, as the rings of a wire: `mac.lanes`."""
        links = [self, *self.others]
        return {
            "rx": [link.staging.ring.row("hw", index, 0) for index, link in enumerate(links)],
            "tx": [link.out.row("hw", index) for index, link in enumerate(links)],
        }

    def close(self) -> None:
        """Leave the loop; the TAP is its owner's to close."""
        self.attach(None)
        self.pump.close()
        for each in self.others:
            each.close()


def summed(pumps: Sequence[Pump]) -> dict[str, int]:
    """The counters of several pumps as one's."""
    found: dict[str, int] = {}
    for pump in pumps:
        for name, count in pump.counters.items():
            found[name] = found.get(name, 0) + count
    return found


class Staging(Sink):
    """What a TAP of dom0 sends, in staging memory on its way to the link's client."""

    def __init__(self, memory: memoryview, arena: Arena) -> None:
        self.memory = memory
        self.arena = arena
        self.client: Client | None = None
        self.ring = Ring()
        self.behind = False
        """Too much waits in the client."""
        self.chain = Chain(memory)
        self.base = self.top = self.mark = -1
        self.left = 0
        """Pages the client still takes of this burst."""

    def reserve(self) -> tuple[int, int] | None:  # hot
        """Staging memory, while client and burst have room."""
        if self.base < 0:
            client = self.client
            if client is None:
                return None
            if client.backlog() > BACKLOG:
                self.behind = True
                return None
            self.left = client.room()
            if not self.left:
                return None
            self.mark = self.arena.mark()
            self.base = self.top = self.arena.alloc(BURST_BYTES)
            if self.base < 0:
                return None
        elif self.top + FRAME_MAX > self.base + BURST_BYTES or self.left < MOST_PAGES:
            return None
        return self.top, min(self.base + BURST_BYTES - self.top, bytes_for(self.left))

    def commit(self, word: int, lengths: list[int]) -> None:  # hot
        """More frames of the burst."""
        self.top = self.chain.frames.append_run(word, self.top, lengths)
        for length in lengths:
            self.left -= pages_of(length)

    def flush(self) -> None:  # hot
        """The burst goes to the client."""
        if self.base < 0:
            return
        chain = self.chain
        if chain.frames:
            self.chain = Chain(self.memory)
            chain.came = self.came
            self.ring.count(len(chain.frames), chain.size(), self.came & POLLED)
            if self.client is not None:
                self.client.rx(chain)
        self.base = -1
        self.arena.release(self.mark)
