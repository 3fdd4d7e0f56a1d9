"""Multicast control: who asks for it, what a guest tells, what is kept from it."""

from __future__ import annotations

import pytest

from xnet.abi.xen.netif import EXTRA_MCAST, TX_REQUEST, NETTXF_extra_info
from xnet.netif import Features
from xnet.netif.multicast import MOST_GROUPS, Groups
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

BACK, FRONT = "/local/domain/0/backend/vif/1/0", "/local/domain/1/device/vif/0"
REQUEST = f"{FRONT}/request-multicast-control"
GROUPS = [bytes.fromhex(f"3333ff0000{n:02x}") for n in range(70)]
ALL, OTHER = b"\xff" * 6, bytes.fromhex("01005e0000fb")
ADD, DEL = 2, 3


def to(mac: bytes) -> bytes:
    """A frame for this address."""
    return mac + plain(60)[6:]


def dummy(kind: int, group: bytes, *, ident: int = 7, flags: int = NETTXF_extra_info) -> tuple[bytes, bytes]:
    """What tells the filter."""
    return TX_REQUEST.pack(0, 0, flags, ident, 0), EXTRA_MCAST.pack(kind, 0, group)


def heard(world: World, vif: Vif, *groups: bytes) -> list[bytes]:
    """Which of these a guest gets to hear."""
    vif.wire.received.clear()
    world.deliver(vif, *[to(group) for group in groups])
    world.step()
    return [data[:6] for _, data in vif.wire.received]


ASKED: dict[str, tuple[bool, bool, bool, str, bool]] = {
    # front wants, back offers, at any time, frontend -> asks
    "linux": (False, True, True, "linux", False),
    "linux, told to": (True, True, True, "linux", True),
    "the backend has none": (True, False, True, "linux", False),
    "the frontend alone": (True, False, False, "linux", False),
    "a filter for good": (True, True, False, "linux", True),
    "windows": (True, True, True, "windows", True),
    "windows, a filter for good": (True, True, False, "windows", False),
    "windows, told not to": (False, True, True, "windows", False),
    "illumos": (True, True, False, "illumos", True),
    "freebsd has none": (True, True, True, "freebsd", False),
}


@pytest.mark.parametrize("name", ASKED)
def test_who_asks_for_multicast_control(world: World, name: str) -> None:
    wanted, offered, dynamic, profile, asks = ASKED[name]
    back = Features(multicast_control=offered, dynamic_multicast_control=dynamic)
    vif = world.vif(world.guest("a"), multicast=wanted, back=back, front_profile=profile)
    assert vif.connected
    assert world.read(REQUEST) == ("1" if asks else None)
    assert world.read(f"{BACK}/feature-multicast-control") == str(int(offered))
    assert world.read(f"{BACK}/feature-dynamic-multicast-control") == str(int(offered and dynamic))
    assert (vif.wire.tell is not None, vif.netback.multicast.filters) == (asks, asks)
    assert vif.netfront.agreed()["multicast-control"] == vif.netback.agreed()["multicast-control"] == asks
    assert heard(world, vif, OTHER, ALL) == ([ALL] if asks else [OTHER, ALL])


@pytest.mark.parametrize("profile", ["linux", "windows", "illumos"])
def test_a_guest_hears_the_groups_it_is_in(world: World, profile: str) -> None:
    vif = world.vif(world.guest("a"), multicast=True, front_profile=profile)
    assert vif.wire.tell is not None
    vif.wire.tell(frozenset(GROUPS[:2]))
    world.step()
    assert heard(world, vif, *GROUPS[:3], ALL, b"\0" * 6) == [*GROUPS[:2], ALL, b"\0" * 6]
    assert vif.netback.statistics()["rx_multicast_filtered"] == 1
    assert vif.hub.groups == frozenset(GROUPS[:2])
    vif.wire.tell(frozenset(GROUPS[1:3]))
    world.step()
    assert heard(world, vif, *GROUPS[:3]) == GROUPS[1:3]
    vif.wire.send(plain(60), plain(70))
    world.step()
    assert vif.hub.sent == [(0, plain(60)), (0, plain(70))], "and it sends as ever"
    assert vif.netfront.statistics()["tx_errors"] == vif.netback.statistics()["tx_errors"] == 0


def test_a_full_ring_is_told_the_rest_later(world: World) -> None:
    vif = world.vif(world.guest("a"), multicast=True)
    assert vif.wire.tell is not None
    vif.hub.space = 0
    sent = vif.wire.send(*[plain(60)] * 300)
    vif.wire.tell(frozenset(GROUPS[:60]))
    vif.hub.space = 1 << 16
    assert vif.hub.client is not None
    vif.hub.client.link_ready()
    world.step()
    assert len(vif.hub.sent) == sent
    assert 0 < len(vif.netback.multicast.groups.members) < 60
    vif.wire.tell(frozenset(GROUPS[:60]))
    world.step()
    assert sorted(vif.netback.multicast.groups.members) == GROUPS[:60]


def test_a_guest_in_more_groups_than_there_is_place_for_hears_all(world: World) -> None:
    vif = world.vif(world.guest("a"), multicast=True)
    for _ in range(2):
        assert vif.wire.tell is not None
        vif.wire.tell(frozenset(GROUPS[: MOST_GROUPS + 1]))
        world.step()
    assert world.read(REQUEST) == "0"
    assert heard(world, vif, OTHER, *GROUPS) == [OTHER, *GROUPS]
    assert vif.netfront.statistics()["tx_multicast_refused"] == 1
    assert vif.netback.statistics()["tx_multicast_full"] == 1


def test_a_guest_that_wants_all_hears_all_until_it_does_not(world: World) -> None:
    vif = world.vif(world.guest("a"), multicast=True)
    for groups, expected in ((None, [OTHER]), (frozenset[bytes](), []), (frozenset({OTHER}), [OTHER])):
        assert vif.wire.tell is not None
        vif.wire.tell(groups)
        world.step()
        assert heard(world, vif, OTHER) == expected


def test_a_filter_for_good_is_asked_for_before_connecting(world: World) -> None:
    vif = world.vif(world.guest("a"), back=Features(dynamic_multicast_control=False))
    world.write(REQUEST, "1")
    world.step()
    assert heard(world, vif, OTHER) == [OTHER]
    assert world.vif(
        world.guest("b"), multicast=True, back=Features(dynamic_multicast_control=False)
    ).netback.multicast.filters


@pytest.mark.parametrize("asked", ["0", "1"])
def test_dummies_are_answered_whether_they_are_asked_for_or_not(world: World, asked: str) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"request-multicast-control": asked})
    hand.post(8)
    for group in (*GROUPS[: MOST_GROUPS - 1], GROUPS[0]):
        hand.put(*dummy(ADD, group))
        hand.publish()
    assert hand.answers() == [(7, 0), (0, 1)] * MOST_GROUPS, "twice the same takes two places"
    hand.put(*dummy(ADD, OTHER, ident=9), *dummy(DEL, GROUPS[0], ident=10), *dummy(DEL, OTHER, ident=11))
    hand.publish()
    assert hand.answers() == [(9, -1), (0, 1), (10, 0), (0, 1), (11, 0), (0, 1)]
    assert vif.netback.multicast.groups.members == [*GROUPS[1 : MOST_GROUPS - 1], GROUPS[0]]
    counted = vif.netback.statistics()
    assert (counted["tx_errors"], counted["tx_multicast_full"]) == (1, 1)
    assert vif.hub.sent == []
    world.deliver(vif, to(GROUPS[0]), to(OTHER), to(ALL))
    assert [data[:6] for *_, data in hand.arrived()] == [GROUPS[0], *([OTHER] if asked == "0" else []), ALL]


def test_without_the_feature_a_dummy_is_an_error_as_before(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back", back=Features(multicast_control=False))
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.put(*dummy(ADD, OTHER))
    hand.publish()
    assert hand.answers() == [(7, -1), (0, 1)]
    assert vif.netback.statistics()["tx_multicast_control"] == 1


def test_a_reconnect_forgets_the_groups(world: World) -> None:
    vif = world.vif(world.guest("a"), multicast=True)
    assert vif.wire.tell is not None
    vif.wire.tell(frozenset(GROUPS[:3]))
    world.step()
    vif.netfront.close()
    world.step()
    assert (vif.netback.multicast.groups.members, vif.hub.groups, vif.wire.tell) == ([], None, None)
    vif.netfront.open()
    world.step()
    assert heard(world, vif, GROUPS[0]) == []
    vif.wire.tell(frozenset(GROUPS[:1]))
    world.step()
    assert heard(world, vif, *GROUPS[:2]) == GROUPS[:1]


def test_forgetting_what_was_never_joined_is_nothing() -> None:
    groups = Groups()
    assert groups.change(EXTRA_MCAST.pack(DEL, 0, OTHER))
    assert groups.members == []
