"""World: a whole Xen host without asyncio and without devices; time stands still unless somebody steps.

Guests have a `Wire` instead of a TAP: what the test sends goes in at `Wire.send`, what arrives is in `Wire.received`.
The other end of a vif is a `Hub`, a link that keeps what the guest sent and passes it to other hubs' clients on
demand. Everything between is the real thing: memfd memory with remapped windows, grants, channels, xenstore, drivers.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from xnet.abi.xen import PAGE_SIZE
from xnet.engine.check import accounts
from xnet.engine.xen_host import GuestDomain, XenHost
from xnet.frame import Chain, own
from xnet.host.memory import MachineMemory
from xnet.hv.api import Xen
from xnet.netif import Features, Netback, Netfront
from xnet.netif.lent import try_again
from xnet.netif.patience import DRAIN_S, STALL_S
from xnet.netif.profile import BACKENDS, FRONTENDS
from xnet.testing.clock import HandClock
from xnet.testing.meddle import Turn, meddled
from xnet.testing.wire import Hub, Wire
from xnet.xenstore import Conversation, Read, Rm, Session, Write, listing, local_session
from xnet.xenstore.toolstack import add_vif, destroy_vif, remove_vif


def single(op: Any) -> Conversation[Any]:
    """A conversation of one request."""
    return (yield op)


class Vif:
    """Both ends of one vif of a world. `hotplug` False: the test plugs the link in (``netback.plug(hub)``);
    `multicast`: the frontend asks for multicast control; `control`: it has a control ring; `between` has a
    turn at each of the drivers' hypercalls."""

    def __init__(
        self,
        world: World,
        guest: GuestDomain,
        handle: int,
        *,
        front: Features | None = None,
        back: Features | None = None,
        mode: Literal["copy", "map"] = "copy",
        rx_mode: Literal["copy", "flip"] = "copy",
        multicast: bool = False,
        control: bool = False,
        heads_only: bool = False,
        hotplug: bool = True,
        front_profile: str = "linux",
        back_profile: str = "linux",
        vnic: bool = False,
        headroom: int = 0,
        drain_s: float = DRAIN_S,
        stall_s: float = STALL_S,
        queues: int = 1,
        max_queues: int = 0,
        between: Turn | None = None,
    ) -> None:
        self.world = world
        self.guest = guest
        self.handle = handle
        flip = rx_mode == "flip"
        self.front = replace(front or Features(), rx_copy=not flip, rx_flip=flip, multicast_control=multicast)
        self.front = replace(self.front, ctrl_ring=control)
        self.back = replace(back or Features(), rx_flip=flip)
        self.mode = mode
        self.hotplug = hotplug
        self.front_profile = FRONTENDS[front_profile]
        self.back_profile = BACKENDS[back_profile]
        self.vnic = vnic
        self.headroom = headroom
        self.drain_s, self.stall_s = drain_s, stall_s
        self.between = between
        self.max_queues = max_queues or queues
        self.wire = Wire(queues)
        self.hub = Hub(heads_only)
        self.gone = 0
        """How often the backend said that it is over: once, in a life."""
        self.netback = self.make_netback()
        self.netfront = self.make_netfront()

    def make_netfront(self) -> Netfront:
        """A fresh frontend driver for this vif, not started."""
        guest = self.guest
        return Netfront(
            self.door(guest.domain),
            guest.client.session,
            self.handle,
            self.wire,
            features=self.front,
            profile=self.front_profile,
            headroom=self.headroom,
        )

    def make_netback(self) -> Netback:
        """A fresh backend driver for this vif, not started."""
        host = self.world.host
        domid = self.guest.domain.domid
        return Netback(
            self.door(host.dom0),
            host.session,
            domid,
            self.handle,
            arena=host.arena,
            clock=self.world.clock,
            hotplug=lambda netback: netback.plug(self.hub) if self.hotplug else None,
            gone=self.on_gone,
            features=self.back,
            tx_mode=self.mode,
            profile=self.back_profile,
            vnic=self.vnic,
            drain_s=self.drain_s,
            stall_s=self.stall_s,
            max_queues=self.max_queues,
        )

    def door(self, xen: Xen) -> Xen:
        """A driver's way to the hypervisor."""
        return xen if self.between is None else meddled(xen, self.between)

    def on_gone(self, _: Netback) -> None:
        """The backend device ended."""
        self.gone += 1

    def restart_backend(self) -> None:
        """The backend driver dies without a word, and another takes its place."""
        self.netback.stop()
        self.netback = self.make_netback()
        self.netback.start()

    @property
    def front_home(self) -> str:
        """The frontend's directory."""
        return f"/local/domain/{self.guest.domain.domid}/device/vif/{self.handle}"

    @property
    def back_home(self) -> str:
        """The backend's directory."""
        return f"/local/domain/0/backend/vif/{self.guest.domain.domid}/{self.handle}"

    @property
    def connected(self) -> bool:
        """Both ends say so."""
        return self.netback.state.name == self.netfront.state.name == "Connected"


class World:
    """A host and its guests. ``with World() as world``; on leaving everything is buried and must be accounted for."""

    def __init__(self, *, machine_pages: int = 10240, heap_pages: int = 512) -> None:
        self.memory = MachineMemory(machine_pages)
        self.errors: list[tuple[int, Exception]] = []
        self.host = XenHost(
            self.memory,
            heap_pages=heap_pages,
            dom0_pages=2304,
            report=lambda domid, error: self.errors.append((domid, error)),
        )
        self.vifs: list[Vif] = []
        self.clock = HandClock()
        self.store: Session = local_session(self.host.store)
        """A privileged session of the test's own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            for vif in self.vifs:
                vif.netback.stop()  # first: then the frontend's pages are all its own again
                vif.netfront.stop()
            self.step()
            self.retry()
            kept = [text for guest in self.host.guests.values() for text in guest.domain.deferred]
            assert not kept, f"nobody has them any more, and they are in use: {kept}"
            for domid in sorted(self.host.guests):
                self.host.destroy_guest(domid)
            self.step()
            leaks = self.host.leaks()
            assert not leaks, leaks
            assert not self.errors, self.errors
        self.host.close()
        self.memory.close()

    def step(self) -> None:
        """Run until nobody has anything to do."""
        while self.host.hypervisor.step(1 << 20):
            pass

    def guest(self, name: str, pages: int = 1024) -> GuestDomain:
        """A guest without a vif."""
        guest = self.host.create_guest(name, pages)
        self.step()
        return guest

    def vif(
        self,
        guest: GuestDomain,
        handle: int = 0,
        *,
        start: Literal["both", "front", "back", "none"] = "both",
        **options: Any,
    ) -> Vif:
        """A vif: the toolstack's directories, and the drivers that are to `start`, run until nothing moves. `options`
        are `Vif`'s."""
        self.plan(guest.domain.domid, handle)
        vif = Vif(self, guest, handle, **options)
        self.vifs.append(vif)
        if start in ("both", "back"):
            vif.netback.start()
        if start in ("both", "front"):
            vif.netfront.start()
        self.step()
        return vif

    def plan(self, domid: int, handle: int = 0) -> None:
        """The toolstack's directories of a vif, and no driver."""
        self.host.session.run(add_vif(domid, handle, mac=f"00:16:3e:00:00:{domid:02x}", bridge="xenbr0"))

    def pair(self, **options: Any) -> tuple[Vif, Vif]:
        """Two guests with a vif each, their hubs joined."""
        one, two = self.vif(self.guest("a"), **options), self.vif(self.guest("b"), **options)
        one.hub.peers.append(two.hub)
        two.hub.peers.append(one.hub)
        return one, two

    def unplug(self, vif: Vif) -> None:
        """Ask a backend to close for good, as the toolstack does, and remove its directories."""
        domid, handle = vif.guest.domain.domid, vif.handle
        self.host.session.run(remove_vif(domid, handle))
        self.step()
        self.host.session.run(destroy_vif(domid, handle))
        self.step()

    def check(self) -> list[str]:
        """What is nobody's (`xnet.engine.check`); to be asked when nothing moves."""
        fronts: dict[int, list[Netfront]] = {domid: [] for domid in self.host.guests}
        for vif in self.vifs:
            fronts[vif.guest.domain.domid].append(vif.netfront)
        return [*accounts(self.host, fronts, [vif.netback for vif in self.vifs])]

    def crash(self, guest: GuestDomain) -> None:
        """A guest is destroyed as it runs, its drivers unasked."""
        for vif in self.vifs:
            if vif.guest is guest:
                vif.wire.disconnected()
        self.vifs = [vif for vif in self.vifs if vif.guest is not guest]
        self.host.destroy_guest(guest.domain.domid)
        self.step()

    def tick(self, seconds: int = 1) -> None:
        """Time passes for the backends."""
        for _ in range(seconds):
            self.pass_time(1)
            self.host.hypervisor.tick()
            self.retry()
            for vif in self.vifs:
                vif.netback.tick()
            self.step()

    def retry(self) -> None:
        """Guests try to get back what backends still used."""
        for guest in self.host.guests.values():
            try_again(guest.domain)

    def pass_time(self, seconds: float) -> None:
        """Time passes for the drivers' timers, in steps in which the world moves."""
        end = self.clock.time + seconds
        while timers := [timer.when for timer in self.clock.timers if timer.when <= end]:
            self.clock.run_until(min(timers))
            self.step()
        self.clock.run_until(end)

    # --- the store, as the toolstack sees it

    def ask(self, conversation: Conversation[Any]) -> Any:
        """Have a conversation with the store; its result. StoreError."""
        found: list[Any] = []
        self.store.run(conversation, found.append)
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def read(self, path: str) -> str | None:
        """A node's value."""
        value: str | None = self.ask(single(Read(path)))
        return value

    def write(self, path: str, value: str) -> None:
        """Poke a node; the world has not moved yet."""
        self.ask(single(Write(path, value)))

    def remove(self, path: str) -> None:
        """Remove a node and what is below."""
        self.ask(single(Rm(path)))

    def keys(self, path: str) -> dict[str, str | None]:
        """A directory's nodes and their values."""
        return {name: self.read(f"{path}/{name}") for name in self.ask(listing(path)) or []}

    def record(self, *paths: str) -> list[tuple[str, str | None]]:
        """From now on, every change below the paths as (path, value), None for one that went; a list that grows."""
        journal: list[tuple[str, str | None]] = []
        watching: list[bool] = []

        def changed(path: str, _: str) -> None:
            if watching:
                eyes.run(single(Read(path)), lambda value: journal.append((path, value)))

        eyes = local_session(self.host.store)
        for path in paths:
            eyes.watch(path, changed)
        watching.append(True)
        return journal

    def console(self) -> str:
        """The hypervisor's console ring."""
        return "\n".join(self.host.hypervisor.console_lines())

    def deliver(self, vif: Vif, *frames: bytes, word: int = 0) -> None:
        """Frames toward the guest, out of dom0's memory."""
        arena, client = self.host.arena, vif.hub.client
        assert client is not None, "the backend is not connected"
        mark = arena.mark()
        chain = Chain(arena.memory)
        for frame in frames:
            addr = arena.alloc(max(len(frame), PAGE_SIZE))
            arena.memory[addr : addr + len(frame)] = frame
            chain.frames.append(own(word, addr, len(frame)))
        client.rx(chain)
        arena.release(mark)
