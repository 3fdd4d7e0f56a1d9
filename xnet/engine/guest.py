"""Guest: a domain with its namespaces, and for each of its vifs a TAP, a pump and a netfront."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from xnet.engine.lab import DomainSpec, VifSpec
from xnet.engine.pump import Pump
from xnet.engine.turn import Turn
from xnet.engine.xen_host import GuestDomain
from xnet.errors import HostError
from xnet.frame import Client
from xnet.frame.offload import Accepts
from xnet.host.groups import GroupList
from xnet.host.netlink import Netlink
from xnet.host.netns import NamespaceFds
from xnet.host.tap import Tap, close_taps
from xnet.netif import Features, FrontQueue, Netfront
from xnet.netif.device import Device
from xnet.netif.features import usable_mtu
from xnet.netif.profile import FRONTENDS, asked_for

GROUPS_S = 0.1
"""Seconds between two looks at the groups a guest is in, where a backend filters multicast for it."""
GSO_MAX_SIZE = 65535
"""Largest frame netif's 16-bit sizes can say; the guest's kernel is told."""


class GuestNic:
    """The guest's interface above a netfront: what its kernel sees is the TAP. `groups`: its multicast groups, None for
    all there are."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tap: Tap,
        turn: Turn,
        mtu: int,
        mac: str,
        *,
        set_link: Callable[..., None],
        groups: Callable[[], frozenset[bytes] | None],
    ) -> None:
        self.loop = loop
        self.tap = tap
        self.pumps = [Pump(loop, fd, None, turn) for fd in tap.fds]
        self.mtu = mtu
        """What was configured."""
        self.mac = mac
        self.set_link = set_link
        self.groups = groups
        self.tell: Callable[[frozenset[bytes] | None], None] | None = None
        """Who wants to know when they change."""
        self.alive = False
        """The backend is Connected."""
        self.cable = True
        tap.set_carrier(False)

    @property
    def devices(self) -> Sequence[Client]:
        """What moves the frames, queue by queue."""
        return self.pumps

    def connected(self, queues: Sequence[FrontQueue], accepts: Accepts) -> None:
        """The kernel may leave undone what the backend does; read from it."""
        self.tap.set_offload(accepts.csum4 or accepts.csum6, accepts.gso4, accepts.gso6)
        self.set_link(self.tap.name, mtu=usable_mtu(self.mtu, accepts))
        self.tap.use_queues(len(queues))
        for pump, queue in zip(self.pumps, queues, strict=False):
            pump.sink = queue
            pump.link_ready()

    def identify(self, mac: str, mtu: int | None) -> None:
        """The driver goes by what it read: the interface has that address, and that MTU where there is one."""
        if mtu is not None:
            self.mtu = mtu
        if mac != self.mac:
            self.mac = mac
            self.set_link(self.tap.name, address=mac)

    def carrier(self, on: bool) -> None:
        """There is a carrier when the backend is Connected, and the cable in."""
        self.alive = on
        if self.tap.fd >= 0:
            self.tap.set_carrier(on and self.cable)

    def plugged(self, cable: bool) -> None:
        """The cable is in, or out."""
        self.cable = cable
        self.carrier(self.alive)

    def disconnected(self) -> None:
        """The cable is out."""
        self.tell = None
        for pump in self.pumps:
            pump.pause()
            pump.sink = None
        self.carrier(False)

    def wants_groups(self, tell: Callable[[frozenset[bytes] | None], None]) -> None:
        """The frontend tells them on; its kernel is asked for them as long as there is a connection."""
        self.tell = tell
        self.look_for_groups()

    def look_for_groups(self) -> None:
        """Look, and again in a moment."""
        if self.tell is not None:
            self.tell(self.groups())
            self.loop.call_later(GROUPS_S, self.look_for_groups)

    def close(self) -> Tap:
        """Leave the loop; the TAP is for the caller to close."""
        self.tell = None
        for pump in self.pumps:
            pump.close()
        return self.tap


class GuestVif:
    """One vif's guest side."""

    def __init__(self, domain: str, spec: VifSpec, handle: int, nic: GuestNic, netfront: Netfront) -> None:
        self.domain = domain
        """The guest's name."""
        self.spec = spec
        self.handle = handle
        self.nic = nic
        self.netfront = netfront
        self.device = nic.tap.name


class Guest:
    """A running guest. Made by `Machine`; `fds` are its namespaces, owned by the nursery."""

    def __init__(self, spec: DomainSpec, xen: GuestDomain, fds: NamespaceFds, netlink: Netlink) -> None:
        self.spec = spec
        self.name = spec.name
        self.xen = xen
        self.domid = xen.domain.domid
        self.fds = fds
        self.netlink = netlink
        self.groups: GroupList | None = None
        """Opened when somebody asks for multicast groups."""
        self.vifs: dict[int, GuestVif] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def crashed(self) -> bool:
        """It does nothing more, and answers nobody."""
        return self.xen.domain.shutdown_reason == "crash"

    async def add_nic(self, handle: int, spec: VifSpec, *, turn: Turn, observe: Callable[[Device], None]) -> GuestVif:
        """The device ``eth<handle>``, configured and up, cable out; its netfront is not started yet. HostError."""
        name = f"eth{handle}"
        tap = Tap(name, self.fds.net, spec.queues)
        try:
            await self.netlink.set_link(name, mtu=spec.mtu, address=spec.mac, gso_max_size=GSO_MAX_SIZE, up=True)
            for address in spec.ip:
                await self.netlink.add_address(name, address)
            loop = asyncio.get_running_loop()
            nic = GuestNic(
                loop,
                tap,
                turn,
                spec.mtu,
                spec.mac,
                set_link=self.set_link,
                groups=lambda: self.groups_of(name),
            )
        except BaseException:
            tap.close()
            raise
        profile = FRONTENDS[spec.frontend_profile]
        netfront = Netfront(
            self.xen.domain,
            self.xen.client.session,
            handle,
            nic,
            features=Features.of(asked_for(profile) | spec.frontend_features),
            profile=profile,
            headroom=spec.xdp_headroom,
            observe=observe,
        )
        vif = self.vifs[handle] = GuestVif(self.name, spec, handle, nic, netfront)
        return vif

    async def remove_nic(self, vif: GuestVif) -> None:
        """Take a vif's interface away."""
        del self.vifs[vif.handle]
        vif.netfront.stop()
        await close_taps([vif.nic.close()])

    def groups_of(self, name: str) -> frozenset[bytes] | None:
        """Multicast groups an interface is in; None: it takes all there are, or nobody knows."""
        if self.groups is None:
            self.groups = GroupList(self.fds.net)
        try:
            return None if self.netlink.hears_all(name) else self.groups.of(name)
        except HostError:  # the interface went with its namespace
            return None

    def set_link(self, name: str, **attributes: Any) -> None:
        """The interface follows its driver: the backend may take less than was configured (no scatter-gather)."""
        task = asyncio.ensure_future(self.netlink.set_link(name, **attributes))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def pause(self) -> None:
        """Its kernel sends no more: what its processes send waits in its interfaces."""
        for vif in self.vifs.values():
            for pump in vif.nic.pumps:
                pump.pause()

    def unpause(self) -> None:
        """It goes on."""
        for vif in self.vifs.values():
            for pump in vif.nic.pumps:
                pump.link_ready()

    def close(self) -> list[Tap]:
        """Stop the frontends. The TAPs are for the caller to close; domain and namespaces are others' to end."""
        for task in tuple(self.tasks):
            task.cancel()
        taps = []
        for vif in self.vifs.values():
            vif.netfront.stop()
            taps.append(vif.nic.close())
        self.vifs.clear()
        self.netlink.close()
        if self.groups is not None:
            self.groups.close()
        return taps
