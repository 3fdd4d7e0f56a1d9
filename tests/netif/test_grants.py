"""Grants follow the frames: given with the request, ended at its response, and without them nothing is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xnet.abi.xen.grant_table import GNTST_NAMES, GRANT_ENTRY_V1
from xnet.abi.xen.netif import RX_REQUEST, RX_RESPONSE, TX_REQUEST
from xnet.engine.xen_host import GuestDomain
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, Chain
from xnet.testing import BackByHand, FrontByHand, World
from xnet.testing.frames import plain, tcp

pytestmark = pytest.mark.integration

RINGS, RX_BUFFERS = 2, 256
READONLY, IN_USE = 4, 8 | 16
GSO4 = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT


def given(guest: GuestDomain) -> dict[int, tuple[int, int]]:
    """Reference -> (flags, frame) of the guest's entries that let somebody in, as they stand in its table."""
    domain = guest.domain
    start = domain.grant_table_pfn * 4096
    table = domain.window[start : start + len(domain.grant_table.frames) * 4096]
    entries = enumerate(GRANT_ENTRY_V1.iter_unpack(table))
    return {ref: (flags, frame) for ref, (flags, _, frame) in entries if flags and ref >= 8}


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("size", [14, 4096, 4097, 65535])
def test_exactly_the_pages_of_a_frame_are_granted_until_its_response(world: World, mode: str, size: int) -> None:
    one, _ = world.pair(mode=mode)
    idle = given(one.guest)
    assert len(idle) == RINGS + RX_BUFFERS
    one.wire.send(plain(size))
    out = {ref: entry for ref, entry in given(one.guest).items() if ref not in idle}
    assert len(out) == -(-size // 4096)
    assert all(flags & READONLY for flags, _ in out.values()), "a frame is lent for reading only"
    assert len({frame for _, frame in out.values()}) == len(out)
    world.step()
    assert given(one.guest) == idle


def test_a_guest_reads_its_rx_pages_when_nobody_else_can_write_them(world: World) -> None:
    one, two = world.pair()
    idle, during = given(two.guest), []
    keep = two.wire.rx

    def rx(chain: Chain) -> None:
        during.append(given(two.guest))
        keep(chain)

    two.wire.rx = rx  # type: ignore[method-assign]
    one.wire.send(plain(10000))
    world.step()
    assert len(idle) - len(during[0]) == 3, "the three pages of the frame are the guest's own again"
    assert given(two.guest) == idle, "and posted again afterwards"


def test_a_closed_frontend_grants_nothing(world: World) -> None:
    one, _ = world.pair()
    one.wire.send(plain(9000))
    one.netfront.close()
    world.step()
    assert given(one.guest) == {}
    assert one.guest.domain.grefs_used == 0


BAD_REFERENCE: dict[str, Callable[[FrontByHand], int]] = {
    "an invalid entry": lambda hand: hand.xen.alloc_grefs(1),
    "past the table": lambda hand: 0xFFFFFFFF,
    "somebody else's": lambda hand: for_another(hand),
}


def for_another(hand: FrontByHand) -> int:
    ref, addr = hand.give(b"secret")
    hand.xen.grant(ref, hand.xen.prepare_grants(77, addr, 1, readonly=True))
    return ref


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("name", BAD_REFERENCE)
@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_a_tx_slot_that_cannot_be_fetched_is_an_error_of_its_own_and_the_packet_is_dropped(
    world: World, mode: str, name: str, spoilt: int
) -> None:
    vif = world.vif(world.guest("a"), start="back", mode=mode)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    frame = plain(300)
    slots = hand.frame([(frame[:100], 0), (frame[100:200], 50), (frame[200:], 9)])
    slots[spoilt] = BAD_REFERENCE[name](hand).to_bytes(4, "little") + slots[spoilt][4:]
    hand.put(*hand.frame([(plain(60), 0)], first_id=1), *slots, *hand.frame([(plain(61), 0)], first_id=2))
    hand.publish()
    assert [len(frame) for _, frame in vif.hub.sent] == [60, 61], "its neighbours are not concerned"
    assert hand.answers() == [(1, 0), *[(100 + i, -1 if i == spoilt else 0) for i in range(3)], (2, 0)]
    assert vif.netback.statistics()["tx_grant_error"] == 1
    assert vif.netback.statistics()["tx_errors"] == 1
    assert not any(flags & IN_USE for flags, _ in list(given(vif.guest).values())[RINGS:]), "nothing is held"


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_an_rx_page_that_cannot_be_written_says_so_in_its_response(world: World, spoilt: int) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(spoilt, first_id=0)
    hand.post(1, first_id=spoilt, readonly=True)
    hand.post(10, first_id=spoilt + 1)
    world.deliver(vif, plain(9000), plain(60))
    arrived = hand.arrived()
    assert [ident for ident, *_ in arrived] == [0, 1, 2, 3]
    statuses = [status for _, _, _, status, _ in arrived]
    assert statuses[spoilt] in GNTST_NAMES
    assert statuses[spoilt] < 0
    assert statuses[3] == 60, "its neighbour is not concerned"
    assert arrived[3][4] == plain(60)
    counted = vif.netback.statistics()
    assert (counted["rx_grant_error"], counted["rx_drops"]) == (1, 1)


def test_a_frame_with_two_bad_pages_is_one_frame_lost(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(20, readonly=True)
    world.deliver(vif, plain(9000), plain(60))
    assert vif.netback.statistics()["rx_drops"] == 2
    assert all(status < 0 for *_, status, _ in hand.arrived())


def test_a_netfront_drops_a_frame_whose_slot_is_an_error_and_goes_on(world: World) -> None:
    """The guest pokes its own grant table: the entry of one posted page is made read-only."""
    vif = world.vif(world.guest("a"))
    queue, domain = vif.netfront.queue, vif.guest.domain
    assert queue is not None
    entry = domain.grant_table_pfn * 4096 + (queue.rx_refs + 1) * 8
    domain.window[entry] |= READONLY
    world.deliver(vif, plain(9000), plain(60))
    world.step()
    assert vif.wire.received == [(0, plain(60))]
    assert vif.netfront.statistics()["rx_errors"] == 1


def test_without_the_remap_a_mapped_frame_has_the_wrong_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vif = world.vif(world.guest("a"), mode="map")
    window = world.host.dom0.physmap.window
    vif.wire.send(plain(5000))
    world.step()
    assert vif.hub.sent == [(0, plain(5000))]
    monkeypatch.setattr(window, "map", lambda pfn, mfn, n=1, readonly=False: None)
    vif.wire.send(plain(6000))
    world.step()
    [_, (word, wrong)] = vif.hub.sent
    assert (word, len(wrong)) == (0, 6000)
    assert wrong == bytes(6000), "nothing of the guest's page is in dom0's window"


def test_without_the_remap_the_rings_are_not_seen_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = world.guest("a")
    monkeypatch.setattr(world.host.dom0.physmap.window, "map", lambda pfn, mfn, n=1, readonly=False: None)
    vif = world.vif(guest)
    assert vif.connected
    vif.wire.send(plain(60))
    world.step()
    assert vif.hub.sent == []
    monkeypatch.undo()


def test_a_backend_that_keeps_a_page_it_answered_is_broken(world: World) -> None:
    vif = world.vif(world.guest("a"), start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    vif.wire.send(plain(60))
    world.step()
    [slot] = hand.requests()
    gref, _, _, ident, _ = TX_REQUEST.unpack(slot)
    kept = hand.map(gref, readonly=True)
    hand.respond((ident, 0))
    assert vif.netfront.broken
    assert "still in use by the backend" in vif.netfront.reason
    assert vif.netfront.reason in world.console()
    hand.xen.unmap_grants([kept.handle])
    hand.detach()


def test_an_rx_page_that_the_backend_keeps_is_never_handed_on(world: World) -> None:
    vif = world.vif(world.guest("a"), start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    ident, _, gref = RX_REQUEST.unpack(hand.rx.slot(0))
    kept = hand.map(gref, readonly=False)
    hand.fill(RX_RESPONSE.pack(ident, 0, 0, 60))
    assert vif.wire.received == []
    assert vif.netfront.broken
    hand.xen.unmap_grants([kept.handle])
    hand.detach()


def test_gso_frames_spend_a_buffer_that_stays_unwritten(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(3)
    unused = hand.buffers[1]
    hand.xen.window[unused : unused + 4096] = b"\xa5" * 4096
    world.deliver(vif, tcp(bytes(5000), blank=True), word=GSO4)
    assert bytes(hand.xen.window[unused : unused + 4096]) == b"\xa5" * 4096
    assert len(hand.arrived()) == 3
