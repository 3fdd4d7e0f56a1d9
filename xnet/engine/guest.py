"""Guest: a domain with its namespaces, and for each of its vifs a TAP, a pump and a netfront."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from xnet.engine.edge import Pump
from xnet.engine.lab import DomainSpec, VifSpec
from xnet.engine.turn import Turn
from xnet.engine.xen_host import GuestDomain
from xnet.frame import Client
from xnet.frame.offload import Accepts
from xnet.host.netlink import Netlink
from xnet.host.netns import NamespaceFds
from xnet.host.tap import Tap
from xnet.netif import Features, FrontQueue, Netfront
from xnet.netif.device import Device
from xnet.netif.features import usable_mtu

GSO_MAX_SIZE = 65535
"""Largest frame netif's 16-bit sizes can say; the guest's kernel is told."""


class GuestNic:
    """The guest's interface above a netfront: what its kernel sees is the TAP."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tap: Tap, turn: Turn, mtu: int, set_mtu: Callable[[str, int], None]
    ) -> None:
        self.tap = tap
        self.pump = Pump(loop, tap.fd, None, turn)
        self.mtu = mtu
        """What was configured."""
        self.set_mtu = set_mtu
        tap.set_carrier(False)

    @property
    def device(self) -> Client:
        """What moves the frames."""
        return self.pump

    def connected(self, queue: FrontQueue, accepts: Accepts) -> None:
        """The kernel may leave undone what the backend does; read from it."""
        self.tap.set_offload(accepts.csum4 or accepts.csum6, accepts.gso4, accepts.gso6)
        self.set_mtu(self.tap.name, usable_mtu(self.mtu, accepts))
        self.pump.sink = queue
        self.pump.link_ready()

    def carrier(self, on: bool) -> None:
        """The cable is in when the backend is Connected."""
        if self.tap.fd >= 0:
            self.tap.set_carrier(on)

    def disconnected(self) -> None:
        """The cable is out."""
        self.pump.pause()
        self.pump.sink = None
        self.carrier(False)

    def close(self) -> Tap:
        """Leave the loop; the TAP is for the caller to close."""
        self.pump.close()
        return self.tap


class GuestVif:
    """One vif's guest side."""

    def __init__(self, spec: VifSpec, handle: int, nic: GuestNic, netfront: Netfront) -> None:
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
        self.vifs: dict[int, GuestVif] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def add_nic(self, handle: int, spec: VifSpec, *, turn: Turn, observe: Callable[[Device], None]) -> GuestVif:
        """The device ``eth<handle>``, configured and up, cable out; its netfront is not started yet. HostError."""
        name = f"eth{handle}"
        tap = Tap(name, self.fds.net)
        try:
            await self.netlink.set_link(name, mtu=spec.mtu, address=spec.mac, gso_max_size=GSO_MAX_SIZE, up=True)
            for address in spec.ip:
                await self.netlink.add_address(name, address)
            nic = GuestNic(asyncio.get_running_loop(), tap, turn, spec.mtu, self.set_mtu)
        except BaseException:
            tap.close()
            raise
        netfront = Netfront(
            self.xen.domain,
            self.xen.client.session,
            handle,
            nic,
            features=Features.of(spec.frontend_features),
            observe=observe,
        )
        vif = self.vifs[handle] = GuestVif(spec, handle, nic, netfront)
        return vif

    def set_mtu(self, name: str, mtu: int) -> None:
        """The backend may take less than was configured (no scatter-gather): the interface's MTU follows."""
        task = asyncio.ensure_future(self.netlink.set_link(name, mtu=mtu))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def pause(self) -> None:
        """Its kernel sends no more: what its processes send waits in its interfaces."""
        for vif in self.vifs.values():
            vif.nic.pump.pause()

    def unpause(self) -> None:
        """It goes on."""
        for vif in self.vifs.values():
            vif.nic.pump.link_ready()

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
        return taps
