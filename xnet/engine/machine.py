"""Machine: a lab, running. ``async with Machine(lab) as machine`` boots it, and leaving takes all of it away again.

Order of making: the nursery and dom0's namespaces; memory, hypervisor, store; bridges, links and etherstubs in dom0;
the driver domain; then every guest at once, each its namespaces, domain, interfaces, and last its vifs' directories,
from which both drivers find each other. The end is the reverse. Whatever stops a boot half-way, the same exit stack
ends what was begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.xenbus import XenbusState
from xnet.engine import observe
from xnet.engine.check import check
from xnet.engine.datalinks import Datalinks
from xnet.engine.datalinks.zones import Zones
from xnet.engine.driver_domain import HANDSHAKE_S, Backend, DriverDomain
from xnet.engine.guest import Guest, GuestVif
from xnet.engine.lab import BridgeSpec, DomainSpec, Lab, VifSpec
from xnet.engine.toolstack import Toolstack
from xnet.engine.turn import LoopClock, Turn
from xnet.engine.xen_host import GuestDomain, XenHost
from xnet.engine.xenstored import XenstoreSocket
from xnet.engine.zone import zone_fd
from xnet.errors import XnetError
from xnet.frame import mac_bytes
from xnet.host.memory import MachineMemory
from xnet.host.netlink import Netlink
from xnet.host.netns import NamespaceFds, own_namespaces
from xnet.host.nursery import Nursery
from xnet.host.sysctl import write_sysctls
from xnet.host.tap import close_taps
from xnet.host.watcher import Watcher
from xnet.netif import Netfront
from xnet.netif.device import Device
from xnet.netif.lent import try_again
from xnet.xenstore.toolstack import add_vif

DOM0 = "dom0"
CARRIER_POLL_S = 0.002


class Machine:
    """One running lab. `on_event` gets a line for people at every step of the boot and every change later."""

    def __init__(self, lab: Lab, *, on_event: Callable[[str], None] | None = None, run_dir: Path | None = None) -> None:
        self.lab = lab
        self.on_event = on_event or (lambda text: None)
        self.run_dir = run_dir
        self.guests: dict[str, Guest] = {}
        self.changed = asyncio.Event()
        self.leaks: list[str] = []
        """What the hypervisor still had on its books after everything was ended: empty unless there is a bug."""
        self.watcher: Watcher | None = None
        """Takes the bridges away if we are killed; only where dom0's namespace is the machine's."""
        self.stack = AsyncExitStack()
        self.toolstack = Toolstack(self)

    # --- life

    async def __aenter__(self) -> Self:
        try:
            await self.boot()
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stack.aclose()
        for name in ("host", "drivers", "memory"):
            self.__dict__.pop(name, None)  # whoever keeps this object must not keep the machine's memory

    async def boot(self) -> None:
        """Everything up to the moment when the drivers shake hands."""
        lab, stack = self.lab, self.stack
        self.loop = asyncio.get_running_loop()
        self.turn = Turn(self.loop, gro=lab.gro)
        self.nursery = Nursery(on_death=self.guest_died)
        stack.push_async_callback(self.nursery.close)
        self.alias = f"xnet {lab.name} {os.getpid()}"
        await self.boot_dom0()
        self.memory = MachineMemory(self.frames())
        stack.callback(self.memory.close)
        self.host = XenHost(
            self.memory,
            heap_pages=lab.heap // PAGE_SIZE,
            dom0_pages=lab.dom0_memory // PAGE_SIZE,
            kick=self.turn.kick,
            report=self.report,
        )
        stack.callback(self.bury)
        self.turn.step = self.host.hypervisor.runqueue.step
        self.host.hypervisor.dom_exc = self.shut_down
        if self.run_dir is not None:
            socket = XenstoreSocket(self.host.store, self.run_dir / "xenstored.sock")
            await socket.start()
            stack.callback(socket.close)
        await self.boot_network()
        self.timer = self.loop.call_later(1, self.tick)
        stack.callback(lambda: self.timer.cancel())
        stack.push_async_callback(self.close_guests)
        stack.push_async_callback(self.toolstack.close)
        specs = [spec for spec in lab.domains if spec.autostart]
        domains = [self.host.create_guest(spec.name, spec.memory // PAGE_SIZE) for spec in specs]  # in the lab's order
        try:
            async with asyncio.TaskGroup() as group:
                for spec, xen in zip(specs, domains, strict=True):
                    group.create_task(self.boot_guest(spec, xen))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def frames(self) -> int:
        """Machine memory in frames: what the lab says, or what it needs."""
        lab = self.lab
        needed = lab.dom0_memory + lab.heap + sum(domain.memory for domain in lab.domains)
        return (lab.memory or needed) // PAGE_SIZE

    async def boot_dom0(self) -> None:
        """dom0's namespaces: its own, or the machine's."""
        if self.lab.dom0_netns == "host":
            self.dom0_fds = own_namespaces()
            self.stack.callback(self.dom0_fds.close)
            self.watcher = Watcher()
            self.stack.callback(self.watcher.close)
        else:
            self.dom0_fds = await self.nursery.create(DOM0, hostname=DOM0)
        self.netlink = Netlink(self.dom0_fds.net)
        self.stack.callback(self.netlink.close)

    async def boot_network(self) -> None:
        """Bridges, links and etherstubs, and who serves the vifs."""
        lab = self.lab
        for bridge in lab.bridges:
            await self.add_bridge(bridge)
        self.datalinks = Datalinks(
            lab.name,
            self.run_dir,
            is_running=lambda name: self.drivers.is_up(name),
            clock=LoopClock(self.loop),
            arena=self.host.arena,
            zones=(zones := Zones(self)),
            tell=self.on_event,
        )
        self.drivers = DriverDomain(
            self.host,
            self.dom0_fds.net,
            self.netlink,
            self.turn,
            datalinks=self.datalinks,
            bridges={bridge.name for bridge in lab.bridges},
            spec_of=self.spec_of,
            observe=self.observe,
            alias=self.alias,
            zone_fd=partial(zone_fd, self),
            tell=self.on_event,
        )
        self.stack.push_async_callback(self.drivers.close)
        self.stack.push_async_callback(zones.close)
        for stub in lab.etherstubs:
            self.datalinks.registry.add_etherstub(stub.name, stub.mtu)
        for link in lab.links:
            await self.drivers.add_link(link, mac_bytes(self.mac_of(link.name)) or b"")
        await self.datalinks.boot(lab)
        await self.datalinks.restore(self.on_event)

    async def add_bridge(self, spec: BridgeSpec) -> None:
        """A Linux bridge in dom0, or one of the host's own that is there."""
        name = spec.name
        if spec.existing:
            self.netlink.link_index(name)  # HostError names it when it is not
            return
        index = self.watcher.reserve(name) if self.watcher is not None else None
        await self.netlink.add_bridge(name, mtu=spec.mtu, address=self.mac_of(name), alias=self.alias, index=index)
        for address in spec.address:
            await self.netlink.add_address(name, address)
        self.on_event(f"bridge {name} up" + "".join(f", {address}" for address in spec.address))

    def mac_of(self, name: str) -> str:
        """A bridge's own address: always the same, or it would take over one of its ports'."""
        digest = hashlib.sha256(f"{self.lab.name}/{name}".encode()).digest()
        return "02:" + digest[:5].hex(":")

    async def boot_guest(self, spec: DomainSpec, xen: GuestDomain) -> None:
        """One guest: namespaces, interfaces, and its vifs in xenstore."""
        fds = await self.nursery.create(spec.name)
        netlink = Netlink(fds.net)
        guest = self.guests[spec.name] = Guest(spec, xen, fds, netlink)
        self.on_event(f"{spec.name}: domain {guest.domid} created, {spec.memory >> 20} MiB")
        for handle, vif in enumerate(spec.vifs):
            await self.add_vif(guest, handle, vif)
        await self.datalinks.entered(spec.name)
        for gateway in spec.gateway:
            await netlink.add_route(gateway)
        for network, via in spec.route:
            await netlink.add_route(via, network)
        write_sysctls(fds.net, spec.sysctl)

    async def add_vif(self, guest: Guest, handle: int, spec: VifSpec) -> GuestVif:
        """Plug a vif into a guest: its interface, and its directories, from which the drivers find each other."""
        vif = await guest.add_nic(handle, spec, turn=self.turn, observe=self.observe)
        extra = {"mtu": str(spec.mtu)}
        if spec.rate:
            extra["rate"] = spec.rate
        if spec.link is not None:
            extra["script"] = f"/etc/xen/scripts/{spec.script or 'vif-vnic'}"
        extra |= {"vlanid": str(spec.vlan)} if spec.vlan else {}
        extra |= {"capped-bandwidth": spec.maxbw} if spec.maxbw else {}
        where = spec.bridge or spec.link
        made = add_vif(guest.domid, handle, mac=spec.mac, bridge=where, trusted=spec.trusted, extra=extra)
        self.host.session.run(made)
        vif.netfront.start()
        self.turn.kick()
        return vif

    async def close_guests(self) -> None:
        """Stop every frontend; give all TAPs up at once, for the kernel takes its time over each."""
        taps = [tap for guest in self.guests.values() for tap in guest.close()]
        await asyncio.gather(close_taps(taps), self.nursery.close())

    def bury(self) -> None:
        """End the emulated host; what it still had on its books is kept in `leaks`."""
        self.host.destroy_guests()
        self.turn()
        self.leaks = self.host.leaks()
        self.host.close()

    # --- what happens

    def tick(self) -> None:
        """Once a second."""
        self.host.hypervisor.tick()
        self.drivers.tick()
        for guest in self.guests.values():
            try_again(guest.xen.domain)
        self.turn.kick()
        self.timer = self.loop.call_later(1, self.tick)

    def report(self, domid: int, error: Exception) -> None:
        """A driver's handler raised what no handler should: it is on the console; say it, too."""
        self.on_event(f"d{domid}: {type(error).__name__}: {error}")

    def guest_died(self, name: str, reason: str) -> None:
        """A guest's first process is gone: "reboot", "poweroff", "crash"."""
        guest = self.guests.get(name)
        if guest is None or guest.crashed:
            return
        if reason == "crash":
            self.host.hypervisor.shutdown(guest.domid, reason)
        else:
            self.toolstack.hear_of(guest, reason)

    def shut_down(self, domid: int) -> None:
        """A domain shut down. If it crashed nobody has seen to it: nothing in it moves; the toolstack hears of it."""
        for guest in self.guests.values():
            if guest.domid == domid and guest.crashed:
                guest.pause()
                self.toolstack.hear_of(guest, "crash")

    def observe(self, device: Device) -> None:
        """A driver changed its state, or has something to say."""
        what = device.reason or XenbusState(device.state).name
        self.on_event(f"{self.label(device)}: {what}")
        self.changed.set()

    def label(self, device: Device) -> str:
        """A device's name for people: ``a eth0 (front)``, ``vif1.0 (back)``."""
        if isinstance(device, Netfront):
            name = next((guest.name for guest in self.guests.values() if guest.domid == device.xen.domid), "?")
            return f"{name} eth{device.handle} (front)"
        return f"{device.name} (back)"

    async def wait_connected(self, timeout_s: float = HANDSHAKE_S) -> None:
        """Until every vif is Connected at both ends. XnetError names those that are not, and what they wait for."""
        missing: list[tuple[str, str]] = []
        try:
            async with asyncio.timeout(timeout_s):
                while missing := self.unconnected():
                    if any(reason for _, reason in missing):
                        break
                    self.changed.clear()
                    await self.changed.wait()
                while not missing and not self.running():
                    await asyncio.sleep(CARRIER_POLL_S)
        except TimeoutError:
            missing = self.unconnected() or [("guests", "their kernels do not see the carrier")]
        if missing:
            told = [each for each in missing if each[1]] or missing  # the others were only not waited for
            raise XnetError("; ".join(f"{name}: {reason or 'no progress'}" for name, reason in told))

    def running(self, only: Guest | None = None) -> bool:
        """Every kernel has seen the carriers of its devices (or of one guest's): before that, guests drop what they
        should send, and a bridge does not forward to a port. What has no cable in is not waited for."""
        for guest in self.guests.values() if only is None else [only]:
            for vif, backend in self.ends(guest):
                port = backend.tap if backend is not None else None
                if vif.nic.cable and not (
                    guest.netlink.is_running(vif.device) and (port is None or self.netlink.is_running(port.name))
                ):
                    return False
        return all(uplink.is_up() for uplink in self.drivers.uplinks.values() if uplink.ours)

    def unconnected(self) -> list[tuple[str, str]]:
        """(vif, why) of every vif that is not Connected at both ends; an empty reason: not yet."""
        return [each for guest in self.guests.values() for each in self.unconnected_of(guest)]

    def unconnected_of(self, guest: Guest, handle: int | None = None) -> list[tuple[str, str]]:
        """Those of one guest, or one of them."""
        missing = []
        for vif, backend in self.ends(guest):
            if handle not in (None, vif.handle):
                continue
            front, back = vif.netfront, backend.netback if backend else None
            if back is None or back.state is not XenbusState.Connected or front.state is not XenbusState.Connected:
                where = f"{guest.name} {vif.device} ({front.state.name}, back {back.state.name if back else 'absent'})"
                missing.append((where, front.reason or (back.reason if back else "")))
        return missing

    def ends(self, guest: Guest) -> Iterator[tuple[GuestVif, Backend | None]]:
        """A guest's vifs, each with its end in dom0 if that is there."""
        for handle, vif in guest.vifs.items():
            yield vif, self.drivers.backends.get((guest.domid, handle))

    def spec_of(self, domid: int, handle: int) -> VifSpec | None:
        """What the lab says of a vif."""
        for guest in self.guests.values():
            if guest.domid == domid and handle in guest.vifs:
                return guest.vifs[handle].spec
        return None

    # --- what others order

    def pause(self, name: str) -> None:
        """Stop a guest where it is. XnetError for a domain that is no guest."""
        guest = self.guest_of(name)
        self.host.hypervisor.pause(guest.domid)
        guest.pause()
        self.on_event(f"{guest.name}: paused")

    def unpause(self, name: str) -> None:
        """Let it go on; nothing happens to one that is not paused. XnetError."""
        guest = self.guest_of(name)
        self.host.hypervisor.unpause(guest.domid)
        guest.unpause()
        self.turn.kick()
        self.on_event(f"{guest.name}: unpaused")

    def guest_of(self, name: str) -> Guest:
        """A guest by name or domain id. XnetError names the guests there are."""
        guest = self.find(name)
        if guest is None:
            raise XnetError(f"no guest {name}; there are {', '.join(sorted(self.guests))}")
        return guest

    def find(self, name: str) -> Guest | None:
        """The guest of this name or domain id."""
        return next((guest for guest in self.guests.values() if name in (guest.name, str(guest.domid))), None)

    # --- what others ask

    def describe(self) -> dict[str, Any]:
        """The machine as data."""
        return observe.describe(self)

    def statistics(self) -> dict[str, Any]:
        """Its counters."""
        return observe.statistics(self)

    def heap(self) -> dict[str, int]:
        """The hypervisor's heap, for who asks often."""
        return observe.heap(self)

    async def check(self) -> dict[str, Any]:
        """What nobody accounts for."""
        return await check(self)

    def namespace_fds(self, name: str) -> NamespaceFds:
        """A domain's namespaces. XnetError names the domains there are."""
        if name in (DOM0, "Domain-0", "0"):
            return self.dom0_fds
        if (guest := self.find(name)) is not None:
            return guest.fds
        names = ", ".join([DOM0, *sorted(self.guests)])
        raise XnetError(f"no domain {name}; there are {names}")

    def console_lines(self) -> list[str]:
        """The hypervisor's console ring."""
        return self.host.hypervisor.console_lines()
