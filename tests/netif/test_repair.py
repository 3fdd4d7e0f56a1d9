"""A frame to be segmented that does not say that its checksum is blank is made to."""

from __future__ import annotations

from typing import Literal

import pytest

from xnet.abi.xen.netif import EXTRA_GSO, NETTXF_csum_blank, NETTXF_data_validated, NETTXF_extra_info
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TYPE_SHIFT
from xnet.testing import FrontByHand, World
from xnet.testing.frames import plain, tcp, udp

pytestmark = pytest.mark.integration

MSS = 1448
CHECKSUM = {False: 14 + 20 + 16, True: 14 + 40 + 16}


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("flags", [0, NETTXF_data_validated])
def test_a_large_frame_that_forgot_its_blank_checksum_is_repaired(
    world: World, mode: Literal["copy", "map"], v6: bool, flags: int
) -> None:
    vif = world.vif(world.guest("a"), start="back", mode=mode)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    right = tcp(bytes(range(200)) * 30, v6=v6, blank=True)
    at = CHECKSUM[v6]
    wrong = right[:at] + b"\x12\x34" + right[at + 2 :]
    assert right != wrong
    gso = EXTRA_GSO.pack(1, 0, MSS, 1 + v6, 0, 0)
    pages = [(wrong[:4000], 96), (wrong[4000:], 0)]
    hand.put(*hand.frame([(plain(60), 0)], first_id=1))
    hand.put(*hand.frame(pages, flags=NETTXF_extra_info | flags, extras=[gso], first_id=2))
    hand.put(*hand.frame([(plain(61), 0)], first_id=4))
    hand.publish()
    word = CSUM_BLANK | DATA_VALIDATED | 1 + v6 << GSO_TYPE_SHIFT | MSS << GSO_SIZE_SHIFT
    assert vif.hub.sent == [(0, plain(60)), (word, right), (0, plain(61))]
    assert hand.answers() == [(1, 0), (2, 0), (0, 1), (3, 0), (4, 0)]
    counted = vif.netback.statistics()
    assert (counted["tx_gso_checksum_fixup"], counted["tx_errors"], counted["tx_packets"]) == (1, 0, 3)


@pytest.mark.parametrize("frame", [udp(bytes(3000)), plain(3000)], ids=["udp", "not ip"])
def test_what_cannot_be_repaired_is_dropped_by_name(world: World, frame: bytes) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    gso = EXTRA_GSO.pack(1, 0, MSS, 1, 0, 0)
    hand.put(*hand.frame([(frame, 0)], flags=NETTXF_extra_info, extras=[gso], first_id=2))
    hand.publish()
    assert vif.hub.sent == []
    assert hand.answers() == [(2, 0), (0, 1)]
    assert vif.netback.statistics()["tx_malformed"] == 1


def test_one_that_says_so_is_left_alone(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    frame = tcp(bytes(3000), blank=True)
    gso = EXTRA_GSO.pack(1, 0, MSS, 1, 0, 0)
    hand.put(*hand.frame([(frame, 0)], flags=NETTXF_extra_info | NETTXF_csum_blank, extras=[gso]))
    hand.publish()
    assert [data for _, data in vif.hub.sent] == [frame]
    assert "tx_gso_checksum_fixup" not in vif.netback.statistics()
