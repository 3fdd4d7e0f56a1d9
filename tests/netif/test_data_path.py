"""Frames through both ends of a vif: every size, both transports, one channel or two; offloads; notifications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xnet.abi.xen.netif import EXTRA_GSO, RX_RESPONSE
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, Chain
from xnet.netif import Features
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain, tcp

pytestmark = pytest.mark.integration

SIZES = [14, 15, 59, 60, 61, 1514, 2048, 4095, 4096, 4097, 4110, 8191, 8192, 8193, 36865, 61440, 65534, 65535]
BLANK = CSUM_BLANK | DATA_VALIDATED
GSO4 = BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
GSO6 = BLANK | GSO_TCPV6 | 1428 << GSO_SIZE_SHIFT


MODES: dict[str, dict[str, Any]] = {"copy": {}, "map": {"mode": "map"}, "flip": {"rx_mode": "flip"}}


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["split", "single"])
def pair(request: pytest.FixtureRequest, mode: str) -> Iterator[tuple[World, Vif, Vif]]:
    features = Features(split_event_channels=request.param == "split")
    with World() as world:
        one, two = world.pair(**MODES[mode], back=features)
        assert len(one.netback.ports) == (2 if request.param == "split" else 1)
        yield world, one, two


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_arrives_as_it_was_sent(pair: tuple[World, Vif, Vif], size: int) -> None:
    world, one, two = pair
    for here, there in ((one, two), (two, one)):
        frame = plain(size)
        assert here.wire.send(frame, frame[::-1]) == 2
        world.step()
        assert there.wire.received == [(0, frame), (0, frame[::-1])]
        there.wire.received.clear()


@pytest.mark.parametrize("size", [1, 13])
def test_less_than_an_ethernet_header_is_dropped_by_name(pair: tuple[World, Vif, Vif], size: int) -> None:
    world, one, two = pair
    before = one.netback.statistics().get("tx_runt", 0)
    one.wire.send(b"x" * size, plain(60))
    world.step()
    assert two.wire.received == [(0, plain(60))]
    two.wire.received.clear()
    assert one.netback.statistics()["tx_runt"] == before + 1


@pytest.mark.parametrize("size", [65536, 69632])
def test_a_frame_longer_than_sizes_can_say_is_dropped_by_name(pair: tuple[World, Vif, Vif], size: int) -> None:
    world, one, two = pair
    before = one.netfront.statistics()["tx_oversize"]
    one.wire.send(b"x" * size, plain(60))
    world.step()
    assert two.wire.received == [(0, plain(60))]
    two.wire.received.clear()
    assert one.netfront.statistics()["tx_oversize"] == before + 1


def test_a_long_burst_comes_in_order_and_wraps_the_rings(pair: tuple[World, Vif, Vif]) -> None:
    world, one, two = pair
    frames = [plain(60 + i * 37 % 9000) for i in range(330)]
    sent = 0
    while sent < len(frames):
        done = one.wire.send(*frames[sent : sent + 64])
        assert done, "the ring must have room after a step"
        sent += done
        world.step()
    assert [frame for _, frame in two.wire.received] == frames
    two.wire.received.clear()


WORDS = {
    "nothing": (0, 0),
    "data validated": (DATA_VALIDATED, 1),
    "blank": (CSUM_BLANK, 3),
    "blank and validated": (BLANK, 3),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_two_low_flags_are_swapped_on_the_way_to_the_guest(world: World, name: str) -> None:
    word, flags = WORDS[name]
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(20)
    frame = tcp(b"x" * 100, blank=bool(word & CSUM_BLANK))
    world.deliver(vif, frame, word=word)
    assert hand.arrived() == [(0, 0, flags, len(frame), frame)]


@pytest.mark.parametrize(("flags", "word"), [(0, 0), (1, BLANK), (2, DATA_VALIDATED), (3, BLANK)])
def test_the_two_low_flags_of_a_guest_are_understood(world: World, flags: int, word: int) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    frame = tcp(b"x" * 100, blank=bool(flags & 1))
    hand.put(*hand.frame([(frame, 0)], flags=flags))
    hand.publish()
    assert vif.hub.sent == [(word, frame)]
    assert hand.answers() == [(100, 0)]


@pytest.mark.parametrize(("v6", "word"), [(False, GSO4), (True, GSO6)])
@pytest.mark.parametrize("payload", [1449, 4000, 20000, 65000])
def test_segmentation_offload_crosses_unsegmented(
    pair: tuple[World, Vif, Vif], v6: bool, word: int, payload: int
) -> None:
    world, one, two = pair
    frame = tcp((bytes(range(256)) * 300)[:payload], v6=v6, blank=True)
    for here, there in ((one, two), (two, one)):
        here.wire.send(frame, word=word)
        world.step()
        assert there.wire.received == [(word, frame)]
        there.wire.received.clear()


@pytest.mark.parametrize("payload", [3000, 4096, 10000])
def test_a_gso_extra_stands_second_on_the_rx_ring_and_spends_a_buffer(world: World, payload: int) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(20, first_id=500)
    frame = tcp(bytes(payload - 54), blank=True)
    world.deliver(vif, frame, word=GSO4)
    pages = -(-len(frame) // 4096)
    raw = [hand.raw(i) for i in range(pages + 1)]
    first = RX_RESPONSE.unpack(raw[0])
    assert first == (500, 0, 3 | 8 | (4 if pages > 1 else 0), min(4096, len(frame)))
    assert EXTRA_GSO.unpack(raw[1]) == (1, 0, 1448, 1, 0, 0)
    rest = [RX_RESPONSE.unpack(slot) for slot in raw[2:]]
    assert [ident for ident, _, _, _ in rest] == [502 + i for i in range(pages - 1)], "an extra's id is not echoed"
    assert [flags for _, _, flags, _ in rest] == [4] * (pages - 2) + [0] * (pages > 1)
    arrived = hand.arrived()
    assert len(arrived) == pages + 1
    assert b"".join(data for i, (*_, data) in enumerate(arrived) if i != 1) == frame


# --- fragments as frontends make them

LINUX_LIKE = {
    "headers and a page": ([66, 2896], [254, 2]),
    "headers and two fragments": ([66, 1198, 1698], [1278, 2898, 0]),
    "a fragment that ends its page": ([66, 1448], [2302, 4096 - 1448]),
    "18 slots of a GSO frame": ([66, *[4096] * 15, 3000, 1], [254, *[0] * 15, 1000, 4095]),
    "a byte a slot": ([14, *[1] * 17], [0, *range(17)]),
    "an empty slot among others": ([66, 0, 1448, 0], [254, 4096, 2, 0]),
}


def cut(frame: bytes, sizes: list[int], offsets: list[int]) -> list[tuple[bytes, int]]:
    fragments = []
    for size, offset in zip(sizes, offsets, strict=True):
        fragments.append((frame[:size], offset))
        frame = frame[size:]
    return fragments


@pytest.fixture(scope="module")
def hand(mode: str) -> Iterator[tuple[World, Vif, FrontByHand]]:
    with World() as world:
        vif = world.vif(world.guest("a"), start="back", **MODES[mode])
        hand = FrontByHand(world, vif.guest, start=0xFFFFFF00)
        hand.connect()
        yield world, vif, hand


@pytest.mark.parametrize("name", LINUX_LIKE)
def test_fragments_of_a_linux_guest_are_put_together(hand: tuple[World, Vif, FrontByHand], name: str) -> None:
    _, vif, front = hand
    sizes, offsets = LINUX_LIKE[name]
    frame = plain(sum(sizes))
    front.put(*front.frame(cut(frame, sizes, offsets)))
    front.publish()
    assert vif.hub.sent == [(0, frame)]
    assert front.answers() == [(100 + i, 0) for i in range(len(sizes))]
    vif.hub.sent.clear()
    front.take_back()


@st.composite
def fragments(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    sizes = [draw(st.integers(14, 4096)), *draw(st.lists(st.integers(0, 4096), max_size=17))]
    while sum(sizes) > 65535:
        sizes.pop()
    return sizes, [draw(st.integers(0, 4096 - size)) for size in sizes]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets=st.lists(fragments(), min_size=1, max_size=4))
def test_any_fragments_at_any_offset_are_put_together(
    hand: tuple[World, Vif, FrontByHand], packets: list[tuple[list[int], list[int]]]
) -> None:
    _, vif, front = hand
    vif.hub.sent.clear()
    frames = [plain(sum(sizes)) for sizes, _ in packets]
    for frame, (sizes, offsets) in zip(frames, packets, strict=True):
        front.put(*front.frame(cut(frame, sizes, offsets)))
    front.publish()
    assert [frame for _, frame in vif.hub.sent] == frames
    assert [status for _, status in front.answers()] == [0] * sum(len(sizes) for sizes, _ in packets)
    front.take_back()


def test_one_page_may_carry_several_fragments(hand: tuple[World, Vif, FrontByHand]) -> None:
    _, vif, front = hand
    vif.hub.sent.clear()
    frame = plain(1000)
    first, second = front.frame([(frame[:600], 0), (frame[600:], 0)])
    ref, _ = front.give(frame, 7, readonly=True)
    gref = ref.to_bytes(4, "little")
    front.put(gref + (7).to_bytes(2, "little") + first[6:], gref + (607).to_bytes(2, "little") + second[6:])
    front.publish()
    assert vif.hub.sent == [(0, frame)]
    assert front.answers() == [(100, 0), (101, 0)]
    front.take_back()


# --- notifications


def events(world: World, domid: int) -> int:
    """Events a domain has sent."""
    return next(s.events_sent for s in world.host.hypervisor.statistics() if s.domid == domid)


def test_a_burst_is_one_notification(world: World) -> None:
    one, two = world.pair()
    before, sent = one.netfront.statistics(), events(world, 1)
    one.wire.send(*[plain(60)] * 40)
    assert events(world, 1) == sent + 1
    world.step()
    after = one.netfront.statistics()
    assert after["tx_notified"] - before["tx_notified"] == 1
    assert len(two.wire.received) == 40
    back = two.netback.statistics()
    assert (back["rx_packets"], back["rx_notified"]) == (40, 1)


def test_a_backend_that_is_awake_is_not_notified_again(world: World) -> None:
    one, two = world.pair()
    before = one.netfront.statistics()
    for _ in range(5):
        one.wire.send(plain(60))
    after = one.netfront.statistics()
    assert after["tx_notified"] - before["tx_notified"] == 1, "it asked to be woken at the first"
    assert after["tx_suppressed"] - before["tx_suppressed"] == 4
    world.step()
    assert len(two.wire.received) == 5
    one.wire.send(plain(60))
    assert one.netfront.statistics()["tx_notified"] == after["tx_notified"] + 1, "it slept, so it is woken"
    world.step()
    assert len(two.wire.received) == 6


def test_requests_that_come_while_the_backend_works_are_found_by_its_final_check(world: World) -> None:
    one, _ = world.pair()
    more = [plain(100 + i) for i in range(5)]
    pass_on = one.hub.tx

    def tx(chain: Chain) -> None:
        pass_on(chain)
        if more:
            one.wire.send(more.pop())

    one.hub.tx = tx  # type: ignore[method-assign]
    before = one.netfront.statistics()["tx_notified"]
    one.wire.send(plain(60))
    world.step()
    assert len(one.hub.sent) == 6
    assert one.netfront.statistics()["tx_notified"] - before == 1


def test_frames_that_come_while_the_frontend_works_are_found_by_its_final_check(world: World) -> None:
    one, two = world.pair()
    more = [plain(100 + i) for i in range(5)]
    keep = two.wire.rx

    def rx(chain: Chain) -> None:
        keep(chain)
        if more:
            world.deliver(two, more.pop())

    two.wire.rx = rx  # type: ignore[method-assign]
    one.wire.send(plain(60))
    world.step()
    assert len(two.wire.received) == 6


def test_a_link_without_room_is_waited_for(world: World) -> None:
    one, two = world.pair()
    one.hub.space = 0
    one.wire.send(plain(60), plain(61))
    world.step()
    assert one.hub.sent == []
    one.hub.space = 1
    assert one.hub.client is not None
    one.hub.client.link_ready()
    world.step()
    assert [len(frame) for _, frame in two.wire.received] == [60, 61]


def test_a_full_ring_stops_the_frontend_until_responses_free_it(world: World) -> None:
    one, two = world.pair()
    one.hub.space = 0
    sent = one.wire.send(*[plain(4096 * 4)] * 100)
    assert 256 // 4 - 10 < sent < 256 // 4
    assert one.wire.send(plain(60)) == 0
    one.hub.space = 1
    assert one.hub.client is not None
    one.hub.client.link_ready()
    world.step()
    assert len(two.wire.received) == sent
    assert one.wire.send(*[plain(60)] * 64) == 64
    world.step()
    assert len(two.wire.received) == sent + 64
