"""A guest that writes rubbish on its ring: its vif is disabled and says why, the others go on, a reconnect helps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xnet.abi.xen.netif import EXTRA_GSO, TX_REQUEST
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

MORE, EXTRA = 4, 8


def request(offset: int, flags: int, size: int, gref: int = 9) -> bytes:
    return TX_REQUEST.pack(gref, offset, flags, 1, size)


def jump(distance: int) -> Callable[[FrontByHand], None]:
    return lambda hand: hand.publish(hand.tx_prod + distance)


def slots(*written: bytes) -> Callable[[FrontByHand], None]:
    def write(hand: FrontByHand) -> None:
        hand.put(*written)
        hand.publish()

    return write


def no_such_buffers(distance: int) -> Callable[[FrontByHand], None]:
    def write(hand: FrontByHand) -> None:
        hand.rx.indices[0] = (hand.rx_prod + distance) & 0xFFFFFFFF
        hand.xen.send(hand.ports[-1])
        hand.world.step()
        hand.rx.indices[0] = (hand.rx_prod + distance) & 0xFFFFFFFF

    return write


TX_RUBBISH: dict[str, tuple[Callable[[FrontByHand], None], str]] = {
    "a producer past the ring": (jump(257), "request producer past the ring"),
    "a producer far past the ring": (jump(0x7FFFFFFF), "request producer past the ring"),
    "a producer that went back": (jump(-1), "request producer past the ring"),
    "half a packet": (slots(request(0, MORE, 100)), "more data promised"),
    "an extra that is not there": (slots(request(0, EXTRA, 100)), "extra info promised"),
    "an extra of no kind": (slots(request(0, EXTRA, 100), bytes(12)), "unknown extra info"),
    "a slot that crosses its page": (slots(request(4000, 0, 200)), "slot crosses its page"),
    "a packet of too many slots": (
        slots(*[request(0, MORE, 3000 if i == 0 else 10) for i in range(22)], request(0, 0, 10)), "slots in a packet",
    ),
    "GSO of no size": (
        slots(request(0, EXTRA | 1, 100), EXTRA_GSO.pack(1, 0, 0, 1, 0, 0)), "GSO size",
    ),
}  # fmt: skip


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


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("name", TX_RUBBISH)
def test_rubbish_on_the_tx_ring_disables_this_vif_alone(world: World, name: str, mode: str) -> None:
    rubbish, why = TX_RUBBISH[name]
    one, two = world.pair()
    vif, hand = wired(world, mode)
    assert alive(hand, vif)
    before = one.netback.statistics()
    rubbish(hand)
    assert vif.netback.disabled
    assert why in vif.netback.reason
    assert f"vif3.0: {vif.netback.reason}" in world.console()
    assert vif.netback.state.name == "Connected", "the state does not change, as in Linux"
    assert vif.hub.client is None
    assert not alive(hand, vif)
    one.wire.send(plain(60))
    two.wire.send(plain(61))
    world.tick()
    assert two.wire.received == [(0, plain(60))]
    assert one.wire.received == [(0, plain(61))]
    assert one.netback.statistics()["tx_packets"] == before["tx_packets"] + 1


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
