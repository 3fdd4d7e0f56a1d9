"""``python -m xnet.testing.training``: frames through a whole host, for the compiler to see which code is hot.

The build (setup.py) compiles the hot modules with counters in them, runs this, and compiles them again. What a lab does
most is done here: two guests, once on a switch (xnbo) and once with vif TAPs (xnbu), and TCP's long frames, its
acknowledgements, small datagrams and pings between them, alone and in bursts. Sockets are in the place of TAPs, since a
build needs no root; all behind them is the real thing. It needs the standard library only.
"""

from __future__ import annotations

import asyncio
import socket

from xnet.engine.edge import TapLink
from xnet.engine.pump import Pump
from xnet.engine.turn import Turn
from xnet.frame import CSUM_BLANK, GSO_SIZE_SHIFT, GSO_TCPV4, vnet_header
from xnet.frame.ether import BROADCAST
from xnet.mac import Switch, Vnic
from xnet.testing.frames import mac, plain, tcp, udp
from xnet.testing.world import Vif, World

ROUNDS = 150
MSS = 1448
TSO = CSUM_BLANK | GSO_TCPV4 | MSS << GSO_SIZE_SHIFT
PASSES = 6
"""Of the event loop, until a burst has gone all the way."""
WINDOW = 1 << 22
"""Bytes a socket is asked to hold; without root it is given less, and a burst ends early."""


class Plug:
    """A socket for a pump, and the far end of it: the kernel's side of a TAP."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.near, self.far):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)

    def feed(self, frame: bytes, count: int) -> None:
        """The kernel sends."""
        try:
            for _ in range(count):
                self.far.send(frame)
        except BlockingIOError:
            pass

    def drain(self) -> list[bytes]:
        """What the kernel got."""
        got = []
        try:
            while True:
                got.append(self.far.recv(1 << 17))
        except BlockingIOError:
            return got

    def close(self) -> None:
        self.near.close()
        self.far.close()


def said(frame: bytes, word: int = 0) -> bytes:
    """A frame as a TAP hands it over."""
    return vnet_header(word, memoryview(frame), len(frame)) + frame


def traffic(src: int, dst: int) -> list[tuple[bytes, int]]:
    """(what the TAP of one says, how often in a row)."""
    long = said(tcp(bytes(65000), src=src, dst=dst, blank=True), TSO)
    ack = said(tcp(b"", src=src, dst=dst, blank=True), CSUM_BLANK)
    return [
        (long, 8),
        (said(tcp(bytes(20 * MSS), src=src, dst=dst, blank=True), TSO), 3),
        (long, 1),
        (ack, 8),
        (ack, 1),
        (said(udp(bytes(64), src=src, dst=dst)), 30),
        (said(plain(98, src=src, dst=dst)), 1),
        (said(BROADCAST + plain(60, src=src)[len(BROADCAST) :]), 1),
    ]


def plugged(vif: Vif, pump: Pump) -> None:
    """Have the pump where the world has its wire."""
    queue = vif.netfront.queue
    assert queue is not None, "connected"
    queue.device = pump
    pump.sink = queue
    pump.link_ready()


async def talk(world: World, switched: bool) -> int:
    """Two guests and all their traffic: how many frames arrived."""
    loop = asyncio.get_running_loop()
    turn = Turn(loop)
    turn.step = world.host.hypervisor.step
    switch = Switch("stub0", 1500)
    taps, wires = [Plug(), Plug()], [Plug(), Plug()]
    arena = world.host.arena
    links: list[Vnic | TapLink] = []
    pumps = []
    for number, (tap, wire) in enumerate(zip(taps, wires, strict=True), 1):
        vif = world.vif(world.guest(f"guest{switched}{number}"), hotplug=False)
        if switched:
            links.append(Vnic(f"vnic{number}", switch, mac(number)))
        else:
            fd = wire.near.fileno()
            links.append(TapLink(loop, fd, mtu=1500, memory=arena.memory, arena=arena, turn=turn))
        vif.netback.plug(links[-1])
        world.step()
        pumps.append(Pump(loop, tap.near.fileno(), None, turn))
        plugged(vif, pumps[-1])
    arrived = 0
    for _ in range(ROUNDS):
        for here, there in ((0, 1), (1, 0)):
            for frame, count in traffic(here + 1, there + 1):
                taps[here].feed(frame, count)
                for _ in range(PASSES):
                    await asyncio.sleep(0)
                    for passed in wires[here].drain():
                        wires[there].feed(passed, 1)
                arrived += len(taps[there].drain())
    for each in (*pumps, *links, *taps, *wires):
        each.close()
    return arrived


async def main() -> None:
    """One world for each flavour."""
    for switched in (True, False):
        with World() as world:
            arrived = await talk(world, switched)
        assert arrived > ROUNDS * 30, f"only {arrived} frames arrived"


if __name__ == "__main__":
    asyncio.run(main())
