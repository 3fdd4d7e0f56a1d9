"""DriverDomain: dom0's switches and backends. It watches ``backend/vif`` as xenbus does, makes a netback for each vif
that appears there, and does what the hotplug scripts do when one reaches InitWait.

vif-bridge (xnbu): a TAP ``vif<domid>.<handle>`` in dom0's namespace, put into the bridge that the key ``bridge`` names.
vif-vnic (xnbo): a vnic ``xvm<domid>_<handle>`` on the link or etherstub of that name. vif-dedicated: the link itself,
of which the guest is the only client. In any case the netback gets a Link, writes ``hotplug-status`` (and before it
``nic``, as xVM's scripts do) and goes on; a failure is written as ``hotplug-error`` and shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from xnet.engine.datalinks import Datalinks
from xnet.engine.datalinks.model import LOWER, Datalink
from xnet.engine.edge import TapLink
from xnet.engine.lab import LinkSpec, VifSpec
from xnet.engine.turn import LoopClock, Turn
from xnet.engine.uplink import Ground, Uplink, is_running, open_uplink
from xnet.engine.xen_host import XenHost
from xnet.errors import HostError, XnetError
from xnet.frame import Link
from xnet.frame.ether import mac_bytes
from xnet.host.link_watch import LinkWatch
from xnet.host.netlink import Netlink
from xnet.host.sysctl import write_sysctls
from xnet.host.tap import Tap, close_taps
from xnet.mac import Vnic, format_mac, vnic_name
from xnet.netif import Features, Netback
from xnet.netif.device import Device
from xnet.netif.patience import DRAIN_S, STALL_S
from xnet.netif.profile import BACKENDS
from xnet.xenstore import Conversation, Read, Write

VIF_MAC = "fe:ff:ff:ff:ff:ff"
"""MAC of every vif device in dom0, as Linux's netback sets it: no bridge takes it over."""
VIF_VNIC, VIF_DEDICATED = "vif-vnic", "vif-dedicated"
HANDSHAKE_S = 10.0
"""Seconds a vif may take from its directory to Connected before somebody is told; libxl waits as long."""


class Backend:
    """One netback and what hotplug gave it."""

    def __init__(self, netback: Netback) -> None:
        self.netback = netback
        self.link: Link | None = None
        self.tap: Tap | None = None
        self.vnic: Vnic | None = None
        self.kind = ""
        """xnbu or xnbo."""
        self.attached = ""
        """Name of the bridge, link or etherstub."""

    @property
    def name(self) -> str:
        """``vif1.0`` or ``xvm1_0``."""
        if self.vnic is not None:
            return self.vnic.name
        return self.netback.name


class DriverDomain:
    """All backends of dom0 and the links they use. `spec_of` knows what the lab says of a vif, if it says anything."""

    def __init__(
        self,
        host: XenHost,
        netns_fd: int,
        netlink: Netlink,
        turn: Turn,
        *,
        datalinks: Datalinks,
        bridges: set[str],
        spec_of: Callable[[int, int], VifSpec | None],
        observe: Callable[[Device], None],
        alias: str,
        zone_fd: Callable[[str], int],
        tell: Callable[[str], None],
    ) -> None:
        self.host = host
        self.netns_fd = netns_fd
        self.netlink = netlink
        self.turn = turn
        self.datalinks = datalinks
        self.bridges = bridges
        self.uplinks: dict[str, Uplink] = {}
        self.ground = Ground(host, turn, netns_fd, netlink, zone_fd, alias, tell)
        self.spec_of = spec_of
        self.observe = observe
        self.alias = alias
        self.backends: dict[tuple[int, int], Backend] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.watches: list[LinkWatch] = []
        datalinks.bundles.watch = self.watch_links
        self.token = host.session.watch("backend/vif", self.appeared)

    # --- devices of dom0

    async def open_tap(
        self, name: str, *, mtu: int, master: str | None = None, address: str | None = None, queues: int = 1
    ) -> tuple[Tap, TapLink]:
        """A TAP of dom0, up, in the bridge `master`, and the link above it: dom0's own stack does not speak on it."""
        tap = Tap(name, self.netns_fd, queues)
        try:
            tap.set_offload(True, True, True)
            write_sysctls(self.netns_fd, {f"net/ipv6/conf/{name}/disable_ipv6": 1})
            await self.netlink.set_link(name, mtu=mtu, address=address, alias=self.alias, master=master, up=True)
        except BaseException:
            tap.close()
            raise
        host = self.host
        link = TapLink(
            asyncio.get_running_loop(),
            tap.fd,
            mtu=mtu,
            memory=host.dom0.window,
            arena=host.arena,
            turn=self.turn,
            more=tap.fds[1:],
            use=tap.use_queues,
            plug=tap.set_carrier,
        )
        return tap, link

    async def add_link(self, spec: LinkSpec, mac: bytes) -> None:
        """A lower link on its wire: see `uplink`. A TAP's own address is another one: a bridge takes frames for its
        ports' addresses for itself."""
        if spec.nic or spec.veth:
            uplink = await open_uplink(spec, mac, self.ground)
        else:
            tap, link = await self.open_tap(spec.name, mtu=spec.mtu, master=spec.bridge or None)
            stack = AsyncExitStack()
            stack.push_async_callback(close_taps, [tap])
            uplink = Uplink(link, spec.name, partial(is_running, self.netlink, spec.name), stack)
        self.uplinks[spec.name] = uplink
        self.datalinks.registry.add_phys(spec.name, spec.mtu, uplink.mac or mac, uplink.link, uplink.device)
        where = spec.nic or spec.veth
        where = f" on {where}" if where else f" in {spec.bridge}" if spec.bridge else ""
        self.ground.tell(f"link {spec.name} {'up' if uplink.is_up() or uplink.ours else 'down'}{where}")

    def watch_links(self) -> None:
        """Have aggregations told at once when an interface of dom0 or of this machine changes."""
        if not self.watches:
            bundles = self.datalinks.bundles
            self.watches = [LinkWatch(fd, self.turn.loop, bundles.look) for fd in (self.netns_fd, None)]

    def is_up(self, device: str) -> bool:
        """Whether the interface under a link is up, with a carrier."""
        return any(uplink.is_up() for uplink in self.uplinks.values() if uplink.device == device)

    # --- vifs

    def appeared(self, path: str, _: str) -> None:
        """Something below ``backend/vif`` changed; a directory not seen before is a new vif."""
        parts = path.split("/")
        if len(parts) < 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
            return
        key = (int(parts[2]), int(parts[3]))
        if key not in self.backends:
            self.host.session.run(self.probe(*key))

    def probe(self, domid: int, handle: int) -> Conversation[None]:
        """A new directory, unless it is gone again: its netback."""
        state = yield Read(f"backend/vif/{domid}/{handle}/state")
        if state is None or (domid, handle) in self.backends:
            return
        backend = self.backends[domid, handle] = Backend(self.make(domid, handle))
        backend.netback.start()

    def make(self, domid: int, handle: int) -> Netback:
        """A netback, not started."""
        spec = self.spec_of(domid, handle)
        return Netback(
            self.host.dom0,
            self.host.session,
            domid,
            handle,
            arena=self.host.arena,
            clock=LoopClock(self.turn.loop),
            hotplug=self.hotplug,
            gone=self.gone,
            features=Features.of(spec.backend_features if spec else {}),
            tx_mode=spec.tx_mode if spec else "copy",
            profile=BACKENDS[spec.backend_profile if spec else "linux"],
            vnic=spec is not None and spec.link is not None,
            max_queues=spec.max_queues or spec.queues if spec else 1,
            drain_s=spec.rx_drain_s if spec else DRAIN_S,
            stall_s=spec.rx_stall_s if spec else STALL_S,
            observe=self.observe,
        )

    def restart(self, domid: int, handle: int) -> None:
        """The driver of a vif dies without a word, and another one goes on with its link and its rings."""
        backend = self.backends[domid, handle]
        before = backend.netback
        groups, hashing = before.multicast.groups, before.hashing
        before.stop()
        backend.netback = self.make(domid, handle)
        backend.netback.counters, backend.netback.cable = before.counters, before.cable
        backend.netback.carrier = before.carrier
        backend.netback.multicast.groups = groups  # or the guest would hear nothing until it joins again
        backend.netback.hashing = hashing  # it does not say that again, either
        backend.netback.start()

    def plug(self, domid: int, handle: int, up: bool) -> None:
        """The cable of a vif, at dom0's end: in or out."""
        backend = self.backends[domid, handle]
        backend.netback.plugged(up)

    # --- hotplug

    def hotplug(self, netback: Netback) -> None:
        """A netback is in InitWait: run its script."""
        backend = self.backends[netback.domid, netback.handle]
        if backend.link is not None:
            netback.plug(backend.link)
            return
        keys = ("script", "bridge", "mac", "mtu", "vlanid", "capped-bandwidth")

        def read() -> Conversation[dict[str, str | None]]:
            found: dict[str, str | None] = {}
            for key in keys:
                found[key] = yield Read(f"{netback.nodename}/{key}")
            found["guest"] = yield Read(f"/local/domain/{netback.domid}/name")
            return found

        def run(found: dict[str, str | None] | Exception) -> None:
            if isinstance(found, Exception):
                netback.hotplug_failed(str(found))
                return
            task = asyncio.ensure_future(self.script(backend, found))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        self.host.session.run(read(), run)

    async def script(self, backend: Backend, keys: dict[str, str | None]) -> None:
        """vif-bridge or vif-vnic, then ``hotplug-status``."""
        netback = backend.netback
        try:
            name = (keys["script"] or "").rpartition("/")[2]
            if name in (VIF_VNIC, VIF_DEDICATED):
                await self.xnbo(backend, keys, name)
            else:
                await self.vif_bridge(backend, keys)
        except XnetError as error:
            netback.hotplug_failed(str(error))
            return
        if self.backends.get((netback.domid, netback.handle)) is not backend:
            await close_taps(self.unplug(backend))
            return
        assert backend.link is not None, "both scripts make one"
        netback.plug(backend.link)
        self.turn.kick()

    async def vif_bridge(self, backend: Backend, keys: dict[str, str | None]) -> None:
        """xnbu: a TAP in a bridge."""
        bridge = keys["bridge"] or ""
        if bridge not in self.bridges:
            raise HostError(f"{backend.netback.name}: no bridge {bridge or 'named'} in this lab")
        mtu = int(keys["mtu"] or 1500)
        if backend.netback.profile.sdu:
            mtu = min(mtu, backend.netback.profile.sdu)
        backend.kind, backend.attached = "xnbu", bridge
        name = backend.netback.name
        backend.tap, backend.link = await self.open_tap(
            name, mtu=mtu, master=bridge, address=VIF_MAC, queues=backend.netback.max_queues
        )
        backend.tap.set_carrier(False)  # until the netback says otherwise

    async def xnbo(self, backend: Backend, keys: dict[str, str | None], script: str) -> None:
        """A MAC client on the link or etherstub that ``bridge`` names."""
        name, netback = keys["bridge"] or "", backend.netback
        lower = self.datalinks.registry.links.get(name)
        if lower is None or lower.kind not in LOWER:
            raise HostError(f"{netback.name}: no link or etherstub {name or 'named'} in this lab")
        profile = netback.profile
        if profile.sdu and lower.mtu > profile.sdu:
            raise HostError(
                f"{netback.name}: SDU too big: {profile.name} takes links of {profile.sdu} bytes at most: "
                f"{name} has {lower.mtu}, write mtu = {profile.sdu} there"
            )
        backend.kind, backend.attached = "xnbo", name
        if script == VIF_DEDICATED:
            self.vif_dedicated(backend, lower)
        else:
            await self.vif_vnic(backend, lower, keys)
        nic = lower.name if backend.vnic is None else backend.vnic.name
        self.host.session.run(tell_nic(netback.nodename, nic))

    async def vif_vnic(self, backend: Backend, lower: Datalink, keys: dict[str, str | None]) -> None:
        """A vnic with the guest's address, and what the lab says of it."""
        netback, mac = backend.netback, mac_bytes(keys["mac"] or "")
        if mac is None:
            raise HostError(f"{netback.name}: no MAC address")
        spec = self.spec_of(netback.domid, netback.handle)
        properties: dict[str, Sequence[str]] = dict(spec.properties) if spec else {}
        if keys["capped-bandwidth"]:
            properties["maxbw"] = [keys["capped-bandwidth"]]
        link = await self.datalinks.create_vnic(
            vnic_name(netback.domid, netback.handle),
            lower.name,
            mac={"type": "fixed", "address": format_mac(mac)},
            vid=int(keys["vlanid"] or 0),
            properties=properties,
            temporary=True,
        )
        link.user = netback.name
        try:
            for flow in self.datalinks.flows_of_vifs:
                if flow.link == f"{keys['guest']}/{netback.handle}":
                    await self.datalinks.boot_flow(flow, link.name)
        except XnetError:
            self.datalinks.release(link.name)
            raise
        backend.link = backend.vnic = link.vnic

    def vif_dedicated(self, backend: Backend, lower: Datalink) -> None:
        """The link itself, with no vnic and no switch between."""
        name = backend.netback.name
        if lower.uplink is None:
            raise HostError(f'{name}: {lower.name} has no wire to give away: write script = "vif-vnic"')
        if lower.user or lower.bridge or self.datalinks.registry.over(lower.name):
            raise HostError(f"{name}: {lower.name}: link busy: a vif that has it to itself shares it with nobody")
        self.datalinks.registry.lend(lower, name)
        backend.link = lower.uplink

    def unplug(self, backend: Backend) -> list[Tap]:
        """Take back what hotplug gave; the TAPs are for the caller to close."""
        taps = [backend.tap] if backend.tap is not None else []
        if backend.vnic is not None:
            self.datalinks.release(backend.vnic.name)
        elif backend.kind == "xnbo" and backend.link is not None:
            self.datalinks.registry.take_back(backend.attached)
        elif isinstance(backend.link, TapLink):
            backend.link.close()
        backend.link = backend.tap = backend.vnic = None
        return taps

    def gone(self, netback: Netback) -> None:
        """A netback ended: its device goes too."""
        backend = self.backends.pop((netback.domid, netback.handle), None)
        if backend is not None:
            for tap in self.unplug(backend):
                tap.close()

    # --- all of them

    def tick(self) -> None:
        """Once a second."""
        self.datalinks.bundles.tick()
        for backend in self.backends.values():
            backend.netback.tick()

    async def close(self) -> None:
        """End every backend, then the links; all TAPs at once."""
        self.host.session.unwatch(self.token)
        for watch in self.watches:
            watch.close()
        scripts = tuple(self.tasks)
        for script in scripts:
            script.cancel()
        await asyncio.gather(*scripts, return_exceptions=True)
        taps = []
        for backend in self.backends.values():
            backend.netback.stop()
            taps += self.unplug(backend)
        self.backends.clear()
        await asyncio.gather(close_taps(taps), *(uplink.close() for uplink in self.uplinks.values()))


def tell_nic(nodename: str, nic: str) -> Conversation[None]:
    """What the vif is on, unless its directory went meanwhile: a write would make it again."""
    if (yield Read(f"{nodename}/state")) is not None:
        yield Write(f"{nodename}/nic", nic)
