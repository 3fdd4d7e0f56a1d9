"""Hostile peers: each gets what Linux gives it, touches nobody and leaves nothing; it may come back, or another."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RX_REQUEST
from xnet.testing import BackByHand, FrontByHand, Vif, World
from xnet.testing.frames import plain
from xnet.testing.rogue import FRONTENDS, GOOD, KEYS
from xnet.testing.stage import exchange
from xnet.testing.world import single
from xnet.xenstore import Write

pytestmark = pytest.mark.integration

POISON = b"\xde\xad\xbe\xef" * (PAGE_SIZE // 4)


class Scene:
    """Two honest guests, and one that is not, on the same host."""

    def __init__(self, world: World, mode: str = "copy") -> None:
        self.world = world
        self.one, self.two = world.pair()
        self.vif = world.vif(world.guest("rogue"), start="back", mode=mode)
        self.hand = FrontByHand(world, self.vif.guest)

    def connect(self) -> None:
        self.hand.connect()
        self.hand.post(32)

    def exchange(self) -> None:
        """The honest guests lose nothing."""
        exchange(self.world, self.one, self.two)

    def come_back(self) -> None:
        """A reconnect in order helps."""
        for state in ("5", "6"):
            self.hand.write("state", state)
        self.hand.close()
        self.hand = FrontByHand(self.world, self.vif.guest)
        self.hand.write("state", "1")
        self.hand.connect(keys={"multi-queue-num-queues": "1"})
        self.hand.post(32)
        assert self.vif.netback.state.name == "Connected"
        assert not self.vif.netback.disabled
        assert self.vif.netback.reason == ""
        assert alive(self.hand, self.vif)

    def foreign(self) -> dict[int, bytes]:
        """Every frame of the honest guests, and those of the rogue that it has not granted."""
        domain = self.vif.guest.domain
        mfns = domain.physmap.mfn
        granted = {mfns[addr // PAGE_SIZE] for _, addr in self.hand.granted}
        wanted = {self.one.guest.domain.domid, self.two.guest.domain.domid, domain.domid}
        machine = self.world.host.hypervisor.machine
        view = self.world.memory.view
        return {
            mfn: bytes(view[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE])
            for mfn, owner in enumerate(machine.owner)
            if owner in wanted and mfn not in granted
        }


def alive(hand: FrontByHand, vif: Vif) -> bool:
    vif.hub.sent.clear()
    hand.answers()
    hand.arrived()
    hand.put(*hand.frame([(plain(77), 0)]))
    hand.publish()
    if vif.hub.client is not None:
        hand.world.deliver(vif, plain(78))
    return vif.hub.sent == [(0, plain(77))] and [data for *_, data in hand.arrived()] == [plain(78)]


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("name", FRONTENDS)
def test_a_rogue_gets_what_linux_gives_it(world: World, name: str, mode: str) -> None:
    rogue = FRONTENDS[name]
    scene = Scene(world, mode)
    scene.connect()
    rogue.act(scene.hand)
    if scene.vif.hub.client is not None:
        world.deliver(scene.vif, plain(60))
    netback = scene.vif.netback
    assert world.errors == []
    assert netback.disabled == bool(rogue.reason)
    assert rogue.reason in netback.reason
    assert netback.state.name == "Connected", "the state does not change, as in Linux"
    if rogue.reason:
        assert f"vif3.0: {netback.reason}" in world.console()
    if not rogue.reason:
        assert tuple(status for _, status in scene.hand.answers()) == rogue.answers
        assert alive(scene.hand, scene.vif)
    else:
        assert scene.hand.answers() == []
        assert not scene.vif.hub.up
    scene.exchange()
    scene.come_back()
    scene.exchange()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["copy", "map"])
def test_what_a_rogue_did_not_grant_is_neither_read_nor_written(world: World, mode: str) -> None:
    scene = Scene(world, mode)
    scene.connect()
    xen = scene.hand.xen
    free = xen.alloc_pages(64)
    for page in range(64):
        xen.window[free + page * PAGE_SIZE : free + (page + 1) * PAGE_SIZE] = POISON
    for rogue in FRONTENDS.values():
        scene.vif.hub.sent.clear()
        before = scene.foreign()
        rogue.act(scene.hand)
        if scene.vif.hub.client is not None:
            world.deliver(scene.vif, plain(200), plain(9000))
        after = scene.foreign()
        changed = [mfn for mfn in before.keys() & after.keys() if before[mfn] != after[mfn]]
        assert changed == []
        for _, frame in scene.vif.hub.sent:
            assert set(frame) <= set(GOOD), "bytes that the rogue never sent"
        scene.come_back()
    xen.free_pages(free, 64)


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_make_no_sense_close_the_device_and_say_why(world: World, name: str) -> None:
    scene = Scene(world)
    scene.hand.connect(keys=KEYS[name])
    netback = scene.vif.netback
    assert netback.state.name == "Closing"
    assert netback.reason
    assert (world.read(f"/local/domain/0/error/{netback.nodename}/error") or "").endswith(netback.reason)
    assert netback.queues == []
    assert world.errors == []
    scene.exchange()
    scene.come_back()


@pytest.mark.parametrize("states", list(itertools.permutations("123456", 2)))
def test_states_in_any_order_leave_a_backend_that_still_works(world: World, states: tuple[str, ...]) -> None:
    scene = Scene(world)
    scene.hand.connect(state=states[0])
    for state in states[1:]:
        scene.hand.write("state", state)
    scene.hand.write("state", "rubbish")
    assert world.errors == []
    scene.exchange()
    scene.come_back()


BAD_BUFFERS: dict[str, Callable[[FrontByHand], int]] = {
    "read-only": lambda hand: hand.give(readonly=True)[0],
    "never granted": lambda hand: 500,
    "out of range": lambda hand: 0xFFFFFFFF,
}


@pytest.mark.parametrize("name", BAD_BUFFERS)
def test_a_buffer_that_cannot_be_written_is_answered_with_an_error(world: World, name: str) -> None:
    scene = Scene(world)
    scene.hand.connect()
    before = scene.foreign()
    scene.hand.post(8, refs=[BAD_BUFFERS[name](scene.hand)] * 8)
    world.deliver(scene.vif, plain(200))
    assert [status < 0 for _, _, _, status, _ in scene.hand.arrived()] == [True]
    assert {mfn: page for mfn, page in scene.foreign().items() if before.get(mfn, page) != page} == {}
    assert not scene.vif.netback.disabled
    scene.exchange()


STEPS: list[Callable[[FrontByHand], None]] = [
    lambda hand: hand.write("tx-ring-ref", str(hand.tx_ref)),
    lambda hand: hand.connect(state="1"),
    lambda hand: hand.write("state", "3"),
    lambda hand: hand.write("state", "4"),
    lambda hand: hand.post(8),
    lambda hand: hand.put(*hand.frame([(plain(60), 0)])),
    lambda hand: hand.publish(),
    lambda hand: hand.world.tick(),
    lambda hand: hand.write("state", "5"),
    lambda hand: hand.write("state", "6"),
    lambda hand: hand.write("state", "1"),
]


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_a_domain_may_die_between_any_two_steps(world: World, steps: int, mode: str) -> None:
    scene = Scene(world, mode)
    for step in STEPS[:steps]:
        step(scene.hand)
    if scene.vif.hub.client is not None:
        world.deliver(scene.vif, *[plain(9000)] * 9)
    scene.hand.tx.release()
    scene.hand.rx.release()
    world.crash(scene.vif.guest)
    world.tick(2)
    assert scene.vif.netback.queues == []
    scene.exchange()


@pytest.mark.slow
def test_ten_thousand_frames_for_who_never_takes_them_need_bounded_memory(world: World) -> None:
    scene = Scene(world)
    scene.hand.connect()
    tracemalloc.start()
    try:
        world.deliver(scene.vif, *[plain(1500)] * 20)
        peaks = []
        for _ in range(2):
            for _ in range(250):
                world.deliver(scene.vif, *[plain(1500)] * 20)
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 64 * 1024
    scene.exchange()


@pytest.mark.slow
def test_ten_thousand_bad_frames_need_bounded_memory(world: World) -> None:
    scene = Scene(world)
    scene.connect()
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(3):
            for _ in range(40):
                for _ in range(85):
                    FRONTENDS["reference 0xffffffff"].act(scene.hand)
                scene.hand.answers()
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 64 * 1024
    assert alive(scene.hand, scene.vif)


@pytest.mark.slow
def test_a_flood_of_the_store_stops_at_the_quota_and_hurts_nobody(world: World) -> None:
    scene = Scene(world)
    scene.connect()
    session = scene.vif.guest.client.session
    refused: list[str] = []

    def done(result: object) -> None:
        if isinstance(result, Exception):
            refused.append(str(result))

    for index in range(3000):
        session.run(single(Write(f"data/{index}", "x" * 100)), done)
        session.watch(f"data/{index}", lambda *_: None, done=done)
        world.step()
    session.run(single(Write("data/huge", "x" * 3000)), done)
    world.step()
    held = world.host.store.statistics()
    assert held.nodes < 1200
    assert held.watches < 200
    assert len(refused) > 4000
    scene.exchange()
    assert alive(scene.hand, scene.vif)


def test_a_posted_buffer_may_be_changed_at_any_time(world: World) -> None:
    """The backend reads a request once, when it needs it."""
    scene = Scene(world)
    scene.connect()
    for index in range(32):
        scene.hand.rx.slot(index)[:] = RX_REQUEST.pack(0xFFFF, 0xFFFF, 0xFFFFFFFF)
    world.deliver(scene.vif, *[plain(60)] * 8)
    assert [(ident, status < 0) for ident, _, _, status, _ in scene.hand.arrived()] == [(0xFFFF, True)] * 8
    assert not scene.vif.netback.disabled


@pytest.mark.parametrize("states", list(itertools.permutations("123456", 2)))
def test_a_backend_may_be_in_any_state_and_another_one_is_welcome(world: World, states: tuple[str, ...]) -> None:
    vif = world.vif(world.guest("a"), start="front")
    back = BackByHand(world, vif.guest)
    for state in (*states, "rubbish", ""):
        back.switch(state)
    world.remove(f"{vif.back_home}/state")
    world.step()
    assert world.errors == []
    vif.netfront.stop()
    world.write(f"{vif.front_home}/state", "1")
    world.write(f"{vif.back_home}/state", "1")
    vif.netback.start()
    vif.netfront = vif.make_netfront()
    vif.netfront.start()
    world.step()
    assert vif.connected
    assert vif.wire.send(plain(60)) == 1
    world.step()
    assert vif.hub.sent == [(0, plain(60))]
