"""Hostile backends in xenstore: whatever they write, or take away, a frontend waits, refuses or connects."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from xnet.abi.xen.xs_wire import XS_TRANSACTION_END, XS_TRANSACTION_START, XS_WRITE
from xnet.netif.profile import FRONTENDS
from xnet.testing import World
from xnet.testing.rogue_back import OFFERS, STATES
from xnet.testing.stage import Stage
from xnet.xenstore.wire import Parser, encode

pytestmark = pytest.mark.integration

FEATURES = ("feature-rx-copy", "feature-sg", "feature-split-event-channels", "feature-multicast-control")
FEATURES += ("feature-dynamic-multicast-control", "multi-queue-max-queues")


WAITED_OUT = [(state, profile) for state in STATES for profile in FRONTENDS if (state, profile) != ("3", "windows")]
"""Windows connects at Initialised."""


@pytest.mark.parametrize(("state", "profile"), WAITED_OUT)
def test_a_state_that_says_nothing_is_waited_out(world: World, state: str, profile: str) -> None:
    stage = Stage(world, profile)
    stage.hand.switch(state)
    assert world.errors == []
    assert stage.vif.netfront.state.name == "Initialising"
    assert stage.books() == stage.had
    stage.connect()
    stage.hand.switch(state)
    stage.exchange()
    stage.hand.detach()
    stage.renew()


@pytest.mark.parametrize("profile", FRONTENDS)
@pytest.mark.parametrize("name", OFFERS)
def test_whatever_a_backend_offers_a_frontend_has_the_queues_it_wants(world: World, name: str, profile: str) -> None:
    stage = Stage(world, profile)
    for key, value in OFFERS[name].items():
        world.write(f"{stage.vif.back_home}/{key}", value)
    stage.hand.connect(
        **{
            key.removeprefix("feature-").replace("-", "_"): value
            for key, value in OFFERS[name].items()
            if key.startswith("feature-")
        }
    )
    assert world.errors == []
    assert stage.vif.netfront.state.name == "Connected"
    assert len(stage.vif.netfront.queues) == 1
    stage.alive()
    stage.exchange()
    stage.come_back()


@pytest.mark.parametrize("mac", ["", "zz:zz:zz:zz:zz:zz", "00:16:3e:00:00", "00:16:3e:00:00:01:02", "0" * 3000, "\xff"])
@pytest.mark.parametrize("profile", ["freebsd", "illumos"])
def test_an_address_that_is_none_is_refused(world: World, mac: str, profile: str) -> None:
    stage = Stage(world, profile)
    world.remove(f"{stage.vif.front_home}/mac")
    world.write(f"{stage.vif.back_home}/mac", mac)
    stage.hand.offer()
    assert stage.vif.netfront.state is stage.vif.netfront.profile.failed
    assert stage.vif.netfront.reason == "parsing device/vif/0/mac"
    assert stage.vif.wire.mac == ""
    assert world.errors == []
    assert stage.books() == stage.had
    stage.exchange()


@pytest.mark.parametrize("profile", FRONTENDS)
def test_states_round_and_round_leave_nothing_behind(world: World, profile: str) -> None:
    stage = Stage(world, profile)
    stage.connect()
    queue = stage.vif.netfront.queue
    for _ in range(50):
        for state in "24":
            stage.hand.switch(state)
    assert stage.vif.netfront.queue is queue, "a connection is not begun twice"
    stage.alive()
    stage.hand.detach()
    for state in "56":
        stage.hand.switch(state)
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(3):
            for _ in range(10):
                for state in "2456":
                    stage.hand.switch(state)
                assert stage.books() == stage.had
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 32 * 1024
    assert world.errors == []
    stage.exchange()
    stage.renew()


def test_a_flood_of_watch_events_is_one_look(world: World) -> None:
    stage = Stage(world)
    stage.connect()
    home = stage.vif.back_home
    tracemalloc.start()
    try:
        world.write(f"{home}/state", "4")
        before = tracemalloc.get_traced_memory()[0]
        answered = world.host.store.statistics().requests
        for number in range(3000):
            world.write(f"{home}/state", "4")
            world.write(f"{home}/noise", "x" * (number % 500))
        assert tracemalloc.get_traced_memory()[0] - before < 64 * 1024
        world.step()
        assert world.host.store.statistics().requests - answered < 6000 + 20, "the frontend looked once, or twice"
    finally:
        tracemalloc.stop()
    assert not stage.vif.netfront.broken
    stage.exchange()
    stage.alive()
    stage.come_back()


def test_transactions_that_never_end_hold_nobody_up(world: World) -> None:
    stage = Stage(world)
    rogue = world.host.store.connect(0, privileged=True)
    for number in range(100):
        rogue.receive(encode(XS_TRANSACTION_START, 1, 0, b"\0"))
        *_, answer = Parser().feed(rogue.take())
        tx_id = int(answer.payload.rstrip(b"\0"))
        for key in ("state", "feature-sg", f"more-{number}"):
            rogue.receive(encode(XS_WRITE, 1, tx_id, f"{stage.vif.back_home}/{key}".encode() + b"\0" + b"6"))
    rogue.take()
    stage.connect()
    stage.alive()
    stage.exchange()
    rogue.receive(encode(XS_TRANSACTION_END, 1, tx_id, b"T\0"))
    [answer] = Parser().feed(rogue.take())
    assert answer.payload == b"EAGAIN\0"
    rogue.close()
    stage.come_back()


def without(*names: str) -> Callable[[Stage], None]:
    """Keys vanish."""

    def act(stage: Stage) -> None:
        for name in names:
            stage.world.remove(f"{stage.vif.back_home}/{name}")

    return act


def says(**keys: str) -> Callable[[Stage], None]:
    """Keys change."""

    def act(stage: Stage) -> None:
        for name, value in keys.items():
            stage.world.write(f"{stage.vif.back_home}/{name.replace('_', '-')}", value)

    return act


CHANGES: dict[str, Callable[[Stage], None]] = {
    "the features vanish": without(*FEATURES),
    "the state vanishes": without("state"),
    "everything vanishes": lambda stage: stage.world.remove(stage.vif.back_home),
    "it offers something else": says(feature_rx_copy="0", feature_split_event_channels="0", multi_queue_max_queues="0"),
    "it starts over": says(state="1"),
    "it closes": says(state="5"),
    "it is closed": says(state="6"),
}


@pytest.mark.slow
@pytest.mark.parametrize("profile", FRONTENDS)
@pytest.mark.parametrize("change", CHANGES)
def test_it_may_happen_between_any_two_steps_of_the_handshake(change: str, profile: str) -> None:
    step, over = 0, False
    while not over:
        with World(machine_pages=7168) as world:
            stage = Stage(world, profile, pages=1024)
            says(**{name.replace("-", "_"): "1" for name in FEATURES}, state="2")(stage)
            over = not all(world.host.hypervisor.step(1) for _ in range(step))
            CHANGES[change](stage)
            world.step()
            assert world.errors == []
            assert stage.vif.netfront.state.name in ("Initialising", "Connected", "Closing", "Closed")
            stage.exchange()
            stage.renew()
        step += 1 if profile == "linux" else 7
    assert step > 20
