"""A link that looks at headers only: long frames stay in the sender's pages until they are copied to the receiver's."""

from __future__ import annotations

import pytest

from xnet.engine.xen_host import GuestDomain
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, Chain, Client, Link
from xnet.mac import Switch, Vnic
from xnet.netif import Features
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import mac, plain, tcp

pytestmark = pytest.mark.integration

PAGE = 4096
BLANK = CSUM_BLANK | DATA_VALIDATED
GSO4 = BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
LONG = tcp(bytes(range(256)) * 250, blank=True)


def copied(world: World) -> int:
    """Bytes that dom0 had copied."""
    return next(s for s in world.host.hypervisor.statistics() if s.domid == 0).bytes_copied


def run_of(hand: FrontByHand, frame: bytes, first_id: int = 100) -> list[bytes]:
    """The slots of a frame in whole pages, whose references are consecutive."""
    return hand.frame([(frame[at : at + PAGE], 0) for at in range(0, len(frame), PAGE)], first_id=first_id)


def revoke(guest: GuestDomain, slot: bytes) -> None:
    """The page of a tx slot is not granted any more."""
    start = guest.domain.grant_table_pfn * PAGE + int.from_bytes(slot[:4], "little") * 8
    guest.domain.window[start : start + 8] = bytes(8)


def to_a_hand(world: World) -> tuple[Vif, Vif, FrontByHand]:
    """Two vifs, the second one's frontend played by hand, and without buffers yet."""
    one = world.vif(world.guest("a"), heads_only=True)
    two = world.vif(world.guest("b"), start="back")
    one.hub.peers.append(two.hub)
    hand = FrontByHand(world, two.guest)
    hand.connect()
    return one, two, hand


@pytest.mark.parametrize("size", [60, 4095, 4096, 4097, 8192, 8193, 12345, 65535])
@pytest.mark.parametrize("word", [0, BLANK])
def test_a_frame_arrives_whole_and_its_pages_were_copied_once(world: World, size: int, word: int) -> None:
    one, two = world.pair(heads_only=True)
    frame = plain(size)
    before = copied(world)
    one.wire.send(frame, word=word)
    world.step()
    assert two.wire.received == [(word, frame)]
    assert copied(world) - before == size + min(size, PAGE), "but for the first, which is looked at"


def test_unsegmented_tcp_arrives_whole_in_a_burst_with_short_frames(world: World) -> None:
    one, two = world.pair(heads_only=True)
    burst = [LONG, plain(60), LONG[:-1], plain(4096)]
    for frame in burst:
        one.wire.send(frame, word=GSO4 if frame[:99] == LONG[:99] else 0)
    world.step()
    assert [frame for _, frame in two.wire.received] == burst


def test_every_receiver_gets_it(world: World) -> None:
    one, two = world.pair(heads_only=True)
    three = world.vif(world.guest("c"))
    one.hub.peers.append(three.hub)
    one.wire.send(LONG, word=GSO4)
    world.step()
    assert two.wire.received == three.wire.received == [(GSO4, LONG)]


def test_what_the_receiver_cannot_take_is_finished_for_it(world: World) -> None:
    one = world.vif(world.guest("a"), heads_only=True)
    two = world.vif(world.guest("b"), front=Features(gso_tcpv4=False))
    one.hub.peers.append(two.hub)
    one.wire.send(LONG, word=GSO4)
    world.step()
    parts = [frame for _, frame in two.wire.received]
    assert len(parts) == -(-64000 // 1448)
    assert b"".join(frame[54:] for frame in parts) == LONG[54:]


def test_a_receiver_without_buffers_gets_it_later(world: World) -> None:
    one, two, hand = to_a_hand(world)
    hand.post(3)
    one.wire.send(plain(12000), plain(9000))
    world.step()
    assert two.netback.statistics()["rx_defer"] == 1
    hand.post(3)
    assert [status for _, _, _, status, _ in hand.arrived()] == [4096, 4096, 3808, 4096, 4096, 808]


@pytest.mark.parametrize("spoilt", [0, 1, 2])
@pytest.mark.parametrize("peers", [0, 1, 2])
def test_a_page_that_cannot_be_read_is_the_senders_error_alone(world: World, spoilt: int, peers: int) -> None:
    one = world.vif(world.guest("a"), start="back", heads_only=True)
    others = [world.vif(world.guest(f"b{i}")) for i in range(peers)]
    one.hub.peers += [other.hub for other in others]
    hand = FrontByHand(world, one.guest)
    hand.connect()
    slots = run_of(hand, plain(9000))
    revoke(one.guest, slots[spoilt])
    hand.put(*run_of(hand, plain(8500), 10), *slots, *run_of(hand, plain(8501), 20))
    hand.publish()
    for other in others:
        assert [frame for _, frame in other.wire.received] == [plain(8500), plain(8501)]
        assert not any("error" in name and count for name, count in other.netfront.statistics().items())
        assert "rx_grant_error" not in other.netback.statistics()
    if peers or spoilt == 0:
        assert hand.answers()[3:6] == [(100 + i, -1 if i == spoilt else 0) for i in range(3)]
        assert one.netback.statistics()["tx_grant_error"] == 1
    else:
        assert {status for _, status in hand.answers()} == {0}, "nobody wanted to read it"


def test_a_page_that_cannot_be_written_is_the_receivers_error_alone(world: World) -> None:
    one, _, hand = to_a_hand(world)
    hand.post(2, first_id=0)
    hand.post(1, first_id=2, readonly=True)
    hand.post(9, first_id=3)
    one.wire.send(plain(12000), plain(9000))
    world.step()
    arrived = hand.arrived()
    assert arrived[2][3] < 0
    assert b"".join(data for _, _, _, _, data in arrived[3:]) == plain(9000)
    assert one.netback.statistics()["tx_errors"] == 0
    assert one.netfront.statistics()["tx_errors"] == 0


def test_the_header_is_the_one_that_was_looked_at(world: World) -> None:
    one, two = world.pair(heads_only=True)
    frame, tx = plain(9000), one.hub.tx

    def change(chain: Chain) -> None:
        start = one.netfront.queue.tx_addr  # type: ignore[union-attr]
        one.guest.domain.window[start : start + 6] = b"\xff" * 6
        tx(chain)

    one.hub.tx = change  # type: ignore[method-assign]
    one.wire.send(frame)
    world.step()
    assert two.wire.received == [(0, frame)]


class Uplink(Link):
    """A wire that needs all of a frame."""

    def __init__(self) -> None:
        self.mtu = 9000
        self.heads_only = False
        self.sent: list[bytes] = []

    def tx(self, chain: Chain) -> None:
        assert chain.bring is None
        self.sent += [chain.tobytes(frame) for frame in chain.frames]

    def room(self) -> int:
        return 1

    def client_ready(self) -> None: ...

    def attach(self, client: Client | None) -> None: ...


@pytest.mark.parametrize("vid", [0, 7])
def test_through_a_switch_to_guests_and_to_the_wire(world: World, vid: int) -> None:
    switch, wire = Switch("net0", 9000), Uplink()
    switch.connect(wire)
    vifs = [world.vif(world.guest(name), hotplug=False) for name in "abc"]
    for number, vif in enumerate(vifs, 1):
        vif.netback.plug(Vnic(f"v{number}", switch, mac(number), vid=vid))
    world.step()
    one, two, three = vifs
    to_all = b"\xff" * 6 + plain(9000)[6:]
    to_two = mac(2) + plain(9000)[6:]
    outside = mac(9) + plain(8999)[6:]
    one.wire.send(to_all, to_two, outside)
    world.step()
    assert [frame for _, frame in two.wire.received] == [to_all, to_two]
    assert [frame for _, frame in three.wire.received] == [to_all]
    tag = b"\x81\x00\x00\x07" if vid else b""
    assert wire.sent == [frame[:12] + tag + frame[12:] for frame in (to_all, outside)]
