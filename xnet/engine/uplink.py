"""Uplinks: the wire under a lower link, whatever it is.

=========================  =====================================================================================
``bridge`` (or nothing)    a TAP of dom0, in that bridge (or with no cable in)
``nic``, via "packet"      an interface there is, by packet socket; its own stack goes on beside us
``nic``, via "macvtap"     an interface there is, which is ours alone as long as the lab runs
``veth``                   a pair of ours: the named end in dom0's or another namespace, this end in one of nobody
=========================  =====================================================================================

An interface of the machine may be named also where dom0 has a namespace of its own; dom0's are looked at first. What
is made here hangs from descriptors of the engine's, and goes with it however it ends: this end of a pair and a macvtap
are in a namespace that only a descriptor keeps, and take the other end along.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

from xnet.engine.edge import TapLink
from xnet.engine.lab import LinkSpec
from xnet.engine.packet import receive
from xnet.engine.turn import Turn
from xnet.engine.xen_host import XenHost
from xnet.errors import HostError
from xnet.frame import Client
from xnet.host.macvtap import Macvtap
from xnet.host.netlink import Netlink
from xnet.host.netns import new_netns
from xnet.host.packet_socket import PacketSocket
from xnet.host.sysctl import write_sysctls
from xnet.mac import Switch

Tell = Callable[[str], None]
"""Takes a line for people."""


class Uplink:
    """A wire. `device`: its Linux interface; `mac`: that one's address, where the link is to have the same."""

    def __init__(
        self,
        link: TapLink,
        device: str,
        is_up: Callable[[], bool],
        stack: AsyncExitStack,
        *,
        mac: bytes | None = None,
        ours: bool = True,
    ) -> None:
        self.link = link
        self.device = device
        self.mac = mac
        self.is_up = is_up
        """Whether it is up now, with a carrier."""
        self.ours = ours
        """Both ends are, so it comes up by itself."""
        self.stack = stack

    async def close(self) -> None:
        """Leave the loop, and take away what was made."""
        self.link.close()
        await self.stack.aclose()


class PacketLink(TapLink):
    """A packet socket as a link. The addresses of the vnics on it are asked for as they come and go; whoever else has
    it (a bridge, a guest of its own) gets all there is."""

    def __init__(self, sock: PacketSocket, ground: Ground, *, mtu: int, promiscuous: bool) -> None:
        host, turn = ground.host, ground.turn
        super().__init__(turn.loop, sock.fd, mtu=mtu, memory=host.dom0.window, arena=host.arena, turn=turn)
        self.pump.take, self.pump.bell = receive, sock.bell
        self.sock = sock
        self.promiscuous = promiscuous
        self.tell = ground.tell
        self.switch: Switch | None = None
        self.alone = False
        """A client that is no switch has it."""

    def attach(self, client: Client | None) -> None:
        """Plug the client in and read for it, or out."""
        if self.switch is not None:
            self.switch.changed = lambda: None
        self.switch = client if isinstance(client, Switch) else None
        if self.switch is not None:
            self.switch.changed = self.hear
        self.alone = client is not None and self.switch is None
        self.hear()
        super().attach(client)

    def hear(self) -> None:
        """Other vnics are there than before, or want to hear more."""
        every = self.alone or (self.switch is not None and self.switch.promiscuous())
        self.sock.promiscuous(self.promiscuous or every)
        try:
            self.sock.hear(self.switch.addresses() if self.switch is not None else [])
        except HostError as error:
            self.tell(f"{error}: not heard; write promiscuous = true in its [[link]]")

    def counters(self) -> dict[str, int]:
        """With what came while nobody read."""
        return super().counters() | {"read_lost": self.sock.drops()}


@dataclass(slots=True, frozen=True)
class Ground:
    """What uplinks are made on. `netns_fd` and `netlink` are dom0's; `zone_fd` opens a namespace by name, for whoever
    asks to close."""

    host: XenHost
    turn: Turn
    netns_fd: int
    netlink: Netlink
    zone_fd: Callable[[str], int]
    alias: str
    tell: Tell


async def open_uplink(spec: LinkSpec, mac: bytes, ground: Ground) -> Uplink:
    """The wire of a link with a `nic` or `veth`; `mac` is for our end of a pair. HostError, and nothing is left."""
    async with AsyncExitStack() as stack:
        if spec.veth:
            uplink = await open_veth(spec, mac, ground, stack)
        elif spec.via == "macvtap":
            uplink = await open_macvtap(spec, ground, stack)
        else:
            uplink = open_packet(spec, ground, stack, find_nic(spec.nic, ground.netns_fd), device=spec.nic, ours=False)
        uplink.stack = stack.pop_all()
    return uplink


def find_nic(device: str, netns_fd: int) -> PacketSocket:
    """The interface of dom0, or else of this machine."""
    try:
        return PacketSocket(device, netns_fd)
    except HostError as error:
        if error.errno != errno.ENODEV:
            raise
    try:
        return PacketSocket(device)
    except HostError as error:
        raise no_such(device) if error.errno == errno.ENODEV else error from None


def no_such(device: str) -> HostError:
    """No interface of that name."""
    text = f"{device}: no such interface in dom0 or on this machine; ip link shows those there are"
    return HostError(text, errno=errno.ENODEV, device=device)


def check_mtu(spec: LinkSpec, device: str, most: int) -> None:
    """The link's frames must pass the device. HostError."""
    if spec.mtu > most:
        fix = f"write mtu = {most} in its [[link]], or raise the interface's"
        text = f"{device}: link {spec.name} has an MTU of {spec.mtu}, more than its {most}: {fix}"
        raise HostError(text, errno=errno.EINVAL, device=device)


def open_packet(
    spec: LinkSpec, ground: Ground, stack: AsyncExitStack, sock: PacketSocket, *, device: str, ours: bool
) -> Uplink:
    """A wire by packet socket. HostError."""
    stack.callback(sock.close)
    check_mtu(spec, device, sock.mtu())
    link = PacketLink(sock, ground, mtu=spec.mtu, promiscuous=spec.promiscuous)
    return Uplink(link, device, sock.is_up, stack, mac=sock.mac, ours=ours)


async def open_veth(spec: LinkSpec, mac: bytes, ground: Ground, stack: AsyncExitStack) -> Uplink:
    """A pair. The named end is up, with the addresses it was given; this end has no stack above it. HostError."""
    name, peer = spec.name, spec.veth
    there = ground.zone_fd(spec.zone or "dom0")
    try:
        nobody, mine = await nobodys(stack)
        await mine.add_veth(name, peer, there)
        stack.push_async_callback(take_away, mine, name)
        write_sysctls(nobody, {f"net/ipv6/conf/{name}/disable_ipv6": 1})
        await mine.set_link(name, mtu=spec.mtu, address=mac.hex(":"), up=True)
        async with Netlink(there) as theirs:
            await theirs.set_link(peer, mtu=spec.mtu, alias=ground.alias, up=True)
            for address in spec.ip:
                await theirs.add_address(peer, address)
    finally:
        os.close(there)
    return open_packet(spec, ground, stack, PacketSocket(name, nobody), device=peer, ours=True)


async def open_macvtap(spec: LinkSpec, ground: Ground, stack: AsyncExitStack) -> Uplink:
    """An interface for us alone; the macvtap has its address. HostError."""
    name, nic = spec.name, spec.nic
    nobody, mine = await nobodys(stack)
    async with Netlink() as machine:
        for where in (ground.netlink, machine):
            if where.has(nic):
                await where.add_macvtap(nic, name, nobody)
                break
        else:
            raise no_such(nic)
    stack.push_async_callback(take_away, mine, name)
    check_mtu(spec, nic, mine.mtu(name))
    write_sysctls(nobody, {f"net/ipv6/conf/{name}/disable_ipv6": 1})
    tap = Macvtap(name, nobody)
    stack.callback(tap.close)
    await mine.set_link(name, alias=ground.alias, up=True)
    mine.hear_all_multicast(name)
    host, turn = ground.host, ground.turn
    link = TapLink(turn.loop, tap.fd, mtu=spec.mtu, memory=host.dom0.window, arena=host.arena, turn=turn)
    return Uplink(link, nic, partial(is_running, mine, name), stack, mac=mine.address(name), ours=False)


async def nobodys(stack: AsyncExitStack) -> tuple[int, Netlink]:
    """A namespace that goes with the stack, or with us."""
    nobody = new_netns()
    stack.callback(os.close, nobody)
    netlink = Netlink(nobody)
    stack.callback(netlink.close)
    return nobody, netlink


def is_running(netlink: Netlink, name: str) -> bool:
    """It is up, with a carrier; not when it went with its NIC."""
    try:
        return netlink.is_running(name)
    except HostError:
        return False


async def take_away(netlink: Netlink, name: str) -> None:
    """Remove a device, if nobody else did."""
    with suppress(HostError):
        await netlink.delete_link(name)
