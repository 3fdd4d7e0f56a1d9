"""A guest that posts no buffers for too long is stalled: no carrier toward the link, until there are enough of them."""

from __future__ import annotations

import pytest

from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

Starved = tuple[World, Vif, FrontByHand]


@pytest.fixture
def starved(world: World) -> Starved:
    vif = world.vif(world.guest("a"), start="back", drain_s=2.0, stall_s=5.0)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    return world, vif, hand


def room(vif: Vif) -> int:
    """What the link is told."""
    assert vif.hub.client is not None
    return vif.hub.client.room()


def test_there_is_no_carrier_before_the_first_buffers(starved: Starved) -> None:
    _, vif, hand = starved
    assert not vif.hub.up
    assert hand.rx.indices[1] == 1, "it asks to be woken for the first"
    hand.post(1)
    assert (vif.hub.up, vif.netback.carrier) == (True, True)


def test_a_frontend_that_posts_before_it_connects_has_a_carrier_at_once(world: World) -> None:
    vif = world.vif(world.guest("a"))
    assert vif.hub.up
    vif.netfront.close()
    world.step()
    assert not vif.hub.up
    vif.netfront.open()
    world.step()
    assert vif.hub.up


@pytest.mark.parametrize("frames_wait", [True, False])
def test_a_guest_without_buffers_for_too_long_stalls_and_recovers(starved: Starved, frames_wait: bool) -> None:
    """Whether frames wait here, or the link keeps them because there is no room."""
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(60))
    if frames_wait:
        world.deliver(vif, plain(9000))
    assert room(vif) == 0
    world.pass_time(4.9)
    assert vif.hub.up
    world.pass_time(0.2)
    assert not vif.hub.up
    assert vif.netback.statistics()["rx_stalled"] == 1
    world.pass_time(60)
    assert not vif.hub.up
    hand.post(3)
    assert vif.hub.up
    assert room(vif) == 3
    world.deliver(vif, plain(61))
    assert hand.arrived()[-1][-1] == plain(61)


def test_enough_buffers_are_those_for_the_first_frame_that_waits(starved: Starved) -> None:
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(60))
    room(vif)
    world.pass_time(4.0)
    world.deliver(vif, plain(9000))
    world.pass_time(1.1)
    assert not vif.hub.up
    hand.post(2)
    assert not vif.hub.up
    assert hand.rx.indices[1] == 1 + 3
    hand.post(1)
    assert vif.hub.up
    assert sum(len(data) for *_, data in hand.arrived()) == 9060


def test_a_guest_that_gets_frames_now_and_then_is_not_stalled(starved: Starved) -> None:
    world, vif, hand = starved
    hand.post(1)
    for _ in range(10):
        world.deliver(vif, plain(60))
        assert room(vif) == 0
        world.pass_time(3.0)
        hand.post(1)
    world.pass_time(60)
    assert vif.hub.up
    assert len(hand.arrived()) == 10


def test_past_the_drain_time_the_link_is_emptied_and_drops_have_names(starved: Starved) -> None:
    """As if they had waited here: what a link kept for a guest that is dead would be old when it wakes."""
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(60))
    assert room(vif) == 0
    ready = vif.hub.ready
    world.pass_time(2.1)
    assert vif.hub.ready > ready
    assert room(vif) > 0
    world.deliver(vif, plain(70))
    world.pass_time(2.1)
    assert vif.netback.statistics()["rx_drain_timeout"] == 1
    hand.post(1)
    assert room(vif) == 1
    world.deliver(vif, plain(80))
    assert [data for *_, data in hand.arrived()] == [plain(60), plain(80)]
    assert room(vif) == 0


def test_short_of_buffers_for_a_moment_is_not_out_of_time(starved: Starved) -> None:
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(60))
    assert room(vif) == 0
    world.pass_time(1.0)
    hand.post(1)
    world.deliver(vif, plain(60))
    assert room(vif) == 0
    world.pass_time(1.1)
    assert room(vif) == 0


def test_without_a_stall_time_nobody_stalls(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back", stall_s=0.0)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    assert vif.hub.up
    world.deliver(vif, plain(60))
    world.tick(100)
    assert vif.hub.up


def test_a_rogue_has_no_carrier_and_no_timers(starved: Starved) -> None:
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(60), plain(70))
    hand.publish(5000)
    assert vif.netback.disabled
    assert not vif.hub.up
    assert world.clock.timers == []
    world.pass_time(100)


def test_pulling_the_cable_takes_the_carrier(starved: Starved) -> None:
    _, vif, hand = starved
    hand.post(1)
    for cable in (False, True):
        vif.netback.plugged(cable)
        assert vif.hub.up is cable


def test_a_backend_that_is_restarted_keeps_the_carrier(world: World) -> None:
    vif = world.vif(world.guest("a"))
    vif.restart_backend()
    world.step()
    assert vif.hub.up
