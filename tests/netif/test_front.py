"""A netfront and a backend made by hand: answers late, out of order, wrong; frames laid out as other backends do it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from xnet.abi.xen.netif import EXTRA_GSO, RX_RESPONSE, TX_REQUEST
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, MOST_PAGES
from xnet.netif import Features
from xnet.testing import BackByHand, Vif, World
from xnet.testing.frames import plain, tcp

pytestmark = pytest.mark.integration

OKAY, NULL, ERROR, DROPPED = 0, 1, -1, -2
VALID, BLANK, MORE, EXTRA = 1, 2, 4, 8
GSO = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT


@pytest.fixture
def ends(world: World) -> Iterator[tuple[World, Vif, BackByHand]]:
    vif = world.vif(world.guest("a"), start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    assert vif.netfront.state.name == "Connected"
    assert vif.wire.up
    yield world, vif, hand
    hand.detach()


def ids(slots: list[bytes]) -> list[int]:
    """The ids of data requests; in these tests a slot whose reference is a small number is none."""
    return [TX_REQUEST.unpack(slot)[3] for slot in slots]


def test_what_a_netfront_writes_on_the_ring(ends: tuple[World, Vif, BackByHand]) -> None:
    _, vif, hand = ends
    vif.wire.send(plain(60))
    vif.wire.send(tcp(bytes(9000), blank=True), word=GSO)
    one, first, extra, second, third = hand.requests()
    _, offset, flags, _, size = TX_REQUEST.unpack(one)
    assert (offset, flags, size) == (0, 0, 60)
    _, offset, flags, _, size = TX_REQUEST.unpack(first)
    assert (offset, flags, size) == (0, 1 | 2 | 4 | 8, 9054), "the first slot carries the whole length"
    assert EXTRA_GSO.unpack_from(extra) == (1, 0, 1448, 1, 0, 0)
    assert extra[8:] == bytes(4)
    assert [TX_REQUEST.unpack(slot)[1:3] + (TX_REQUEST.unpack(slot)[4],) for slot in (second, third)] == [
        (0, 4, 4096),
        (0, 0, 9054 - 8192),
    ]


def test_responses_may_come_in_any_order_for_ever(ends: tuple[World, Vif, BackByHand]) -> None:
    """Ids and pages come round several times; every grant ends with its response."""
    _, vif, hand = ends
    dice = Random(7)
    owed: list[tuple[int, int]] = []
    sent = 0
    while sent < 300:
        done = vif.wire.send(*[plain(dice.choice([60, 1514, 5000, 9000])) for _ in range(dice.randint(1, 12))])
        sent += done
        owed += [(ident, OKAY) for ident in ids(hand.requests())]
        dice.shuffle(owed)
        count = len(owed) if not done else dice.randint(0, len(owed))
        hand.respond(*owed[:count])
        del owed[:count]
    hand.respond(*owed)
    assert not vif.netfront.broken
    queue = vif.netfront.queue
    assert queue is not None
    assert not queue.in_flight
    assert not queue.answered
    assert queue.tx_ring.free_requests() == 256
    assert vif.netfront.statistics()["tx_errors"] == 0


@pytest.mark.parametrize("status", [ERROR, DROPPED, -100])
def test_an_error_status_is_counted_and_the_page_comes_back(ends: tuple[World, Vif, BackByHand], status: int) -> None:
    _, vif, hand = ends
    for _ in range(200):
        assert vif.wire.send(plain(5000)) == 1
        first, second = ids(hand.requests())
        hand.respond((first, OKAY), (second, status))
    assert vif.netfront.statistics()["tx_errors"] == 200
    assert not vif.netfront.broken


def test_a_null_belongs_to_nobody(ends: tuple[World, Vif, BackByHand]) -> None:
    """Linux answers an extra with its id field unset; FreeBSD with another: only the status says what it is."""
    _, vif, hand = ends
    for number in (0, 17, 0xFFFF):
        vif.wire.send(tcp(bytes(3000), blank=True), word=GSO)
        ident = ids(hand.requests())[0]
        hand.respond((ident, OKAY), (number, NULL))
    assert not vif.netfront.broken
    assert vif.wire.send(plain(60)) == 1


ROGUE_ANSWERS = {
    "an id that is not out": [(99, OKAY)],
    "an id past all pages": [(0xFFFF, OKAY)],
    "the same id twice": [(0, OKAY), (0, OKAY)],
    "the same id twice, out of order": [(1, OKAY), (1, OKAY)],
    "the same id twice, another between": [(1, OKAY), (0, OKAY), (1, OKAY)],
    "the first again behind others": [(0, OKAY), (1, OKAY), (0, OKAY)],
    "the same id twice, with an error": [(0, ERROR), (0, OKAY)],
}


@pytest.mark.parametrize("name", ROGUE_ANSWERS)
def test_an_answer_to_nothing_breaks_the_connection_until_it_reconnects(
    ends: tuple[World, Vif, BackByHand], name: str
) -> None:
    world, vif, hand = ends
    vif.wire.send(plain(60), plain(60), plain(60))
    assert ids(hand.requests()) == [0, 1, 2]
    hand.respond(*ROGUE_ANSWERS[name])
    assert vif.netfront.broken
    assert vif.wire.queue is None, "the device puts nothing more on this ring"
    assert "broken until it reconnects" in world.console()
    assert vif.netfront.state.name == "Connected", "the state stays, as in Linux"
    hand.detach()
    hand.switch("5")
    hand.switch("6")
    assert vif.netfront.state.name == "Closed"
    hand.start_again()
    hand.connect()
    assert vif.wire.send(plain(61)) == 1
    assert len(hand.requests()) == 1


@pytest.mark.parametrize("twice", [[1, 1], [1, 0, 1], [2, 0, 2], [0, 2, 0], [4, 1, 0, 2, 1], [4, 0, 1, 2, 3, 4]])
def test_a_page_of_a_frame_is_answered_once(ends: tuple[World, Vif, BackByHand], twice: list[int]) -> None:
    """Also where what is left looks like the answers to a whole frame."""
    _, vif, hand = ends
    vif.wire.send(plain(9000), plain(5000), plain(60))
    assert ids(hand.requests()) == [0, 1, 2, 3, 4, 5]
    hand.respond(*[(ident, OKAY) for ident in twice[:-1]])
    assert not vif.netfront.broken
    hand.respond((twice[-1], OKAY))
    assert vif.netfront.broken


def test_an_id_of_a_frame_that_is_not_on_the_ring_yet_is_not_out(ends: tuple[World, Vif, BackByHand]) -> None:
    _, vif, hand = ends
    vif.wire.send(plain(60), plain(60))
    hand.requests()
    queue = vif.wire.queue
    assert queue is not None
    assert queue.reserve() is not None
    queue.commit(0, [60])
    hand.respond((2, OKAY))
    assert vif.netfront.broken


@pytest.mark.parametrize("order", ["in order", "backwards", "any", "all but the oldest"])
def test_a_page_is_not_reserved_while_a_request_for_it_is_out(ends: tuple[World, Vif, BackByHand], order: str) -> None:
    """The run of pages comes round many times, never with the same frames."""
    _, vif, hand = ends
    queue = vif.wire.queue
    assert queue is not None
    dice = Random(11)
    owed: list[int] = []
    wraps = most = 0
    for _ in range(600):
        for _ in range(dice.randint(1, 12)):
            if queue.reserve() is None:
                break
            wraps += not queue.tx_head
            assert not set(owed) & set(range(queue.tx_head, queue.tx_head + MOST_PAGES))
            queue.commit(0, [length := dice.choice([60, 4096, 4097, 30000, 65226])])
            owed += range(queue.tx_head - (length + 4095) // 4096, queue.tx_head)
        queue.flush()
        hand.requests()
        most = max(most, len(owed))
        count = dice.randint(0, len(owed))
        answered = owed[:count]
        if order == "backwards":
            answered = owed[::-1][:count]
        elif order == "any":
            answered = dice.sample(owed, count)
        elif order == "all but the oldest":
            answered = owed[1:]
        hand.respond(*[(ident, OKAY) for ident in answered])
        owed = [ident for ident in owed if ident not in answered]
        if order == "all but the oldest" and queue.reserve() is None:
            hand.respond((owed.pop(0), OKAY))
        assert not vif.netfront.broken
    hand.respond(*[(ident, OKAY) for ident in owed])
    assert not vif.netfront.broken
    assert queue.in_flight == []
    assert queue.answered == set()
    assert wraps > 3
    assert most > 100
    assert queue.reserve() is not None
    assert queue.tx_head == 0, "the pages used last are used first"


@pytest.mark.parametrize("distance", [1, 256, 0x80000000, -1])
def test_a_response_producer_past_the_requests_is_broken(ends: tuple[World, Vif, BackByHand], distance: int) -> None:
    _, vif, hand = ends
    hand.tx.indices[2] = distance & 0xFFFFFFFF
    hand.respond()
    assert not vif.netfront.broken, "respond put it right"
    hand.tx.indices[2] = distance & 0xFFFFFFFF
    hand.xen.send(hand.ports[0])
    hand.world.step()
    assert vif.netfront.broken


# --- rx slots as backends write them


def extra(kind: int = 1, flags: int = 0, size: int = 1448, gso_type: int = 1) -> bytes:
    return EXTRA_GSO.pack(kind, flags, size, gso_type, 0, 0)


PAGE = plain(4096)
ARRIVES = {
    "QEMU's two bytes of offset": ([(plain(60), 2, 0)], 0, plain(60)),
    "illumos's sixteen": ([(plain(60), 16, 0)], 0, plain(60)),
    "the end of a page": ([(plain(60), 4036, VALID)], DATA_VALIDATED, plain(60)),
    "blank": ([(tcp(b"a", blank=True), 0, BLANK | VALID)], CSUM_BLANK | DATA_VALIDATED, tcp(b"a", blank=True)),
    "blank, without validated": (
        [(tcp(b"a", blank=True), 0, BLANK)], CSUM_BLANK | DATA_VALIDATED, tcp(b"a", blank=True),
    ),
    "two whole pages": ([(PAGE, 0, MORE), (PAGE, 0, 0)], 0, PAGE * 2),
    "pages that are not full": ([(plain(100), 0, MORE), (PAGE[:50], 7, MORE), (b"xyz", 4093, 0)], 0,
                                plain(100) + PAGE[:50] + b"xyz"),
    "an empty slot among others": ([(plain(100), 0, MORE), (b"", 0, MORE), (b"xyz", 0, 0)], 0, plain(100) + b"xyz"),
    "GSO": ([(PAGE, 0, BLANK | VALID | MORE | EXTRA), extra(), (PAGE, 0, 0)], GSO, PAGE * 2),
    "GSO in one page": ([(PAGE, 0, BLANK | VALID | EXTRA), extra(gso_type=2)],
                        CSUM_BLANK | DATA_VALIDATED | GSO_TCPV6 | 1448 << GSO_SIZE_SHIFT, PAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRIVES)
@pytest.mark.parametrize("before", [0, 254])
def test_a_frame_arrives_however_the_backend_lays_it_out(
    ends: tuple[World, Vif, BackByHand], name: str, before: int
) -> None:
    """Also across the end of the ring."""
    _, vif, hand = ends
    for _ in range(before):
        hand.fill((plain(60), 0, 0))
    vif.wire.received.clear()
    slots, word, frame = ARRIVES[name]
    hand.fill(*slots)
    assert vif.wire.received == [(word, frame)]
    assert hand.rx.indices[0] == (before + len(slots) + 256) & 0xFFFFFFFF, "every buffer is posted again"


def test_a_slot_holds_now_this_frame_and_now_that(ends: tuple[World, Vif, BackByHand]) -> None:
    """What is remembered by a slot is not believed: each layout comes to each slot, in bursts."""
    _, vif, hand = ends
    dice = Random(5)
    expected: list[tuple[int, bytes]] = []
    for _ in range(400):
        burst = [ARRIVES[name] for name in dice.choices(list(ARRIVES), k=dice.randint(1, 9))]
        hand.fill(*[slot for slots, _, _ in burst for slot in slots])
        expected += [(word, frame) for _, word, frame in burst]
    assert vif.wire.received == expected
    counted = vif.netfront.statistics()
    assert (counted["rx_packets"], counted["rx_bytes"]) == (len(expected), sum(len(frame) for _, frame in expected))
    assert counted["rx_errors"] == 0


def status(value: int, flags: int = 0) -> bytes:
    return RX_RESPONSE.pack(0, 0, flags, value)


BAD = {
    "an error status": [status(-1)],
    "a raw GNTST status": [status(-3)],
    "an error in the middle": [(PAGE, 0, MORE), status(-1, MORE), (PAGE, 0, 0)],
    "an error at the end": [(PAGE, 0, MORE), status(-9)],
    "more than a page": [RX_RESPONSE.pack(0, 1, 0, 4096)],
    "more than a page, later": [(PAGE, 0, MORE), RX_RESPONSE.pack(0, 4000, 0, 97)],
    "an extra of no known kind": [(PAGE, 0, EXTRA), extra(9)],
    "GSO of no size": [(PAGE, 0, BLANK | VALID | EXTRA), extra(size=0)],
    "GSO of no type": [(PAGE, 0, BLANK | VALID | EXTRA), extra(gso_type=0)],
    "more promised than published": [(PAGE, 0, MORE)],
    "an extra promised and not published": [(PAGE, 0, EXTRA)],
    "more bytes than a frame may have": [*[(PAGE, 0, MORE)] * 16, (PAGE, 0, 0)],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_is_dropped_by_name_and_the_next_arrives(ends: tuple[World, Vif, BackByHand], name: str) -> None:
    _, vif, hand = ends
    hand.fill(*BAD[name])
    assert vif.wire.received == []
    assert vif.netfront.statistics()["rx_errors"] == 1
    assert not vif.netfront.broken
    hand.fill((plain(60), 0, 0))
    assert vif.wire.received == [(0, plain(60))]


def test_a_backend_that_cannot_copy_is_refused(world: World) -> None:
    vif = world.vif(world.guest("a"), start="front")
    hand = BackByHand(world, vif.guest)
    hand.offer(rx_copy="0")
    assert vif.netfront.state.name == "Closing"
    assert vif.netfront.queue is None
    assert "feature-rx-copy" in vif.netfront.reason
    error = world.read("/local/domain/1/error/device/vif/0/error")
    assert error is not None
    assert error.startswith("19 ")


def test_a_poor_old_backend_gets_one_channel_and_finished_frames(world: World) -> None:
    """No split channels, no multi-queue key, no features at all but rx-copy: as QEMU's."""
    vif = world.vif(world.guest("a"), start="front", front=Features())
    hand = BackByHand(world, vif.guest)
    hand.connect(sg="0", gso_tcpv4="0", gso_tcpv6="0", ipv6_csum_offload="0")
    keys = world.keys(hand.front)
    assert "event-channel" in keys
    assert "event-channel-tx" not in keys
    assert "multi-queue-num-queues" not in keys
    vif.wire.send(tcp(bytes(5000), blank=True), word=GSO)
    slots = [TX_REQUEST.unpack(slot) for slot in hand.requests()]
    assert [size for *_, size in slots] == [1502, 1502, 1502, 54 + 5000 - 3 * 1448]
    assert all(flags == 3 for _, _, flags, _, _ in slots), "blank IPv4 checksums are taken by default"
    hand.respond(*[(ident, OKAY) for _, _, _, ident, _ in slots])
    assert vif.netfront.statistics()["tx_errors"] == 0
    hand.detach()
