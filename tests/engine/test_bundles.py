"""Aggregations and bridges without a machine: what dladm orders, what it refuses, and what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_datalinks import error, order, row
from tests.engine.test_datalinks import fresh as bare
from tests.mac.test_vswitch import BROADCAST, A, B, Wire, burst, ether
from xnet.engine.datalinks import Datalinks
from xnet.testing.clock import HandClock

UP: set[str] = set()


@pytest.fixture
def links(tmp_path: Path) -> Datalinks:
    UP.clear()
    UP.update(("net1", "net2", "net3"))
    return fresh(tmp_path)


def fresh(path: Path) -> Datalinks:
    """net0 without a wire, net1 to net3 with one."""
    found = bare(path)
    found.is_running = lambda device: device in UP
    for i in (1, 2, 3):
        wire = Wire()
        wire.mtu = 9000
        found.registry.add_phys(f"net{i}", 1500, bytes((2, 0, 0, 0, 1, i)), wire)
    return found


def test_an_aggregation_has_the_first_links_address_and_all_wires(links: Datalinks) -> None:
    order(links, "create-aggr", name="aggr0", links=["net1", "net2"], policy="l2,l4")
    shown = row(links, "aggr0")
    assert (shown["class"], shown["over"], shown["mac"]) == ("aggr", ["net1", "net2"], "2:0:0:0:1:1")
    assert (shown["state"], shown["mtu"], shown["policy"]) == ("up", 1500, "L2,L4")
    assert shown["speed_mbps"] == 20_000
    order(links, "create-vnic", name="v0", over="aggr0")
    order(links, "add-aggr", name="aggr0", links=["net3"])
    order(links, "remove-aggr", name="aggr0", links=["net1", "net2"])
    assert row(links, "aggr0")["over"] == ["net3"]
    order(links, "create-vnic", name="v1", over="net1")
    order(links, "modify-aggr", name="aggr0", policy="L3")
    assert row(links, "aggr0")["policy"] == "L3"
    order(links, "delete-vnic", name="v0")
    order(links, "delete-aggr", name="aggr0")
    order(links, "create-vnic", name="v2", over="net3")


def test_wires_that_fail_are_told_and_left(links: Datalinks) -> None:
    told: list[str] = []
    links.bundles.tell = told.append
    order(links, "create-aggr", name="aggr0", links=["net1", "net2"])
    for up in ({"net2"}, set(), {"net1", "net2"}):
        UP.intersection_update(up)
        UP.update(up)
        links.bundles.look()
        links.bundles.look()
        assert [port["active"] for port in row(links, "aggr0")["ports"]] == ["net1" in up, "net2" in up]
        assert row(links, "aggr0")["state"] == ("up" if up else "down")
    assert told == [
        "aggr0: net1 is down: 1 active",
        "aggr0: net2 is down: 0 active",
        "aggr0: net1 is up: 1 active",
        "aggr0: net2 is up: 2 active",
    ]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("create-aggr", {"name": "aggr1", "links": []}, "create operation failed: invalid argument"),
    ("create-aggr", {"name": "aggr1", "links": ["net0"]}, "create operation failed: invalid argument"),
    ("create-aggr", {"name": "aggr1", "links": ["net3", "net3"]}, "create operation failed: invalid argument"),
    ("create-aggr", {"name": "aggr1", "links": ["net1"]}, "create operation failed: link busy"),
    ("create-aggr", {"name": "aggr1", "links": ["stub0"]}, "create operation failed: invalid argument"),
    ("create-aggr", {"name": "aggr1", "links": ["none0"]}, "invalid link name 'none0'"),
    ("create-aggr", {"name": "aggr0", "links": ["net3"]}, "create operation failed: object already exists"),
    ("create-aggr", {"name": "aggr", "links": ["net3"]}, "invalid link name 'aggr'"),
    ("create-aggr", {"name": "aggr1", "links": ["net3"], "policy": "L1"}, "invalid policy 'L1'"),
    ("create-aggr", {"name": "aggr1", "links": ["net3"], "mode": "lacp"}, "create operation failed: invalid argument"),
    ("add-aggr", {"name": "net3", "links": ["net3"]}, "'net3' is not an aggregation"),
    ("add-aggr", {"name": "aggr0", "links": ["net1"]}, "add operation failed: link busy"),
    ("remove-aggr", {"name": "aggr0", "links": ["net1"]}, "remove operation failed: invalid argument"),
    ("remove-aggr", {"name": "aggr0", "links": ["net3"]}, "remove operation failed: invalid argument"),
    ("delete-aggr", {"name": "aggr0"}, "delete operation failed: link busy"),
    ("rename-link", {"old": "net1", "new": "old0"}, "rename operation failed: link busy"),
    ("create-vnic", {"name": "v9", "over": "net1"}, "vnic creation over net1 failed: link busy"),
    ("create-vnic", {"name": "v9", "over": "net3", "vid": 1}, "VLAN over 'net3' may not use default_tag ID"),
    ("create-bridge", {"name": "lan1x"}, ""),
    ("create-bridge", {"name": "default"}, "'default' is not a valid bridge name"),
    ("create-bridge", {"name": "SUNWlan"}, "'SUNWlan' is not a valid bridge name"),
    ("create-bridge", {"name": "lan"}, "create operation failed: object already exists"),
    ("create-bridge", {"name": "wan", "links": ["v0"]}, "create operation failed: invalid argument"),
    ("create-bridge", {"name": "wan", "links": ["stub0"]}, "create operation failed: link busy"),
    ("create-bridge", {"name": "wan", "links": ["net3", "big0"]}, "create operation failed: invalid argument"),
    ("create-bridge", {"name": "wan", "links": ["dlmp0"]}, "create operation failed: operation not supported"),
    ("add-bridge", {"name": "lan", "links": ["big0"]}, "add operation failed: invalid argument"),
    ("add-bridge", {"name": "wan", "links": ["net3"]}, "'wan' is not a bridge"),
    ("remove-bridge", {"name": "lan", "links": ["net3"]}, "remove operation failed: invalid argument"),
    ("delete-bridge", {"name": "lan"}, "delete operation failed: link busy"),
    ("delete-etherstub", {"name": "stub0"}, "vnic deletion failed: link busy"),
    ("rename-link", {"old": "stub0", "new": "stub1"}, "rename operation failed: link busy"),
]  # fmt: skip
for where, name, value, why in (
    ("net3", "default_tag", "4095", "invalid argument"),
    ("net3", "default_tag", "7", "link busy"),
    ("net3", "tagmode", "normal", "operation not supported"),
    ("v0", "secondary-macs", "x", "invalid MAC address"),
    ("v0", "promisc-filtered", "x", ""),
):
    says = f"cannot set link property '{name}' on '{where}': {why}" if why else "warning: link property"
    WRONG.append(("set-linkprop", {"link": where, "properties": {name: [value]}}, says))


@pytest.mark.parametrize(("do", "arguments", "says"), WRONG)
def test_what_cannot_be_is_refused_and_nothing_is_half_made(
    links: Datalinks, do: str, arguments: dict[str, Any], says: str
) -> None:
    order(links, "create-etherstub", name="stub0")
    order(links, "set-linkprop", link="stub0", properties={"mtu": ["1500"]})
    order(links, "create-etherstub", name="big0")
    order(links, "create-aggr", name="aggr0", links=["net1"])
    order(links, "create-aggr", name="dlmp0", links=["net2"], mode="dlmp")
    order(links, "create-bridge", name="lan", links=["stub0"])
    order(links, "create-vnic", name="v0", over="aggr0")
    order(links, "create-vnic", name="v7", over="net3", vid=7)
    if says:
        assert error(links, do, **arguments).startswith(says)
    else:
        order(links, do, **arguments)


def test_a_bridge_has_a_link_of_its_own_and_its_members_say_so(links: Datalinks) -> None:
    order(links, "create-etherstub", name="stub0")
    order(links, "set-linkprop", link="stub0", properties={"mtu": ["1500"]})
    order(links, "create-bridge", name="lan", links=["net1", "stub0"], protect="none")
    order(links, "create-vnic", name="v0", over="stub0", mac={"type": "fixed", "address": "0:16:3e:0:0:1"})
    assert [row(links, name)["bridge"] for name in ("net1", "stub0", "net2", "lan0")] == ["lan", "lan", "", "lan"]
    assert (row(links, "lan0")["class"], row(links, "lan0")["mtu"]) == ("bridge", 1500)
    wire = links.registry.links["net1"].uplink
    assert isinstance(wire, Wire)
    assert wire.client is not None
    vnic = links.registry.links["v0"].vnic
    assert vnic is not None
    vnic.tx(burst(ether(BROADCAST, sender=A)))
    assert wire.far.frames == [ether(BROADCAST, sender=A)]
    wire.client.rx(burst(ether(BROADCAST, sender=B)))
    [bridge] = links.show()["bridges"]
    assert [(each["dest"], each["output"], each["flags"]) for each in bridge["fdb"]] == [
        ("0:16:3e:0:0:1", "stub0", "L"),
        ("0:16:3e:0:0:2", "net1", ""),
    ]
    order(links, "set-linkprop", link="net1", properties={"forward": ["0"]})
    vnic.tx(burst(ether(BROADCAST, sender=A)))
    assert len(wire.far.frames) == 1
    order(links, "remove-bridge", name="lan", links=["net1", "stub0"])
    order(links, "delete-bridge", name="lan")
    assert links.show()["bridges"] == []
    assert wire.client is links.registry.links["net1"].switch


def test_a_bridge_waits_for_other_bridges_before_a_wire_forwards(links: Datalinks) -> None:
    order(links, "create-bridge", name="lan", links=["net1", "net2"])
    clock = links.ticker.clock
    assert isinstance(clock, HandClock)
    [bridge] = links.show()["bridges"]
    assert (bridge["protect"], bridge["address"], bridge["desroot"]) == ("stp", "2:0:0:0:1:1", "32768/2:0:0:0:1:1")
    wire = links.registry.links["net2"].uplink
    assert isinstance(wire, Wire)
    for state in ("listening", "listening", "listening", "forwarding"):
        assert [each["state"] for each in links.show()["bridges"][0]["members"]] == [state, state]
        clock.run_until(clock.now() + 1)
        links.bundles.tick()
    assert wire.client is not None
    wire.client.rx(burst(wire.far.frames[0]))
    assert [each["state"] for each in links.show()["bridges"][0]["members"]] == ["forwarding", "forwarding"]
    order(links, "set-linkprop", link="net2", properties={"stp": ["0"]})
    sent = len(wire.far.frames)
    clock.run_until(clock.now() + 9)
    links.bundles.tick()
    assert len(wire.far.frames) == sent
    assert [each["state"] for each in links.show()["bridges"][0]["members"]] == ["forwarding", "nonstp"]


def test_all_of_it_comes_back_when_the_engine_was_killed(links: Datalinks, tmp_path: Path) -> None:
    order(links, "set-linkprop", link="net3", properties={"default_tag": ["0"]})
    order(links, "create-aggr", name="aggr0", links=["net1"], policy="L2")
    order(links, "add-aggr", name="aggr0", links=["net2"])
    order(links, "modify-aggr", name="aggr0", policy="L3")
    order(links, "create-bridge", name="lan")
    order(links, "add-bridge", name="lan", links=["aggr0", "net3"])
    order(links, "create-vnic", name="v0", over="aggr0", vid=7, properties={"promisc-filtered": ["off"]})
    order(links, "create-bridge", name="gone", temporary=True)
    told: list[str] = []
    again = fresh(tmp_path)
    asyncio.run(again.restore(told.append))
    assert [each["name"] for each in again.show()["bridges"]] == ["lan"]
    kept = [each for each in links.show()["links"] if each["name"] != "gone0"]
    assert again.show()["links"] == kept
    assert all(line.endswith("made again, as it was kept") for line in told)
