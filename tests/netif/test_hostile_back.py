"""Hostile backends on the rings: a frontend makes of each what the real one would, loses nothing to it, and takes
another one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from xnet.abi.xen.ring import REQ_PROD
from xnet.netif.profile import FRONTENDS
from xnet.testing import BackByHand, World
from xnet.testing.frames import plain
from xnet.testing.rogue import FRAME, NULL
from xnet.testing.rogue_back import ALL, BACKENDS, FLIPPING, outstanding, rx
from xnet.testing.stage import OUT, POISON, SECRET, Stage

pytestmark = pytest.mark.integration

WAYS = [("linux", "copy", 1), ("linux", "flip", 1), ("linux", "copy", 2), ("linux", "flip", 2)]
WAYS += [(profile, "copy", 1) for profile in FRONTENDS if profile != "linux"]
CASES = [(name, *way) for name in BACKENDS for way in WAYS if way[1] == "copy" or name != "an rx page kept"]
CASES += [(name, *way) for name in FLIPPING for way in WAYS if way[1] == "flip"]


@pytest.mark.parametrize(("name", "profile", "rx_mode", "queues"), CASES)
def test_a_rogue_gets_what_the_real_one_gives_it(
    world: World, name: str, profile: str, rx_mode: Any, queues: int
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


# --- what takes longer


@pytest.mark.parametrize("profile", FRONTENDS)
def test_null_for_every_request_ends_in_a_full_ring(world: World, profile: str) -> None:
    """The slot is free again; page, id and block are not."""
    stage = Stage(world, profile)
    stage.connect()
    sent = []
    for _ in range(20):
        sent.append(stage.vif.wire.send(*[plain(60)] * 64))
        stage.hand.respond(*[(ident, NULL) for ident, _ in outstanding(stage.hand)])
    assert sum(sent) < 300
    assert sent[-1] == 0
    assert not stage.vif.netfront.broken
    stage.exchange()
    stage.come_back()


@pytest.mark.parametrize("profile", ["linux", "windows", "illumos"])
def test_null_for_every_group_ends_in_a_full_ring(world: World, profile: str) -> None:
    stage = Stage(world, profile, multicast=True)
    stage.connect(multicast_control="1", dynamic_multicast_control="1")
    wire, hand = stage.vif.wire, stage.hand
    assert wire.tell is not None
    for number in range(400):
        wire.tell(frozenset({bytes((1, 0, 94, 0, number >> 8, number & 255))}))
        hand.respond(*[(0, NULL) for _ in hand.requests()])
    assert stage.vif.netfront.queue is not None
    assert len(stage.vif.netfront.queue.dummies) <= 128
    assert not stage.vif.netfront.broken
    stage.exchange()
    stage.come_back()


@pytest.mark.parametrize("profile", FRONTENDS)
def test_who_never_answers_gets_a_ringful_and_no_more(world: World, profile: str) -> None:
    stage = Stage(world, profile)
    stage.connect()
    assert 60 < stage.vif.wire.send(*[plain(60)] * 300) <= 256
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert [stage.vif.wire.send(plain(60)) for _ in range(2000)] == [0] * 2000
        assert tracemalloc.get_traced_memory()[0] - before < 16 * 1024
    finally:
        tracemalloc.stop()
    stage.exchange()
    stage.come_back()


@pytest.mark.parametrize(("profile", "rx_mode"), [*((name, "copy") for name in FRONTENDS), ("linux", "flip")])
def test_who_never_lets_go_of_a_ring_runs_its_frontend_dry_and_nobody_else(
    world: World, profile: str, rx_mode: Any
) -> None:
    """Each connection costs the guest what the backend keeps of it; at last there is no more to connect with."""
    stage = Stage(world, profile, rx_mode, pages=900)
    netfront = stage.vif.netfront
    kept = []
    for _ in range(300):
        hand = BackByHand(world, stage.vif.guest)
        hand.offer(rx_flip=str(int(stage.flips)), rx_copy=str(int(not stage.flips)))
        if netfront.state.name != "Connected":
            break
        hand.attach()
        for state in "456":
            hand.switch(state)
        kept.append(hand)
    assert len(kept) > 5
    assert "ENOMEM" in netfront.reason
    assert netfront.state is netfront.profile.failed
    assert netfront.statistics()["grants_lost"] == 2 * len(kept)
    used, refs = stage.books()
    assert (used - stage.had[0], refs - stage.had[1]) == (2 * len(kept), 2 * len(kept)), "and nothing else is held"
    stage.exchange()
    for hand in kept:
        hand.detach()
    world.crash(stage.vif.guest)


@pytest.mark.slow
@pytest.mark.parametrize("profile", FRONTENDS)
def test_frames_that_are_wrong_for_ever_need_bounded_memory(world: World, profile: str) -> None:
    stage = Stage(world, profile)
    stage.connect()
    acts = [BACKENDS[name].act for name in ("an empty frame", "GSO of no type", "more that never comes", "200 extras")]
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(3):
            for _ in range(60):
                for act in acts:
                    act(stage.hand)
            stage.vif.wire.received.clear()
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 32 * 1024
    stage.alive()
    stage.exchange()
    stage.come_back()


DATA_STEPS: list[Callable[[Stage], object]] = [
    lambda stage: stage.hand.offer(),
    lambda stage: stage.hand.attach(),
    lambda stage: stage.hand.switch("4"),
    lambda stage: stage.vif.wire.queues and stage.vif.wire.send(*OUT),
    lambda stage: stage.hand.mappings.append(stage.hand.map(outstanding(stage.hand)[0][1], readonly=True)),
    lambda stage: rx((0, 0, FRAME))(stage.hand),
    lambda stage: stage.hand.switch("5"),
    lambda stage: stage.hand.switch("6"),
]


@pytest.mark.parametrize("profile", FRONTENDS)
@pytest.mark.parametrize("steps", range(len(DATA_STEPS) + 1))
def test_a_backend_may_die_between_any_two_steps(world: World, steps: int, profile: str) -> None:
    stage = Stage(world, profile)
    for step in DATA_STEPS[:steps]:
        step(stage)
    stage.hand.detach()
    world.remove(stage.vif.back_home)
    world.step()
    assert world.errors == []
    assert stage.vif.netfront.queues == []
    lost = stage.vif.netfront.statistics().get("grants_lost", 0)
    assert bool(lost) is (steps == len(DATA_STEPS)), "it said that it was Closed, and kept what it had"
    assert stage.books() == (stage.had[0] + lost, stage.had[1] + lost)
    stage.exchange()
    stage.renew()
