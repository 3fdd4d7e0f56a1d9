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
from xnet.frame import Chain, Client, own
from xnet.frame.offload import Accepts
from xnet.host.memory import MachineMemory
from xnet.netif import Features, FrontQueue, Netback, Netfront
from xnet.xenstore.toolstack import add_vif, destroy_vif, remove_vif

Sent = tuple[int, bytes]
"""(offload word, frame)."""


class Wire:
    """A guest's network card in a test: the frontend's nic."""

    def __init__(self) -> None:
        self.queue: FrontQueue | None = None
        self.accepts = Accepts()
        self.up = False
        self.received: list[Sent] = []

    def connected(self, queue: FrontQueue, accepts: Accepts) -> None:
        """The frontend is Connected."""
        self.queue, self.accepts = queue, accepts

    def carrier(self, on: bool) -> None:
        """The backend is Connected."""
        self.up = on

    def disconnected(self) -> None:
        """No queue any more."""
        self.queue, self.up = None, False

    def ready(self) -> None:
        """The queue has room again."""

    def rx(self, chain: Chain) -> None:
        """Keep what arrives."""
        self.received += [(frame[0], chain.tobytes(frame)) for frame in chain.frames]

    def send(self, *frames: bytes, word: int = 0) -> int:
        """Put frames on the ring and notify; how many had room."""
        assert self.queue is not None, "not connected"
        done = 0
        for frame in frames:
            view = self.queue.reserve()
            if view is None:
                break
            view[: len(frame)] = frame
            self.queue.commit(word, len(frame))
            done += 1
        self.queue.flush()
        return done


class Hub:
    """A backend's link in a test. `peers` get what the guest sends; `sent` keeps a copy."""

    def __init__(self) -> None:
        self.mtu = 1500
        self.client: Client | None = None
        self.sent: list[Sent] = []
        self.peers: list[Hub] = []
        self.space = 1 << 16

    def tx(self, chain: Chain) -> None:
        """From the guest."""
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
        """Nobody waits here."""


class Vif:
    """Both ends of one vif of a world."""

    def __init__(
        self, world: World, guest: GuestDomain, handle: int, front: Features, back: Features, mode: Any
    ) -> None:
        self.wire = Wire()
        self.hub = Hub()
        self.gone = False
        self.netback = Netback(
            world.host.dom0,
            world.host.session,
            guest.domain.domid,
            handle,
            arena=world.host.arena,
            hotplug=lambda netback: netback.plug(self.hub),
            gone=self.on_gone,
            features=back,
            tx_mode=mode,
        )
        self.netfront = Netfront(guest.domain, guest.client.session, handle, self.wire, features=front)

    def on_gone(self, _: Netback) -> None:
        """The backend device ended."""
        self.gone = True

    @property
    def connected(self) -> bool:
        """Both ends say so."""
        return self.netback.state.name == self.netfront.state.name == "Connected"


class World:
    """A host and its guests. ``with World() as world``; on leaving everything is buried and must be accounted for."""

    def __init__(self, *, machine_pages: int = 16384, heap_pages: int = 512) -> None:
        self.memory = MachineMemory(machine_pages)
        self.errors: list[tuple[int, Exception]] = []
        self.host = XenHost(
            self.memory,
            heap_pages=heap_pages,
            dom0_pages=2048,
            report=lambda domid, error: self.errors.append((domid, error)),
        )
        self.vifs: list[Vif] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            for vif in self.vifs:
                vif.netfront.stop()
                vif.netback.stop()
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

    def guest(self, name: str, pages: int = 2048) -> GuestDomain:
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
    ) -> Vif:
        """A vif, both drivers started; `step` connects it."""
        domid = guest.domain.domid
        self.host.session.run(add_vif(domid, handle, mac=f"00:16:3e:00:00:{domid:02x}", bridge="xenbr0"))
        vif = Vif(self, guest, handle, front or Features(), back or Features(), mode)
        self.vifs.append(vif)
        vif.netback.start()
        vif.netfront.start()
        self.step()
        return vif

    def pair(self, **options: Any) -> tuple[Vif, Vif]:
        """Two guests with a vif each, their hubs joined."""
        one, two = self.vif(self.guest("a"), **options), self.vif(self.guest("b"), **options)
        one.hub.peers.append(two.hub)
        two.hub.peers.append(one.hub)
        return one, two

    def unplug(self, vif: Vif) -> None:
        """Ask a backend to close for good, as the toolstack does, and remove its directories."""
        netback = vif.netback
        self.host.session.run(remove_vif(netback.domid, netback.handle))
        self.step()
        self.host.session.run(destroy_vif(netback.domid, netback.handle))
        self.step()

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
