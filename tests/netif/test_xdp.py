"""Headroom in each page toward the guest: who gets how much, where the data is, how it is changed while connected."""

from __future__ import annotations

import pytest

from xnet.abi.linux.netif import EXTRA_XDP
from xnet.abi.xen.netif import EXTRA_GSO, NETRXF_extra_info, NETRXF_more_data
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4
from xnet.netif import Features
from xnet.netif.features import HEADROOM_MAX
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain, tcp

pytestmark = pytest.mark.integration

BACK, FRONT = "/local/domain/0/backend/vif/1/0", "/local/domain/1/device/vif/0"
GSO = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
PAGE = 4096

Hand = tuple[World, Vif, FrontByHand]


def by_hand(world: World, headroom: str | None, **options: object) -> Hand:
    vif = world.vif(world.guest("a"), start="back", **options)
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"xdp-headroom": headroom})
    hand.post(60)
    return world, vif, hand


ASKED: dict[str, tuple[int, bool, bool, str, str | None, int]] = {
    # bytes, backend offers, frontend knows, profile -> key, what it gets
    "nothing, as Linux without a program": (0, True, True, "linux", "0", 0),
    "what Linux asks for": (256, True, True, "linux", "256", 256),
    "more than there can be": (4000, True, True, "linux", "4000", HEADROOM_MAX),
    "of a backend that does not offer it": (256, False, True, "linux", None, 0),
    "by a frontend that does not know it": (256, True, False, "linux", None, 0),
    "by windows": (256, True, True, "windows", None, 0),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_guest_gets_the_headroom_it_asks_for(world: World, name: str) -> None:
    headroom, offered, known, profile, key, gets = ASKED[name]
    front, back = Features(xdp_headroom=known), Features(xdp_headroom=offered)
    vif = world.vif(world.guest("a"), front=front, back=back, headroom=headroom, front_profile=profile)
    assert vif.connected
    assert world.read(f"{BACK}/feature-xdp-headroom") == str(int(offered))
    assert world.read(f"{FRONT}/xdp-headroom") == key
    assert vif.netback.headroom == gets


@pytest.mark.parametrize("text", ["-1", "x", "1x", "", None, "99999999999"])
def test_what_is_no_number_is_no_headroom(world: World, text: str | None) -> None:
    _, vif, _ = by_hand(world, text)
    assert vif.netback.headroom == 0


def test_a_frames_slots_say_where_its_data_is(world: World) -> None:
    world, vif, hand = by_hand(world, "256")
    world.deliver(vif, plain(5000))
    first, extra, second = hand.arrived()
    assert (first[1], first[2], first[3]) == (256, NETRXF_extra_info | NETRXF_more_data, PAGE - 256)
    assert hand.raw(1) == EXTRA_XDP.pack(5, 0, 256)
    assert (second[1], second[2], second[3]) == (256, 0, 5000 - (PAGE - 256))
    assert first[4] + second[4] == plain(5000)
    assert extra[4] == b""
    assert [first[0], second[0]] == [0, 2], "ids of their own slots"


def test_the_extra_for_headroom_comes_after_gsos(world: World) -> None:
    world, vif, hand = by_hand(world, "256")
    frame = tcp(bytes(3000), blank=True)
    world.deliver(vif, frame, word=GSO)
    assert hand.raw(1) == EXTRA_GSO.pack(1, 1, 1448, 1, 0, 0)
    assert hand.raw(2) == EXTRA_XDP.pack(5, 0, 256)
    assert hand.arrived()[0][4] == frame


@pytest.mark.parametrize("headroom", [1, 2, 255, 256, HEADROOM_MAX])
def test_frames_of_every_size_arrive_whole(world: World, headroom: int) -> None:
    vif = world.vif(world.guest("a"), headroom=headroom)
    capacity = PAGE - headroom
    sizes = [14, 60, capacity - 1, capacity, capacity + 1, 4096, 2 * capacity, 2 * capacity + 1, 9014, 65535]
    for size in sizes:
        world.deliver(vif, plain(size))
        world.step()
    world.deliver(vif, tcp(bytes(50000), blank=True), word=GSO)
    world.step()
    assert [data for _, data in vif.wire.received] == [*map(plain, sizes), tcp(bytes(50000), blank=True)]
    assert [word for word, _ in vif.wire.received] == [*[0] * len(sizes), GSO]
    assert vif.netfront.statistics()["rx_errors"] == vif.netback.statistics()["rx_drops"] == 0


@pytest.mark.parametrize("heads_only", [False, True])
def test_from_guest_to_guest(world: World, heads_only: bool) -> None:
    """Also straight out of the other guest's pages."""
    one, two = world.pair(headroom=256, heads_only=heads_only)
    for size in (60, 4096, 30000, 65535):
        one.wire.send(plain(size))
        world.step()
    assert [data for _, data in two.wire.received] == [plain(size) for size in (60, 4096, 30000, 65535)]


def test_a_frame_waits_for_the_slots_it_takes_with_headroom(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"xdp-headroom": "256"})
    hand.post(2)
    world.deliver(vif, plain(PAGE))
    assert hand.arrived() == []
    hand.post(1)
    assert b"".join(data for *_, data in hand.arrived()) == plain(PAGE)


def test_a_page_that_cannot_be_written_is_an_error_of_its_own_slot(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"xdp-headroom": "256"})
    hand.post(2)
    hand.post(1, readonly=True)
    hand.post(2)
    world.deliver(vif, plain(5000), plain(60))
    statuses = [status for _, _, _, status, _ in hand.arrived()]
    assert statuses[0] == PAGE - 256
    assert statuses[2] < 0
    assert statuses[3] == 60
    assert vif.netback.statistics()["rx_grant_error"] == 1


def test_headroom_is_changed_while_connected(world: World) -> None:
    vif = world.vif(world.guest("a"))
    journal = world.record(FRONT, BACK)
    for headroom in (256, 0, 128):
        journal.clear()
        vif.netfront.reserve(headroom)
        world.step()
        assert vif.connected
        assert vif.netback.headroom == headroom
        assert journal == [
            (f"{FRONT}/xdp-headroom", str(headroom)),
            (f"{FRONT}/state", "7"),
            (f"{BACK}/state", "8"),
            (f"{FRONT}/state", "4"),
        ]
        assert world.read(f"{BACK}/state") == "8", "and so it stays, with Linux too"
        world.deliver(vif, plain(5000))
        vif.wire.send(plain(60))
        world.step()
        assert vif.wire.received.pop() == (0, plain(5000))
    assert [data for _, data in vif.hub.sent] == [plain(60)] * 3
    vif.netfront.close()
    world.step()
    vif.netfront.open()
    world.step()
    assert vif.connected
    assert vif.netback.headroom == 128


def test_a_frontend_that_cannot_ask_stays_as_it_is(world: World) -> None:
    vif = world.vif(world.guest("a"), back=Features(xdp_headroom=False))
    vif.netfront.reserve(256)
    world.step()
    assert (vif.connected, vif.netback.headroom, world.read(f"{FRONT}/xdp-headroom")) == (True, 0, None)


def test_flipped_pages_have_no_headroom(world: World) -> None:
    vif = world.vif(world.guest("a"), rx_mode="flip", headroom=256)
    assert vif.netback.headroom == 0
    vif.netfront.reserve(128)
    world.step()
    world.deliver(vif, plain(5000))
    world.step()
    assert vif.wire.received == [(0, plain(5000))]


def test_reconfiguring_before_there_is_anything_is_nothing(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.write("state", "7")
    assert world.read(f"{BACK}/state") == "2"
    hand.connect()
    assert vif.netback.state.name == "Connected"
