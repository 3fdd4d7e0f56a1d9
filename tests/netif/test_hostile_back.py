"""Hostile backends: a frontend makes of each what the real one would, loses nothing to it, and takes another one."""

from __future__ import annotations

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.abi.xen.ring import REQ_PROD
from xnet.netif.profile import FRONTENDS
from xnet.testing import BackByHand, World
from xnet.testing.frames import plain
from xnet.testing.rogue import FRAME, GOOD, OKAY
from xnet.testing.rogue_back import ALL, BACKENDS, FLIPPING, outstanding, rx

pytestmark = pytest.mark.integration

POISON = b"\xde\xad\xbe\xef"
SECRET = b"\x5c" * 8
OUT = (b"\x5c" * 60, b"\x5c" * 9000, b"\x5c" * 100)
"""What the guest sends before a backend does its worst."""


class Stage:
    """Two honest guests, and one whose backend is not."""

    def __init__(self, world: World, profile: str = "linux", rx_mode: str = "copy", queues: int = 1) -> None:
        self.world = world
        self.one, self.two = world.pair()
        guest = world.guest("victim", 2048)
        self.domain = guest.domain
        self.free = self.domain.alloc_pages(64)
        self.domain.window[self.free : self.free + 64 * PAGE_SIZE] = POISON * (16 * PAGE_SIZE)
        self.had = self.books()
        self.flips = rx_mode == "flip"
        self.vif = world.vif(guest, start="front", front_profile=profile, rx_mode=rx_mode, queues=queues)
        self.hands = [BackByHand(world, guest, queue=i if queues > 1 else None) for i in range(queues)]
        self.hand = self.hands[-1]
        self.index = queues - 1

    def books(self) -> tuple[int, int]:
        """What the victim has in use of its pages and references."""
        return self.domain.pages_used, self.domain.grefs_used

    def connect(self) -> None:
        self.world.write(f"{self.vif.back_home}/multi-queue-max-queues", str(len(self.hands)))
        self.hands[0].offer(rx_flip=str(int(self.flips)), rx_copy=str(int(not self.flips)))
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
        for here, there in ((self.one, self.two), (self.two, self.one)):
            there.wire.received.clear()
            frames = [plain(60 + size) for size in range(0, 3000, 300)]
            assert here.wire.send(*frames) == len(frames)
            self.world.step()
            assert there.wire.received == [(0, frame) for frame in frames]

    def alive(self) -> None:
        """A frame passes each way of the rogue's queue."""
        self.vif.wire.received.clear()
        outstanding(self.hand)
        assert self.vif.wire.send(plain(77), index=self.index) == 1
        self.hand.respond(*[(ident, OKAY) for ident, _ in outstanding(self.hand)])
        rx((0, 0, FRAME))(self.hand)
        assert self.vif.wire.received == [(0, GOOD)]
        assert not self.vif.netfront.broken

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
        self.vif.wire.received.clear()
        assert self.vif.wire.send(plain(77)) == 1
        self.world.step()
        assert self.vif.hub.sent == [(0, plain(77))]
        self.world.deliver(self.vif, plain(78))
        self.world.step()
        assert self.vif.wire.received == [(0, plain(78))]
        netback.stop()
        netfront.stop()
        self.world.step()
        assert self.books() == self.had


WAYS = [("linux", "copy", 1), ("linux", "flip", 1), ("linux", "copy", 2), ("linux", "flip", 2)]
WAYS += [(profile, "copy", 1) for profile in FRONTENDS if profile != "linux"]
CASES = [(name, *way) for name in BACKENDS for way in WAYS if way[1] == "copy" or name != "an rx page kept"]
CASES += [(name, *way) for name in FLIPPING for way in WAYS if way[1] == "flip"]


@pytest.mark.parametrize(("name", "profile", "rx_mode", "queues"), CASES)
def test_a_rogue_gets_what_the_real_one_gives_it(
    world: World, name: str, profile: str, rx_mode: str, queues: int
) -> None:
    outcome = (BACKENDS | FLIPPING)[name]
    stage = Stage(world, profile, rx_mode, queues)
    stage.connect()
    netfront, wire, hand = stage.vif.netfront, stage.vif.wire, stage.hand
    assert wire.send(*OUT, index=stage.index) == len(OUT)
    world.step()
    out = hand.tx.indices[REQ_PROD]
    before = stage.untouched()
    outcome.act(hand)
    after = stage.untouched()
    if profile == "illumos" and wire.queues:
        wire.send(*[OUT[0]] * 200)  # it looks at answers when it needs room
    assert [mfn for mfn in before.keys() & after.keys() if before[mfn] != after[mfn]] == []
    assert world.errors == []
    assert netfront.state.name == "Connected", "the state does not change, as in Linux"
    reason = outcome.others.get(profile, outcome.reason)
    assert netfront.broken is bool(reason), netfront.reason
    assert reason in netfront.reason
    for _, frame in wire.received:
        assert POISON not in frame, "bytes that were never granted"
        assert SECRET not in frame, "bytes of a frame that was sent"
    if reason:
        assert f"d3: device/vif/0: {netfront.reason}" in world.console()
        assert wire.queues == [], "nothing more is sent"
        sent = [(hand.tx.indices[word], hand.rx.indices[word]) for word in (0, 3)]
        for each in stage.hands:
            for port in each.ports:
                each.xen.send(port)
        world.step()
        assert sent == [(hand.tx.indices[word], hand.rx.indices[word]) for word in (0, 3)], "nor looked at"
    else:
        counted = netfront.statistics()
        bad = outcome.judged.get(profile, outcome.rx_errors)
        assert counted["rx_errors"] == bad
        assert len(wire.received) == outcome.frames + outcome.rx_errors - bad
        assert counted["tx_errors"] + counted.get("tx_dropped", 0) == (
            out if outcome.tx_errors == ALL else outcome.tx_errors
        )
        if outcome.alive:
            stage.alive()
    stage.exchange()
    stage.come_back()
    stage.exchange()
