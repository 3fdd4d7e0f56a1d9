"""``python -m xnet.testing.training``: frames through a whole host, for the compiler to see which code is hot.

The build (setup.py) compiles the hot modules with counters in them, runs this, and compiles them again. What a lab does
most is done here: two guests, once on a switch (xnbo) and once with vif TAPs (xnbu), and TCP's long frames, its
acknowledgements, small datagrams and pings between them, alone and in bursts. Sockets are in the place of TAPs, since a
build needs no root; all behind them is the real thing. It needs the standard library only.
"""

from __future__ import annotations

import asyncio
import socket
from struct import Struct

from xnet.abi.linux.virtio_net import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, VNET_HDR
from xnet.engine.edge import Pump, TapLink
from xnet.engine.turn import Turn
from xnet.frame import Link
from xnet.mac import Switch, Vnic
from xnet.testing.frames import mac, plain, tcp, udp
from xnet.testing.world import Vif, World

ROUNDS = 150
MSS = 1448
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


def with_header(frame: bytes, *, gso: bool = False, blank: bool = False) -> bytes:
    """A frame as a TAP hands it over: TCP over IPv4 when it has a wish."""
    flags = VIRTIO_NET_HDR_F_NEEDS_CSUM if gso or blank else 0
    kind, headers, size = (VIRTIO_NET_HDR_GSO_TCPV4, 54, MSS) if gso else (0, 0, 0)
    start, offset = (34, 16) if flags else (0, 0)
    return VNET_HDR.pack(flags, kind, headers, size, start, offset) + frame


def traffic(src: int, dst: int) -> list[tuple[bytes, int]]:
    """(what the TAP of one says, how often in a row)."""
    long = tcp(bytes(65000), src=src, dst=dst, blank=True)
    middle = tcp(bytes(20 * MSS), src=src, dst=dst, blank=True)
    ack = with_header(tcp(b"", src=src, dst=dst, blank=True), blank=True)
    arp = Struct("!6s6sH46x").pack(b"\xff" * 6, mac(src), 0x0806)
    return [
        (with_header(long, gso=True), 8),
        (with_header(middle, gso=True), 3),
        (with_header(long, gso=True), 1),
        (ack, 8),
        (ack, 1),
        (with_header(udp(bytes(64), src=src, dst=dst)), 30),
        (with_header(plain(98, src=src, dst=dst)), 1),
        (with_header(arp), 1),
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
    links: list[Link] = []
    pumps = []
    for number, (tap, wire) in enumerate(zip(taps, wires, strict=True), 1):
        vif = world.vif(world.guest(f"guest{switched}{number}"), hotplug=False)
        if switched:
            link: Link = Vnic(f"vnic{number}", switch, mac(number))
        else:
            link = TapLink(loop, wire.near.fileno(), mtu=1500, memory=arena.memory, arena=arena, turn=turn)
        links.append(link)
        vif.netback.plug(link)
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
    for pump in pumps:
        pump.close()
    for link in links:
        if isinstance(link, TapLink):
            link.pump.close()
    for plug in taps + wires:
        plug.close()
    return arrived


async def main() -> None:
    """One world for each flavour."""
    for switched in (True, False):
        with World() as world:
            arrived = await talk(world, switched)
        assert arrived > ROUNDS * 30, f"only {arrived} frames arrived"


if __name__ == "__main__":
    asyncio.run(main())
