"""Datalinks without a machine: what dladm orders, what it refuses and in which words, and what is kept."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from xnet.engine.datalinks import DatalinkError, Datalinks
from xnet.errors import XnetError
from xnet.frame.arena import Arena
from xnet.mac.protect import Protection
from xnet.testing.clock import HandClock

FIXED = {"type": "fixed", "address": "0:16:3e:1:2:3"}


@pytest.fixture
def links(tmp_path: Path) -> Datalinks:
    return fresh(tmp_path)


def fresh(path: Path) -> Datalinks:
    arena = Arena(memoryview(bytearray(1 << 20)), 0, 1 << 20)
    found = Datalinks("lab", path, is_running=lambda device: False, clock=HandClock(), arena=arena)
    found.registry.dice = random.Random(1)
    found.registry.add_phys("net0", 1500, bytes.fromhex("020000000001"), None)
    return found


def order(links: Datalinks, do: str, /, **arguments: Any) -> Any:
    return asyncio.run(links.do({"verb": "datalink", "do": do, **arguments}))


def row(links: Datalinks, name: str) -> dict[str, Any]:
    return next(each for each in links.show()["links"] if each["name"] == name)


def error(links: Datalinks, do: str, /, **arguments: Any) -> str:
    before = links.show()
    with pytest.raises(XnetError) as caught:
        order(links, do, **arguments)
    assert links.show() == before, "nothing half-made"
    return str(caught.value)


def test_a_vnic_is_there_with_its_address_kept_as_random(links: Datalinks, tmp_path: Path) -> None:
    order(links, "create-vnic", name="vnic0", over="net0")
    vnic = row(links, "vnic0")
    assert (vnic["class"], vnic["over"], vnic["mac_type"], vnic["vid"]) == ("vnic", ["net0"], "random", 0)
    assert vnic["mac"].startswith("2:8:20:")
    again = fresh(tmp_path)
    told: list[str] = []
    asyncio.run(again.restore(told.append))
    assert row(again, "vnic0")["mac"] == vnic["mac"]
    assert told == ["vnic0: made again, as it was kept"]


def test_what_is_temporary_is_not_kept(links: Datalinks, tmp_path: Path) -> None:
    order(links, "create-etherstub", name="stub0", temporary=True)
    order(links, "create-etherstub", name="stub1")
    assert list(json.loads((tmp_path / "datalink.json").read_text())["records"]) == ["stub1"]
    order(links, "set-linkprop", link="stub1", properties={"mtu": ["1500"]})
    order(links, "rename-link", old="stub1", new="lan1")
    again = fresh(tmp_path)
    asyncio.run(again.restore(lambda line: None))
    assert [each["name"] for each in again.show()["links"]] == ["net0", "lan1"]
    assert row(again, "lan1")["mtu"] == 1500


@pytest.mark.parametrize(
    ("do", "arguments", "text"),
    [
        ("create-vnic", {"name": "v0", "over": "net0"}, "vnic creation over net0 failed: object already exists"),
        ("create-vnic", {"name": "v9", "over": "v0"}, "vnic creation over v0 failed: invalid argument"),
        ("create-vnic", {"name": "v9", "over": "net7"}, "invalid link name 'net7'"),
        ("create-vnic", {"name": "9v", "over": "net0"}, "invalid link name '9v'"),
        ("create-vnic", {"name": "v01", "over": "net0"}, "invalid link name 'v01'"),
        ("create-vnic", {"name": "v9", "over": "net0", "vid": 4095}, "invalid VLAN identifier '4095'"),
        (
            "create-vnic",
            {"name": "v9", "over": "net0", "mac": FIXED},
            "vnic creation over net0 failed: MAC address is already in use",
        ),
        (
            "create-vnic",
            {"name": "v9", "over": "net0", "mac": {"type": "fixed", "address": "2:0:0:0:0:1"}},
            "vnic creation over net0 failed: MAC address reserved for use by underlying data-link",
        ),
        (
            "create-vnic",
            {"name": "v9", "over": "net0", "mac": {"type": "fixed", "address": "1:0:0:0:0:1"}},
            "vnic creation over net0 failed: invalid MAC address",
        ),
        (
            "create-vnic",
            {"name": "v9", "over": "net0", "mac": {"type": "factory"}},
            "vnic creation over net0 failed: factory MAC address slots not supported",
        ),
        (
            "create-vnic",
            {"name": "v9", "over": "net0", "mac": {"type": "random", "prefix": "1:2"}},
            "vnic creation over net0 failed: invalid MAC address",
        ),
        ("create-vnic", {"name": "v9", "over": "net0", "properties": {"nope": ["1"]}}, "invalid link property 'nope'"),
        ("create-etherstub", {"name": "v0"}, "etherstub creation failed: object already exists"),
        ("create-vlan", {"name": "lan5", "over": "net0", "vid": 5}, "create operation failed: object already exists"),
        ("create-vlan", {"name": None, "over": "net0", "vid": 0}, "invalid VLAN identifier '0'"),
        ("delete-vnic", {"name": "stub0"}, "'stub0' is not a vnic"),
        ("delete-etherstub", {"name": "v0"}, "'v0' is not an etherstub"),
        ("delete-etherstub", {"name": "stub0"}, "vnic deletion failed: link busy"),
        ("delete-vnic", {"name": "v9"}, "invalid link name 'v9'"),
        ("set-linkprop", {"link": "v0", "properties": {}}, "link property must be specified"),
        (
            "set-linkprop",
            {"link": "v0", "properties": {"mtu": ["1501"]}},
            "property 'mtu' on 'v0': MTU outside",
        ),
        ("set-linkprop", {"link": "net0", "properties": {"mtu": ["1400"]}}, "cannot set link property 'mtu' on 'net0'"),
        ("rename-link", {"old": "v0", "new": "net0"}, "rename operation failed: object already exists"),
        ("create-vnic", {"name": "v9", "over": "net0", "wrong": 1}, "create-vnic: "),
        ("destroy-everything", {}, 'unknown order "destroy-everything"'),
    ],
)
def test_what_cannot_be_is_refused_in_dladms_words(
    links: Datalinks, do: str, arguments: dict[str, Any], text: str
) -> None:
    order(links, "create-vnic", name="v0", over="net0", mac=FIXED)
    order(links, "create-etherstub", name="stub0")
    order(links, "create-vnic", name="v1", over="stub0")
    order(links, "create-vlan", name="lan5", over="net0", vid=9)
    assert text in error(links, do, **arguments)


def test_the_same_address_may_be_in_another_vlan_or_on_another_link(links: Datalinks) -> None:
    order(links, "create-etherstub", name="stub0")
    order(links, "create-vnic", name="v0", over="net0", mac=FIXED)
    order(links, "create-vnic", name="v1", over="net0", mac=FIXED, vid=5)
    order(links, "create-vnic", name="v2", over="stub0", mac=FIXED)
    assert [row(links, name)["vid"] for name in ("v0", "v1", "v2")] == [0, 5, 0]


def test_a_vlan_has_the_links_own_address_and_a_name_after_it(links: Datalinks) -> None:
    order(links, "create-vlan", name=None, over="net0", vid=5)
    vlan = row(links, "net5000")
    assert (vlan["class"], vlan["mac"], vlan["vid"], vlan["forced"]) == ("vlan", "2:0:0:0:0:1", 5, False)


def test_a_link_is_up_where_another_shares_its_vid(links: Datalinks) -> None:
    order(links, "create-vnic", name="v0", over="net0")
    assert row(links, "v0")["state"] == "down", "the wire's own state"
    order(links, "create-vnic", name="v1", over="net0", vid=3)
    assert row(links, "v0")["state"] == "down", "the other one is elsewhere"
    order(links, "create-vnic", name="v2", over="net0")
    assert [row(links, name)["state"] for name in ("v0", "v1", "v2")] == ["up", "down", "up"]


def test_a_vnic_moves(links: Datalinks) -> None:
    order(links, "create-etherstub", name="stub0")
    order(links, "create-vnic", name="v0", over="net0", mac=FIXED)
    order(links, "modify-vnic", name="v0", over="stub0", vid=7)
    assert (row(links, "v0")["over"], row(links, "v0")["vid"], row(links, "v0")["mac"]) == (
        ["stub0"],
        7,
        "0:16:3e:1:2:3",
    )
    order(links, "create-vnic", name="v1", over="net0", mac=FIXED)
    assert "already in use" in error(links, "modify-vnic", name="v0", over="net0", vid=0)


def test_who_uses_a_vnic_keeps_it(links: Datalinks) -> None:
    asyncio.run(links.create_vnic("xvm1_0", "net0", mac=FIXED, temporary=True)).user = "vif1.0"
    for do, arguments in (
        ("delete-vnic", {"name": "xvm1_0"}),
        ("modify-vnic", {"name": "xvm1_0", "vid": 4}),
        ("rename-link", {"old": "xvm1_0", "new": "v4"}),
    ):
        assert error(links, do, **arguments).endswith("link busy")
    links.registry.release("xvm1_0")
    with pytest.raises(DatalinkError):
        links.registry.find("xvm1_0")


def test_a_cap_is_set_shown_kept_and_reset(links: Datalinks, tmp_path: Path) -> None:
    order(links, "create-vnic", name="v0", over="net0", properties={"maxbw": ["100M"], "priority": ["low"]})
    shown = {each["name"]: each["value"] for each in row(links, "v0")["properties"]}
    assert (shown["maxbw"], shown["priority"], row(links, "v0")["speed_mbps"]) == (["  100"], ["low"], 100)
    assert "1200K" in error(links, "set-linkprop", link="v0", properties={"maxbw": ["1199K"]})
    assert "must be one of: low,medium,high" in error(links, "set-linkprop", link="v0", properties={"priority": ["x"]})
    assert "not supported" in error(links, "set-linkprop", link="v0", properties={"cpus": ["0"]})
    again = fresh(tmp_path)
    asyncio.run(again.restore(lambda line: None))
    assert again.show()["links"] == links.show()["links"]
    order(links, "set-linkprop", link="v0", properties={"maxbw": ["0"]})
    assert row(links, "v0")["speed_mbps"] == 0
    order(links, "reset-linkprop", link="v0", names=["maxbw"])
    assert row(links, "v0")["speed_mbps"] == 10_000


def test_flows(links: Datalinks, tmp_path: Path) -> None:
    order(links, "create-etherstub", name="stub0")
    order(links, "create-vnic", name="v0", over="stub0")
    web = {"transport": "tcp", "local_port": "80"}
    order(links, "add-flow", name="web", link="v0", attributes=web, properties={"maxbw": ["5M"]})
    [flow] = links.show()["flows"]
    assert (flow["name"], flow["link"], flow["attributes"]) == ("web", "v0", web)
    assert [each["value"] for each in flow["properties"]] == [["    5"], ["medium"]]
    for arguments, text in (
        (
            {"name": "f", "link": "v0", "attributes": {"transport": "udp"}},
            "flow(s) with incompatible attributes exists",
        ),
        ({"name": "f", "link": "v0", "attributes": web}, "a flow with identical attributes exists"),
        ({"name": "web", "link": "v0", "attributes": web}, "add flow failed: object already exists"),
        ({"name": "f", "link": "stub0", "attributes": web}, "add flow failed: operation not supported"),
        ({"name": "f", "link": "v9", "attributes": web}, "invalid link name 'v9'"),
        ({"name": "f", "link": "v0", "attributes": {"local_port": "1"}}, "add flow failed: invalid argument"),
    ):
        assert text in error(links, "add-flow", **arguments)
    other = web | {"local_port": "81"}
    text = error(links, "add-flow", name="f", link="v0", attributes=other, properties={"maxbw": ["1199K"]})
    assert text.endswith("minimum value for maxbw is 1200K")
    assert error(links, "delete-vnic", name="v0").endswith("link still has flows")
    again = fresh(tmp_path)
    asyncio.run(again.restore(lambda line: None))
    assert again.show()["flows"] == links.show()["flows"]
    order(links, "set-flowprop", flow="web", properties={"priority": ["high"]})
    again, told = fresh(tmp_path), list[str]()
    asyncio.run(again.restore(told.append))
    assert again.show()["flows"] == links.show()["flows"]
    assert told == [
        "stub0: made again, as it was kept",
        "v0: made again, as it was kept",
        "web: made again, as it was kept",
    ]
    order(links, "reset-flowprop", flow="web")
    assert [each["value"] for each in links.show()["flows"][0]["properties"]] == [[], ["medium"]]
    order(links, "remove-flow", link="v0")
    assert links.show()["flows"] == []
    order(links, "delete-vnic", name="v0")
    assert "invalid flow: 'web'" in error(links, "remove-flow", name="web")


def test_protection_is_set_checked_and_taken_away(links: Datalinks) -> None:
    order(links, "create-vnic", name="v0", over="net0", properties={"protection": ["mac-nospoof", "ip-nospoof"]})
    vnic = links.registry.links["v0"].vnic
    assert vnic is not None
    order(links, "set-linkprop", link="v0", properties={"allowed-ips": ["10.0.0.1", "fd00::/64"]})
    guard = vnic.guard
    assert isinstance(guard, Protection)
    assert (sorted(guard.modes), len(guard.allowed)) == (["ip-nospoof", "mac-nospoof"], 2)
    assert "must be one of: mac-nospoof" in error(links, "set-linkprop", link="v0", properties={"protection": ["x"]})
    assert "invalid argument" in error(links, "set-linkprop", link="v0", properties={"allowed-ips": ["x"]})
    order(links, "reset-linkprop", link="v0", names=["protection"])
    assert vnic.guard is None
    assert row(links, "v0")["misc"]["macspoofed"] == 0
