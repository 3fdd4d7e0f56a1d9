"""Lanes: each frame counted once, in the lane of its way."""

from __future__ import annotations

from typing import Any

from tests.mac.test_vswitch import BROADCAST, GROUP, STRANGER, A, B, C, House, burst, ether
from xnet.frame import Chain
from xnet.frame.chain import POLLED, WIRE
from xnet.mac import Vnic


def came(chain: Chain, how: int) -> Chain:
    chain.came = how
    return chain


def lanes(vnic: Vnic, way: str = "rx") -> dict[str, dict[str, Any]]:
    return {str(row["id"]): row for row in vnic.lanes()[way]}


def packets(vnic: Vnic) -> dict[str, int]:
    return {name: row["ipkts"] for name, row in lanes(vnic).items()}


def test_alone_the_ring_is_the_vnics_own_and_says_how_frames_came() -> None:
    house = House(A)
    for how, count in [(WIRE, 3), (WIRE | POLLED, 1), (WIRE | POLLED, 10), (WIRE | POLLED, 11), (WIRE | POLLED, 51)]:
        house.switch.rx(came(burst(*[ether(A, sender=B)] * count), how))
    row = lanes(house.vnics[0])["hw"]
    assert (row["index"], row["intrs"], row["polls"], row["ipkts"]) == (0, 3, 73, 76)
    assert (row["ch10"], row["ch10_50"], row["ch50"]) == (2, 1, 1)
    assert row["rbytes"] == house.vnics[0].rbytes
    assert set(lanes(house.vnics[0])) == {"local", "hw", "bcast"}


def test_each_lane_has_its_frames_and_their_sum_is_what_came() -> None:
    house = House(A, B)
    house.switch.rx(came(burst(*[ether(A, sender=C)] * 4), WIRE))
    house.switch.rx(came(burst(ether(A, sender=C), ether(B, sender=C), ether(A, sender=C)), WIRE | POLLED))
    house.switch.rx(came(burst(ether(BROADCAST, sender=C), ether(A, sender=C)), WIRE))
    house.switch.rx(came(burst(ether(GROUP, sender=C)), WIRE))
    house.vnics[1].tx(burst(ether(A, sender=B), ether(A, sender=B)))
    house.vnics[1].tx(came(burst(ether(A, sender=B), ether(BROADCAST, sender=B)), POLLED))
    assert packets(house.vnics[0]) == {"local": 3, "sw": 7, "bcast": 3}
    assert packets(house.vnics[1]) == {"local": 0, "sw": 1, "bcast": 2}
    ours = lanes(house.vnics[0])
    assert (ours["sw"]["intrs"], ours["sw"]["polls"], ours["sw"]["ch10"]) == (5, 2, 1), "its part of the chain"
    assert (ours["local"]["intrs"], ours["local"]["polls"]) == (2, 1)
    assert ours["bcast"]["intrs"] is None
    for vnic in house.vnics:
        counters = vnic.statistics()
        assert sum(row["ipkts"] for row in lanes(vnic).values()) == counters["ipackets"]
        assert sum(row["rbytes"] for row in lanes(vnic).values()) == counters["rbytes"]
        sent = lanes(vnic, "tx").values()
        assert sum(row["opkts"] for row in sent) == counters["opackets"]
        assert sum(row["obytes"] for row in sent) == counters["obytes"]
    assert {name: row["opkts"] for name, row in lanes(house.vnics[1], "tx").items()} == {"sw": 3, "bcast": 1}


def test_what_came_from_a_wire_of_its_own_is_local_to_another_client() -> None:
    """A client may be the end of a wire itself."""
    house = House(A, B)
    house.vnics[0].tx(came(burst(ether(B)), WIRE | POLLED))
    assert packets(house.vnics[1]) == {"local": 1, "sw": 0, "bcast": 0}
    assert lanes(house.vnics[1])["local"]["polls"] == 1


def test_a_lane_that_is_left_keeps_its_figures() -> None:
    house = House(A)
    house.switch.rx(came(burst(ether(A, sender=C)), WIRE))
    house.vnics[0].tx(burst(ether(STRANGER)))
    other = house.add(Vnic("xvm9_0", house.switch, B))
    house.switch.rx(came(burst(ether(A, sender=C), ether(A, sender=C)), WIRE))
    house.vnics[0].tx(burst(ether(STRANGER)))
    assert packets(house.vnics[0]) == {"local": 0, "hw": 1, "sw": 2, "bcast": 0}
    other.close()
    house.switch.rx(came(burst(ether(A, sender=C)), WIRE))
    house.vnics[0].tx(burst(ether(STRANGER)))
    assert packets(house.vnics[0]) == {"local": 0, "hw": 2, "sw": 2, "bcast": 0}
    assert {name: row["opkts"] for name, row in lanes(house.vnics[0], "tx").items()} == {"hw": 2, "sw": 1, "bcast": 0}
    house.switch.connect(None)
    assert packets(house.vnics[0]) == {"local": 0, "hw": 2, "sw": 2, "bcast": 0}


def test_frames_for_nobody_are_in_no_lane() -> None:
    house = House(A, B)
    house.vnics[0].attach(None)
    house.switch.rx(came(burst(ether(BROADCAST, sender=C), ether(A, sender=C)), WIRE))
    house.vnics[0].attach(house.sinks[0])
    house.switch.rx(came(burst(ether(A, sender=C)), WIRE))
    assert packets(house.vnics[0]) == {"local": 0, "sw": 1, "bcast": 0}


def test_drops_of_caps_are_the_lanes_in_use() -> None:
    caps = {"rxsdrops": 3, "txsdrops": 4, "blkcnt": 5, "ublkcnt": 6}
    for house, lane in ((House(A), "hw"), (House(A, B), "sw"), (House(A, wired=False), "sw")):
        rows = house.vnics[0].lanes(caps)
        [rx] = [row for row in rows["rx"] if row["id"] == lane]
        [tx] = [row for row in rows["tx"] if row["id"] == lane]
        assert (rx["sdrops"], tx["sdrops"], tx["blkcnt"], tx["ublkcnt"]) == (3, 4, 5, 6)


def test_who_has_the_wire_alone_may_keep_it_waiting_and_is_heard_when_it_goes_on() -> None:
    house = House(A)
    sink = house.sinks[0]
    sink.waiting = 300
    assert house.switch.backlog() == 300
    before = house.wire.ready
    house.vnics[0].client_ready()
    assert house.wire.ready == before + 1
    other = house.add(Vnic("xvm9_0", house.switch, B))
    assert house.wire.ready > before + 1, "it may go on: there is another"
    assert house.switch.backlog() == 0, "nobody's backlog is another's loss"
    ready = house.wire.ready
    other.client_ready()
    assert house.wire.ready == ready
    sink.waiting = 0
    house.vnics[0].attach(None)
    assert house.vnics[0].backlog() == 0
