"""A guest without buffers: frames wait within a bound and an age, are dropped by name past them, and all recovers."""

from __future__ import annotations

import pytest

from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

BOUND = 128 * 4096
AGE_S = 10


@pytest.fixture
def starved(world: World) -> tuple[World, Vif, FrontByHand]:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    return world, vif, hand


def test_frames_wait_for_buffers_and_come_in_order(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    frames = [plain(60 + i) for i in range(30)]
    world.deliver(vif, *frames[:10])
    world.deliver(vif, *frames[10:])
    assert hand.arrived() == []
    assert vif.netback.statistics()["rx_defer"] == 30
    hand.post(12)
    assert hand.rx.indices[1] == 13, "it asks to be woken for the next buffer"
    hand.post(50)
    assert [data for *_, data in hand.arrived()] == frames
    assert vif.netback.statistics()["rx_drops"] == 0
    assert vif.netback.queues[0].waiting_bytes == 0


def test_a_frame_is_never_begun_without_buffers_for_all_of_it(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    world.deliver(vif, plain(9000))
    hand.post(2)
    assert hand.arrived() == []
    hand.post(1)
    assert b"".join(data for *_, data in hand.arrived()) == plain(9000)


def test_what_came_later_does_not_overtake_what_waits(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    hand.post(1)
    world.deliver(vif, plain(9000), plain(60))
    assert hand.arrived() == []
    hand.post(3)
    assert [len(data) for *_, data in hand.arrived()] == [4096, 4096, 808, 60]


def test_past_the_bound_frames_are_dropped_by_name(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    kept = BOUND // 60000
    for _ in range(kept + 5):
        world.deliver(vif, plain(60000))
    counted = vif.netback.statistics()
    assert (counted["rx_defer"], counted["rx_queue_full"], counted["rx_drops"]) == (kept, 5, 5)
    hand.post(200)
    assert sum(len(data) for *_, data in hand.arrived()) == kept * 60000
    world.deliver(vif, plain(60))
    assert [data for *_, data in hand.arrived()] == [plain(60)], "all recovers"


def test_what_waited_too_long_is_dropped_by_name(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    world.deliver(vif, plain(60))
    world.tick(5)
    world.deliver(vif, plain(61))
    world.tick(AGE_S - 6)
    assert vif.netback.statistics().get("rx_drain_timeout", 0) == 0
    world.tick()
    assert vif.netback.statistics()["rx_drain_timeout"] == 1
    hand.post(5)
    assert [data for *_, data in hand.arrived()] == [plain(61)]


def test_a_guest_that_will_not_say_when_it_posts_is_not_waited_for(world: World) -> None:
    """Without feature-rx-notify a frame waits for 30 ms, and nobody is taken for stalled."""
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"feature-rx-notify": "0"})
    assert vif.hub.up
    world.deliver(vif, plain(60))
    world.pass_time(0.02)
    assert vif.netback.statistics()["rx_drops"] == 0
    world.deliver(vif, plain(61))
    world.pass_time(0.015)
    assert vif.netback.statistics()["rx_drain_timeout"] == 1
    hand.xen.mask(hand.ports[0])
    silent, hand.ports = hand.ports, [hand.xen.alloc_unbound(0)]
    hand.post(5)
    hand.ports = [*silent, *hand.ports]
    assert hand.arrived() == []
    world.pass_time(0.015)
    assert [data for *_, data in hand.arrived()] == [plain(61)], "looked at when its time is over"
    world.tick(100)
    assert vif.hub.up


def test_a_guest_that_posts_buffers_without_a_word_is_found_by_the_tick(
    starved: tuple[World, Vif, FrontByHand],
) -> None:
    world, vif, hand = starved
    world.deliver(vif, plain(60))
    hand.xen.mask(hand.ports[0])
    silent, hand.ports = hand.ports, [hand.xen.alloc_unbound(0)]
    hand.post(5)
    hand.ports = [*silent, *hand.ports]
    assert hand.arrived() == []
    world.tick()
    assert [data for *_, data in hand.arrived()] == [plain(60)]


def test_no_buffers_means_no_room_and_the_link_is_told_when_there_are(
    starved: tuple[World, Vif, FrontByHand],
) -> None:
    _, vif, hand = starved
    client = vif.hub.client
    assert client is not None
    assert client.room() == 0  # type: ignore[unreachable]
    ready = vif.hub.ready
    hand.post(1)
    assert vif.hub.ready > ready
    assert client.room() == 1
    hand.post(100)
    assert client.room() == 101


def test_a_guest_is_woken_only_for_the_buffers_that_are_needed(starved: tuple[World, Vif, FrontByHand]) -> None:
    """req_event says when: one more buffer than there are, while a frame waits."""
    world, vif, hand = starved
    hand.post(4)
    world.deliver(vif, plain(65535))
    assert hand.rx.indices[1] == 5
    hand.post(12)
    assert hand.arrived()[-1][3] == 65535 - 15 * 4096
    assert vif.netback.statistics()["rx_drops"] == 0


def test_what_waits_is_dropped_by_name_when_the_frontend_goes(starved: tuple[World, Vif, FrontByHand]) -> None:
    world, vif, hand = starved
    world.deliver(vif, plain(60), plain(61))
    hand.write("state", "5")
    counted = vif.netback.statistics()
    assert (counted["rx_disconnected"], counted["rx_drops"]) == (2, 2)


@pytest.mark.parametrize("size", [65536, 70000])
def test_a_frame_larger_than_sizes_can_say_is_dropped_by_name(
    starved: tuple[World, Vif, FrontByHand], size: int
) -> None:
    world, vif, hand = starved
    hand.post(40)
    world.deliver(vif, plain(size), plain(60))
    assert [data for *_, data in hand.arrived()] == [plain(60)]
    assert vif.netback.statistics()["oversize"] == 1
