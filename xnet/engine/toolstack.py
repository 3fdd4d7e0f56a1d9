"""Toolstack: what xl does to a running machine. Guests are created, shut down, rebooted, destroyed; vifs come and go.

Each order is one task that runs to its end, or undoes itself: whoever asked may go away meanwhile, and a machine that
ends waits for it, while it waits for nothing any more. Orders about one guest wait for each other, and look for the
guest when their turn comes: the one before may have ended it, or made another of it.

What a reboot keeps: the guest's name, its vifs (those plugged in later, too), addresses, routes and sysctls. What it
does not: the domain id, the namespaces, and every process that ran in them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.xenbus import XenbusState
from xnet.engine.guest import Guest, GuestVif
from xnet.engine.lab import DomainSpec, VifSpec
from xnet.errors import XnetError
from xnet.host.tap import close_taps
from xnet.hv import DomainState
from xnet.xenstore import Conversation, Write
from xnet.xenstore.toolstack import destroy_vif, remove_vif

if TYPE_CHECKING:
    from xnet.engine.machine import Machine

CONNECT_S: Final = 10.0
"""How long new vifs may take until Connected."""
CLOSE_S: Final = 10.0
"""How long a backend waits for its frontend to close, before it is removed all the same (libxl's bound)."""
CARRIER_S: Final = 2.0
"""How long kernels may take to see a carrier."""
LOOK_S: Final = 0.02


Plan = Callable[[str, int], VifSpec]
"""A vif for the guest of this name, with this number."""
P = ParamSpec("P")
R = TypeVar("R")
Order = Callable[Concatenate["Toolstack", P], Coroutine[Any, Any, R]]


def order(carry_out: Order[P, R]) -> Order[P, R]:
    """Have an order run to its end, also when who waits for it is cancelled."""

    @wraps(carry_out)
    async def ordered(self: Toolstack, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.ending:
            raise XnetError("the lab is ending")
        task = asyncio.ensure_future(carry_out(self, *args, **kwargs))
        self.orders.add(task)
        task.add_done_callback(self.done)
        return await asyncio.shield(task)

    return ordered


class Toolstack:
    """Orders to one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.planning = asyncio.Lock()
        """No two vifs are given an address at the same time."""
        self.orders: set[asyncio.Task[Any]] = set()
        self.ending = False

    def done(self, task: asyncio.Task[Any]) -> None:
        """An order was carried out, or not."""
        self.orders.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may wait for it any more

    async def close(self) -> None:
        """Take no more orders; those under way come to an end without waiting for any driver."""
        self.ending = True
        await asyncio.gather(*self.orders, return_exceptions=True)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Guest]:
        """The guest of this name or id, when the orders before are carried out. XnetError: there is none any more."""
        rebooting = name in self.turns and self.turns[name].locked()  # then it may not be there just now
        key = name if rebooting else self.machine.guest_of(name).name
        async with self.turns[key]:
            if key not in self.machine.guests:
                raise XnetError(f"no guest {key} any more")
            yield self.machine.guests[key]

    # --- guests

    @order
    async def create(self, name: str) -> None:
        """Start a guest of the lab that does not run: one without autostart, or one that ended. XnetError."""
        machine = self.machine
        async with self.turns[name]:
            if name in machine.guests:
                raise XnetError(f"{name} runs already; reboot it, or destroy it first")
            spec = next((spec for spec in machine.lab.domains if spec.name == name), None)
            if spec is None:
                names = ", ".join(spec.name for spec in machine.lab.domains)
                raise XnetError(f"the lab has no domain {name}; it has {names}")
            await self.start(spec)

    async def start(self, spec: DomainSpec) -> None:
        """Boot a guest until its vifs are Connected; one that cannot be booted leaves nothing."""
        machine = self.machine
        xen = machine.host.create_guest(spec.name, spec.memory // PAGE_SIZE)
        try:
            await machine.boot_guest(spec, xen)
        except BaseException:
            guest = machine.guests.get(spec.name)
            if guest is not None:
                await self.end(guest)
            else:
                machine.host.destroy_guest(xen.domain.domid)
            raise
        await self.connected(machine.guests[spec.name])

    @order
    async def shutdown(self, name: str) -> None:
        """Let a guest close its vifs in order, then end it. XnetError."""
        async with self.turn(name) as guest:
            await self.close_vifs(guest, "poweroff")
            await self.end(guest)

    @order
    async def reboot(self, name: str) -> None:
        """Shut a guest down and start it anew, with the vifs it has now. XnetError."""
        async with self.turn(name) as guest:
            await self.close_vifs(guest, "reboot")
            await self.start_anew(guest)

    async def start_anew(self, guest: Guest) -> None:
        """End a guest, and start another with the vifs it has now."""
        spec = replace(guest.spec, vifs=tuple(vif.spec for _, vif in sorted(guest.vifs.items())))
        await self.end(guest)
        await self.start(spec)

    def hear_of(self, guest: Guest, reason: str) -> None:
        """A guest ended by itself, in a "reboot", "poweroff" or "crash": see to it when its turn comes."""
        if self.ending:
            return
        task = asyncio.ensure_future(self.ended(guest, reason))
        self.orders.add(task)
        task.add_done_callback(self.done)

    async def ended(self, guest: Guest, reason: str) -> None:
        """What becomes of such a guest, after a crash as its `on_crash` says; nothing where an order before made an end
        of it."""
        machine = self.machine
        async with self.turns[guest.name]:
            if machine.guests.get(guest.name) is not guest:
                return
            machine.on_event(f"{guest.name}: {reason}")
            if reason == "crash":
                reason = {"restart": "reboot", "destroy": "poweroff"}.get(guest.spec.on_crash, "")
            try:
                if reason:
                    await self.close_vifs(guest, reason)
                if reason == "reboot":
                    await self.start_anew(guest)
                elif reason:
                    await self.end(guest)
            except XnetError as error:
                machine.on_event(f"{guest.name}: {error}")

    @order
    async def suspend(self, name: str) -> None:
        """Let a guest suspend itself (control/shutdown): it stops where it is, keeps its memory, and its backends know
        nothing of it. XnetError."""
        machine = self.machine
        async with self.turn(name) as guest:
            if machine.host.hypervisor.domains[guest.domid].state is not DomainState.RUNNING:
                raise XnetError(f"{guest.name} does not run: it is paused or suspended already")
            self.tell(guest, "suspend")
            self.tell(guest, "")  # the guest's kernel takes the order
            guest.pause()
            machine.host.hypervisor.shutdown(guest.domid, "suspend")
            machine.on_event(f"{guest.name}: suspended")

    @order
    async def resume(self, name: str) -> None:
        """Let a suspended guest go on: its drivers connect anew. XnetError when they do not, or it is not suspended."""
        machine = self.machine
        async with self.turn(name) as guest:
            machine.host.hypervisor.resume(guest.domid)
            for vif in guest.vifs.values():
                vif.netfront.resume()
            machine.turn.kick()
            await self.connected(guest)
            machine.on_event(f"{guest.name}: resumed")

    @order
    async def destroy(self, name: str) -> None:
        """End a guest where it is: nobody in it is asked. XnetError."""
        async with self.turn(name) as guest:
            await self.end(guest)

    async def close_vifs(self, guest: Guest, reason: str) -> None:
        """A guest's own end: its drivers close, its domain says why it stopped. One that does not is not waited for
        longer than `CLOSE_S`; one that does not run is not asked."""
        machine, domid = self.machine, guest.domid
        if machine.host.hypervisor.domains[domid].state is not DomainState.RUNNING:
            return
        self.tell(guest, reason)
        for vif in guest.vifs.values():
            vif.netfront.close()
        machine.turn.kick()
        await self.until(
            lambda: (
                guest.crashed
                or all(
                    backend is None or backend.netback.state is not XenbusState.Connected
                    for _, backend in machine.ends(guest)
                )
            )
        )
        if not guest.crashed:
            machine.host.hypervisor.shutdown(domid, reason)

    def tell(self, guest: Guest, order: str) -> None:
        """What a guest's kernel is to do (xenstore-paths, control/shutdown)."""

        def write() -> Conversation[None]:
            yield Write(f"/local/domain/{guest.domid}/control/shutdown", order)

        self.machine.host.session.run(write())

    async def end(self, guest: Guest) -> None:
        """Take a guest's domain, nodes, interfaces and namespaces away."""
        machine = self.machine
        del machine.guests[guest.name]
        taps = guest.close()
        machine.host.destroy_guest(guest.domid)
        machine.turn.kick()
        await machine.datalinks.left(guest.name)
        await asyncio.gather(close_taps(taps), machine.nursery.destroy(guest.name))
        await self.until(lambda: not any(domid == guest.domid for domid, _ in machine.drivers.backends))
        machine.on_event(f"{guest.name}: domain {guest.domid} destroyed")

    # --- vifs

    @order
    async def attach(self, name: str, plan: Plan) -> GuestVif:
        """Plug a vif into a running guest, and wait until it is Connected. XnetError: then it is not there."""
        async with self.turn(name) as guest:
            async with self.planning:
                handle = max(guest.vifs, default=-1) + 1  # one more than the last, as libxl has it
                spec = plan(guest.name, handle)
                self.taken(spec)
                vif = await self.machine.add_vif(guest, handle, spec)
            try:
                await self.connected(guest, vif.handle)
            except BaseException:
                await self.unplug(guest, vif)
                raise
            return vif

    @order
    async def detach(self, name: str, which: str) -> None:
        """Unplug a vif: by its handle, its device or its MAC. XnetError."""
        async with self.turn(name) as guest:
            await self.unplug(guest, vif_of(guest, which))

    async def unplug(self, guest: Guest, vif: GuestVif) -> None:
        """As libxl does it: the backend is asked to close, and forgotten when it has, or has not in time."""
        machine, key = self.machine, (guest.domid, vif.handle)
        machine.host.session.run(remove_vif(*key))
        machine.turn.kick()
        in_time = await self.until(lambda: guest.crashed or key not in machine.drivers.backends)
        machine.host.session.run(destroy_vif(*key))
        machine.turn.kick()
        if not in_time:
            machine.on_event(f"{guest.name} {vif.device}: did not close in {CLOSE_S:.0f} s, removed all the same")
        backend = machine.drivers.backends.get(key)
        if backend is not None:
            backend.netback.stop()
            machine.drivers.gone(backend.netback)
        await guest.remove_nic(vif)
        machine.on_event(f"{guest.name} {vif.device}: unplugged")

    @order
    async def restart_backend(self, name: str, which: str) -> None:
        """Let a vif's backend driver die and another go on with its rings, where they are. XnetError."""
        async with self.turn(name) as guest:
            vif = vif_of(guest, which)
            if (guest.domid, vif.handle) not in self.machine.drivers.backends:
                raise XnetError(f"{guest.name} {vif.device}: no backend")
            self.machine.drivers.restart(guest.domid, vif.handle)
            self.machine.turn.kick()

    @order
    async def link(self, name: str, which: str, up: bool) -> None:
        """Put a vif's cable in, or pull it out: no carrier at either end, and nothing passes; wait until the kernels
        have seen it. XnetError.

        The frontend's ``disconnect`` says so, too, which Windows' drivers look at.
        """
        async with self.turn(name) as guest:
            vif = vif_of(guest, which)

            def tell() -> Conversation[None]:
                yield Write(f"/local/domain/{guest.domid}/device/vif/{vif.handle}/disconnect", str(int(not up)))

            self.machine.host.session.run(tell())
            vif.nic.plugged(up)
            if (guest.domid, vif.handle) in self.machine.drivers.backends:
                self.machine.drivers.plug(guest.domid, vif.handle, up)
            self.machine.turn.kick()
            self.machine.on_event(f"{guest.name} {vif.device}: cable {'in' if up else 'out'}")
            if up:
                await self.until(lambda: self.machine.running(guest), CARRIER_S)

    def taken(self, spec: VifSpec) -> None:
        """XnetError for an address that another vif has: a MAC on the same switch, an IP anywhere."""
        switch = spec.bridge or spec.link
        for guest in self.machine.guests.values():
            for vif in guest.vifs.values():
                if vif.spec.mac == spec.mac and switch in (vif.spec.bridge, vif.spec.link):
                    raise XnetError(f"mac {spec.mac} is {guest.name} {vif.device}'s on {switch}: choose another")
                for address in set(spec.ip).intersection(vif.spec.ip):
                    raise XnetError(f"ip {address} is {guest.name} {vif.device}'s: choose another")

    # --- waiting

    async def connected(self, guest: Guest, handle: int | None = None) -> None:
        """Until a guest's vifs (or one) are Connected at both ends, and its kernel has seen it. XnetError with what is
        in the way."""
        machine = self.machine

        def missing() -> list[tuple[str, str]]:
            return machine.unconnected_of(guest, handle)

        def settled() -> bool:
            waiting = missing()
            return guest.crashed or any(reason for _, reason in waiting) or not (waiting or not machine.running(guest))

        await self.until(settled, CONNECT_S)
        if guest.crashed:
            raise XnetError(f"{guest.name} has crashed")
        if waiting := missing():
            raise XnetError("; ".join(f"{where}: {reason or 'no progress'}" for where, reason in waiting))

    async def until(self, done: Callable[[], bool], seconds: float = CLOSE_S) -> bool:
        """Wait until something is so; False when it is not in time, or the machine is ending."""
        end = asyncio.get_running_loop().time() + seconds
        while not done():
            if self.ending or asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(LOOK_S)
        return True


def vif_of(guest: Guest, which: str) -> GuestVif:
    """A guest's vif by handle, device name or MAC. XnetError names those there are."""
    for vif in guest.vifs.values():
        if which.lower() in (str(vif.handle), vif.device, vif.spec.mac):
            return vif
    there = ", ".join(f"{vif.handle} ({vif.device}, {vif.spec.mac})" for vif in guest.vifs.values()) or "none"
    raise XnetError(f"{guest.name} has no vif {which}; it has {there}")
