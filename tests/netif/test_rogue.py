"""A vif that was disabled, and guests that are odd within the rules; what hostile ones get is in `test_hostile`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xnet.abi.xen.netif import TX_REQUEST
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

MORE = 4


def jump(distance: int) -> Callable[[FrontByHand], None]:
    return lambda hand: hand.publish(hand.tx_prod + distance)


def no_such_buffers(distance: int) -> Callable[[FrontByHand], None]:
    def write(hand: FrontByHand) -> None:
        hand.rx.indices[0] = (hand.rx_prod + distance) & 0xFFFFFFFF
        hand.xen.send(hand.ports[-1])
        hand.world.step()
        hand.rx.indices[0] = (hand.rx_prod + distance) & 0xFFFFFFFF

    return write


def wired(world: World, mode: str = "copy") -> tuple[Vif, FrontByHand]:
    vif = world.vif(world.guest("rogue"), start="back", mode=mode)  # type: ignore[arg-type]
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(64)
    return vif, hand


def alive(hand: FrontByHand, vif: Vif) -> bool:
    """Whether a frame passes each way."""
    vif.hub.sent.clear()
    hand.put(*hand.frame([(plain(77), 0)]))
    hand.publish()
    if vif.hub.client is not None:
        hand.world.deliver(vif, plain(78))
    sent = vif.hub.sent == [(0, plain(77))]
    return sent and [data for *_, data in hand.arrived()] == [plain(78)]


@pytest.mark.parametrize("distance", [500, 0x80000000, -100])
@pytest.mark.parametrize("way", ["a frame", "room", "a tick"])
def test_rubbish_on_the_rx_ring_is_found_when_it_is_looked_at(world: World, distance: int, way: str) -> None:
    vif, hand = wired(world)
    if way == "a tick":
        world.deliver(vif, *[plain(60000)] * 5)  # the last waits for buffers
    client = vif.hub.client
    assert client is not None
    no_such_buffers(distance)(hand)
    if way == "a frame" and vif.hub.client is not None:
        world.deliver(vif, plain(60))
    elif way == "room":
        assert client.room() == 0
    else:
        world.tick()
    assert vif.netback.disabled
    assert "request producer past the ring" in vif.netback.reason
    assert world.errors == []


def test_nothing_more_is_read_from_a_disabled_ring(world: World) -> None:
    vif, hand = wired(world)
    jump(257)(hand)
    answered = hand.tx.indices[2]
    hand.tx.indices[0] = hand.tx_prod
    hand.put(*hand.frame([(plain(60), 0)]))
    hand.publish()
    world.tick(3)
    assert hand.tx.indices[2] == answered
    assert vif.netback.disabled


def test_a_reconnect_clears_it(world: World) -> None:
    vif, hand = wired(world)
    jump(257)(hand)
    hand.write("state", "5")
    hand.write("state", "6")
    hand.close()
    assert vif.netback.state.name == "Closed"
    again = FrontByHand(world, vif.guest)
    again.write("state", "1")
    assert vif.netback.state.name == "InitWait"
    assert vif.netback.reason == ""
    again.connect()
    again.post(32)
    assert not vif.netback.disabled
    assert alive(again, vif)


def test_it_says_so_once(world: World) -> None:
    vif, hand = wired(world)
    for _ in range(5):
        jump(300)(hand)
        world.tick()
    assert world.console().count("disabled until it reconnects") == 1
    assert vif.netback.disabled


def test_a_guest_may_revoke_its_grants_whenever_it_likes(world: World) -> None:
    """Copies fail one by one; nothing stops."""
    vif, hand = wired(world)
    for index in range(40):
        hand.put(*hand.frame([(plain(60 + index), 0)], first_id=index))
        if index % 2:
            ref = hand.granted[-1][0]
            hand.xen.grant(ref, bytes(8))
    hand.publish()
    assert [status for _, status in hand.answers()] == [0, -1] * 20
    for ref, _ in hand.granted[2:60:2]:
        hand.xen.grant(ref, bytes(8))
    world.deliver(vif, *[plain(60)] * 30)
    assert len(hand.arrived()) == 30
    assert not vif.netback.disabled


def test_one_page_in_every_slot_is_legal(world: World) -> None:
    vif, hand = wired(world)
    ref, _ = hand.give(plain(4096), readonly=True)
    hand.put(*[TX_REQUEST.pack(ref, 0, MORE if i < 15 else 0, i, 65535 if i == 0 else 4096) for i in range(16)])
    hand.publish()
    assert [len(frame) for _, frame in vif.hub.sent] == [65535]
    assert [status for _, status in hand.answers()] == [0] * 16


def test_the_same_rx_page_posted_twice_is_the_guests_own_trouble(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    ref, _ = hand.give()
    hand.post(4, refs=[ref] * 4)
    world.deliver(vif, plain(9000), plain(60))
    assert [status for _, _, _, status, _ in hand.arrived()] == [4096, 4096, 808, 60]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=40),
    producer=st.one_of(st.none(), st.integers(0, 300), st.integers(0, 0xFFFFFFFF)),
    mode=st.sampled_from(["copy", "map"]),
)
def test_no_bytes_at_all_on_a_ring_stop_the_engine(garbage: list[bytes], producer: int | None, mode: str) -> None:
    with World() as world:
        vif, hand = wired(world, mode)
        hand.put(*garbage)
        hand.publish(producer)
        world.tick()
        assert world.errors == []
        if not vif.netback.disabled:
            published = len(garbage) if producer is None else producer
            assert len(hand.answers()) == published
            if published == len(garbage):
                assert alive(hand, vif)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(page=st.binary(min_size=200, max_size=200), at=st.integers(0, 2048))
def test_no_bytes_at_all_in_a_grant_table_stop_the_engine(page: bytes, at: int) -> None:
    with World() as world:
        vif, hand = wired(world)
        hand.put(*hand.frame([(plain(60), 0), (plain(60), 0)]))
        domain = vif.guest.domain
        start = domain.grant_table_pfn * 4096 + 64 + at
        domain.window[start : start + len(page)] = page
        hand.publish()
        world.deliver(vif, plain(60))
        assert world.errors == []
        assert len(hand.answers()) == 2
