"""Stage: two honest guests, and a victim whose backend is a rogue; what is watched while that does its worst."""

from __future__ import annotations

from typing import Literal

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.testing.byhand import BackByHand
from xnet.testing.frames import plain
from xnet.testing.meddle import Turn
from xnet.testing.rogue import FRAME, GOOD, OKAY
from xnet.testing.rogue_back import outstanding, rx
from xnet.testing.world import Vif, World
from xnet.xenstore.toolstack import destroy_vif

POISON = b"\xde\xad\xbe\xef"
SECRET = b"\x5c" * 8
OUT = (b"\x5c" * 60, b"\x5c" * 9000, b"\x5c" * 100)
"""What the guest sends before a backend does its worst."""


def exchange(world: World, one: Vif, two: Vif) -> None:
    """Two honest guests lose nothing."""
    for here, there in ((one, two), (two, one)):
        there.wire.received.clear()
        frames = [plain(60 + size) for size in range(0, 3000, 300)]
        assert here.wire.send(*frames) == len(frames)
        world.step()
        assert there.wire.received == [(0, frame) for frame in frames]


class Stage:
    """Two honest guests, and one whose backend is not."""

    def __init__(
        self,
        world: World,
        profile: str = "linux",
        rx_mode: Literal["copy", "flip"] = "copy",
        queues: int = 1,
        *,
        pages: int = 2048,
        multicast: bool = False,
        between: Turn | None = None,
    ) -> None:
        """The victim's frontend is started; its backend is what `hands` do, one a queue."""
        self.world = world
        self.one, self.two = world.pair()
        guest = world.guest("victim", pages)
        self.domain = guest.domain
        free = self.domain.alloc_pages(64)
        self.domain.window[free : free + 64 * PAGE_SIZE] = POISON * (16 * PAGE_SIZE)
        self.had = self.books()
        self.flips = rx_mode == "flip"
        self.vif = world.vif(
            guest,
            start="front",
            front_profile=profile,
            rx_mode=rx_mode,
            queues=queues,
            multicast=multicast,
            between=between,
        )
        self.hands = [BackByHand(world, guest, queue=i if queues > 1 else None) for i in range(queues)]
        self.hand = self.hands[-1]
        self.index = queues - 1

    def books(self) -> tuple[int, int]:
        """What the victim has in use of its pages and references."""
        return self.domain.pages_used, self.domain.grefs_used

    def connect(self, **features: str) -> None:
        """The handshake, as it should be."""
        self.world.write(f"{self.vif.back_home}/multi-queue-max-queues", str(len(self.hands)))
        self.hands[0].offer(rx_flip=str(int(self.flips)), rx_copy=str(int(not self.flips)), **features)
        for hand in self.hands:
            hand.attach()
        self.hands[0].switch("4")
        assert self.vif.netfront.state.name == "Connected"
        assert len(self.vif.netfront.queues) == len(self.hands)

    def untouched(self) -> dict[int, bytes]:
        """Every frame of the honest guests, and those of the victim that it has not granted."""
        machine, domain, view = self.world.host.hypervisor.machine, self.domain, self.world.memory.view
        at = domain.grant_table_pfn * PAGE_SIZE
        entries = [
            GRANT_ENTRY_V1.unpack_from(domain.window, at + ref * GRANT_ENTRY_V1.size)
            for ref in range(len(domain.grant_table.frames) * 512)
        ]
        granted = {frame for flags, _, frame in entries if flags}
        wanted = {self.one.guest.domain.domid, self.two.guest.domain.domid, domain.domid}
        return {
            mfn: bytes(view[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE])
            for mfn, owner in enumerate(machine.owner)
            if owner in wanted and mfn not in granted
        }

    def exchange(self) -> None:
        """The honest guests lose nothing."""
        exchange(self.world, self.one, self.two)

    def alive(self) -> None:
        """A frame passes each way of the rogue's queue."""
        self.vif.wire.received.clear()
        outstanding(self.hand)
        assert self.vif.wire.send(plain(77), index=self.index) == 1
        self.hand.respond(*[(ident, OKAY) for ident, _ in outstanding(self.hand)])
        rx((0, 0, FRAME))(self.hand)
        assert self.vif.wire.received == [(0, GOOD)]
        assert not self.vif.netfront.broken

    def renew(self) -> None:
        """Another frontend and an honest backend begin anew, and leave nothing in use when they go."""
        vif, world = self.vif, self.world
        vif.netfront.stop()
        lost = vif.netfront.statistics().get("grants_lost", 0)
        assert self.books() == (self.had[0] + lost, self.had[1] + lost)
        self.had = self.books()
        world.host.session.run(destroy_vif(self.domain.domid, vif.handle))
        world.plan(self.domain.domid)
        vif.netfront = vif.make_netfront()
        vif.netback.start()
        vif.netfront.start()
        world.step()
        assert vif.connected
        self.pass_and_leave()

    def come_back(self) -> None:
        """An honest backend takes over; then the guest leaves, with all that it had."""
        home, netback, netfront = self.vif.back_home, self.vif.netback, self.vif.netfront
        self.hands[0].switch("5")
        assert netfront.state.name == "Closed"
        for hand in self.hands:
            hand.detach()
        self.hands[0].switch("6")
        assert self.books() == self.had
        netfront.open()
        self.world.write(f"{home}/state", "1")
        netback.start()
        self.world.step()
        assert self.vif.connected
        assert not netfront.broken
        assert netfront.reason == ""
        self.pass_and_leave()

    def pass_and_leave(self) -> None:
        """A frame each way, and everything is given back."""
        self.vif.wire.received.clear()
        assert self.vif.wire.send(plain(77)) == 1
        self.world.step()
        assert self.vif.hub.sent == [(0, plain(77))]
        self.world.deliver(self.vif, plain(78))
        self.world.step()
        assert self.vif.wire.received == [(0, plain(78))]
        self.vif.netback.stop()
        self.vif.netfront.stop()
        self.world.step()
        assert self.books() == self.had
