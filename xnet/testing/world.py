"""World: a whole Xen host without asyncio and without devices; time stands still unless somebody steps.

Guests have a `Wire` instead of a TAP: what the test sends goes in at `Wire.send`, what arrives is in `Wire.received`.
The other end of a vif is a `Hub`, a link that keeps what the guest sent and passes it to other hubs' clients on
demand. Everything between is the real thing: memfd memory with remapped windows, grants, channels, xenstore, drivers.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self

from xnet.abi.xen import PAGE_SIZE
from xnet.engine.xen_host import GuestDomain, XenHost
from xnet.frame import Chain, Client, Link, own
from xnet.frame.offload import Accepts
from xnet.host.memory import MachineMemory
from xnet.netif import Features, FrontQueue, Netback, Netfront
from xnet.xenstore import Conversation, Read, Rm, Session, Write, listing, local_session
from xnet.xenstore.toolstack import add_vif, destroy_vif, remove_vif


def single(op: Any) -> Conversation[Any]:
    """A conversation of one request."""
    return (yield op)


Sent = tuple[int, bytes]
"""(offload word, frame)."""


class Wire(Client):
    """A guest's network card in a test: the frontend's nic."""

    def __init__(self) -> None:
        self.queue: FrontQueue | None = None
        self.accepts = Accepts()
        self.up = False
        self.received: list[Sent] = []

    @property
    def device(self) -> Client:
        """The wire itself."""
        return self

    def connected(self, queue: FrontQueue, accepts: Accepts) -> None:
        """The frontend is Connected."""
        self.queue, self.accepts = queue, accepts

    def carrier(self, on: bool) -> None:
        """The backend is Connected."""
        self.up = on

    def disconnected(self) -> None:
        """No queue any more."""
        self.queue, self.up = None, False

    def link_ready(self) -> None:
        """The queue has room again."""

    def room(self) -> int:
        """Always."""
        return 1 << 16

    def rx(self, chain: Chain) -> None:
        """Keep what arrives."""
        self.received += [(frame[0], chain.tobytes(frame)) for frame in chain.frames]

    def send(self, *frames: bytes, word: int = 0) -> int:
        """Put frames on the ring and notify; how many had room."""
        assert self.queue is not None, "not connected"
        done = 0
        for frame in frames:
            room = self.queue.reserve()
            if room is None:
                break
            self.queue.memory[room[0] : room[0] + len(frame)] = frame
            self.queue.commit(word, [len(frame)])
            done += 1
        self.queue.flush()
        return done


class Hub(Link):
    """A backend's link in a test. `peers` get what the guest sends; `sent` keeps a copy, unless it is `heads_only`."""

    def __init__(self, heads_only: bool = False) -> None:
        self.mtu = 1500
        self.heads_only = heads_only
        self.client: Client | None = None
        self.sent: list[Sent] = []
        self.peers: list[Hub] = []
        self.space = 1 << 16
        """What `room` says; who raises it from 0 calls ``client.link_ready()``."""
        self.ready = 0
        """How often the backend said that it has buffers again."""

    def tx(self, chain: Chain) -> None:
        """From the guest."""
        if not self.heads_only:
            self.sent += [(frame[0], chain.tobytes(frame)) for frame in chain.frames]
        for peer in self.peers:
            if peer.client is not None:
                peer.client.rx(chain)

    def room(self) -> int:
        """As the test has it."""
        return self.space

    def attach(self, client: Client | None) -> None:
        """The backend's queue comes or goes."""
        self.client = client

    def client_ready(self) -> None:
        """The guest has buffers."""
        self.ready += 1


class Vif:
    """Both ends of one vif of a world. `hotplug` False: the test plugs the link in (``netback.plug(hub)``)."""

    def __init__(
        self,
        world: World,
        guest: GuestDomain,
        handle: int,
        *,
        front: Features | None = None,
        back: Features | None = None,
        mode: Literal["copy", "map"] = "copy",
        heads_only: bool = False,
        hotplug: bool = True,
    ) -> None:
        self.world = world
        self.guest = guest
        self.handle = handle
        self.front = front or Features()
        self.back = back or Features()
        self.mode = mode
        self.hotplug = hotplug
        self.wire = Wire()
        self.hub = Hub(heads_only)
        self.gone = 0
        """How often the backend said that it is over: once, in a life."""
        self.netback = self.make_netback()
        self.netfront = Netfront(guest.domain, guest.client.session, handle, self.wire, features=self.front)

    def make_netback(self) -> Netback:
        """A fresh backend driver for this vif, not started."""
        host = self.world.host
        domid = self.guest.domain.domid
        return Netback(
            host.dom0,
            host.session,
            domid,
            self.handle,
            arena=host.arena,
            hotplug=lambda netback: netback.plug(self.hub) if self.hotplug else None,
            gone=self.on_gone,
            features=self.back,
            tx_mode=self.mode,
        )

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

    def __init__(self, *, machine_pages: int = 8192, heap_pages: int = 512) -> None:
        self.memory = MachineMemory(machine_pages)
        self.errors: list[tuple[int, Exception]] = []
        self.host = XenHost(
            self.memory,
            heap_pages=heap_pages,
            dom0_pages=1280,
            report=lambda domid, error: self.errors.append((domid, error)),
        )
        self.vifs: list[Vif] = []
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
        front: Features | None = None,
        back: Features | None = None,
        mode: Literal["copy", "map"] = "copy",
        heads_only: bool = False,
        hotplug: bool = True,
        start: Literal["both", "front", "back", "none"] = "both",
    ) -> Vif:
        """A vif: the toolstack's directories, and the drivers that are to `start`, run until nothing moves."""
        domid = guest.domain.domid
        self.plan(domid, handle)
        vif = Vif(self, guest, handle, front=front, back=back, mode=mode, heads_only=heads_only, hotplug=hotplug)
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
            for vif in self.vifs:
                vif.netback.tick()
            self.step()

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
