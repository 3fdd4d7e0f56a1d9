"""Aggregations that fail over, bridges that learn, vnics that hear more or have more addresses: with real frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.privileged.test_crossbow import link, order
from xnet.engine.lab import (
    AggrSpec,
    BridgeSpec,
    DomainSpec,
    EtherstubSpec,
    Lab,
    LinkBridgeSpec,
    LinkSpec,
    VifSpec,
    VnicSpec,
)

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, Running

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

QUIET = {"net.ipv6.conf.all.disable_ipv6": "1"}


def guest(name: str, host: int, **plug: Any) -> DomainSpec:
    mac = f"00:16:3e:00:00:{host:02x}"
    return DomainSpec(name, vifs=(VifSpec(mac=mac, ip=(f"10.0.0.{host}/24",), **plug),), sysctl=QUIET)


async def echoes(running: Running, where: str, *options: str) -> bool:
    said = await running.run(where, "ping", "-c", "1", "-W", "1", *options, status=None)
    return " 1 received" in said and "DUP!" not in said


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    """It becomes true; the machine looks at its wires once a second."""
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.1)


async def active(running: Running, name: str) -> list[str]:
    return [port["name"] for port in (await link(running, name))["ports"] if port["active"]]


async def test_a_trunk_spreads_streams_and_goes_on_when_a_cable_is_out(boot: Boot) -> None:
    wires = tuple(LinkSpec(f"{side}{i}", bridge=f"xenbr{i}") for side in ("near", "far") for i in (0, 1))
    lab = Lab(
        name="trunk",
        bridges=(BridgeSpec("xenbr0"), BridgeSpec("xenbr1")),
        links=wires,
        aggrs=tuple(AggrSpec(f"{side}aggr0", (f"{side}0", f"{side}1")) for side in ("near", "far")),
        domains=(guest("a", 1, link="nearaggr0"), guest("b", 2, link="faraggr0")),
    )
    async with boot(lab) as running:
        await soon(lambda: echoes(running, "a", "10.0.0.2"))
        async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
            said = await running.run("a", "iperf3", "-J", "-c", "10.0.0.2", "-t", "2", "-P", "8", "-C", "cubic")
        assert "error" not in json.loads(said)
        ports = (await link(running, "nearaggr0"))["ports"]
        assert all(port["obytes"] > 1_000_000 for port in ports), str(ports)
        for cable in (0, 1):
            for end in ("near", "far"):
                await running.run("dom0", "ip", "link", "set", f"{end}{cable}", "down")
            await soon(lambda cable=cable: is_active(running, f"near{1 - cable}"))  # type: ignore[misc]
            await soon(lambda: echoes(running, "a", "10.0.0.2"))
            for end in ("near", "far"):
                await running.run("dom0", "ip", "link", "set", f"{end}{cable}", "up")
            await soon(lambda: both_are_active(running))
        assert (await link(running, "nearaggr0"))["state"] == "up"


async def is_active(running: Running, port: str) -> bool:
    return await active(running, "nearaggr0") == [port]


async def both_are_active(running: Running) -> bool:
    return len(await active(running, "nearaggr0")) == len(await active(running, "faraggr0")) == 2


async def test_dlmp_fails_over_in_one_plain_switch_and_nothing_comes_twice(boot: Boot) -> None:
    lab = Lab(
        name="dlmp",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("up0", bridge="xenbr0"), LinkSpec("up1", bridge="xenbr0")),
        aggrs=(AggrSpec("aggr0", ("up0", "up1"), mode="dlmp"),),
        domains=(guest("a", 1, link="aggr0"), guest("b", 2, link="aggr0"), guest("c", 3, bridge="xenbr0")),
    )
    async with boot(lab) as running:
        for where, to in (("a", 3), ("b", 3), ("c", 1), ("c", 2), ("a", 2)):
            assert await echoes(running, where, f"10.0.0.{to}"), f"{where} to {to}"
        for device in ("up0", "up1"):
            await running.run("dom0", "ip", "link", "set", device, "down")
            for where, to in (("c", 1), ("c", 2), ("a", 3), ("b", 3)):
                await soon(lambda where=where, to=to: echoes(running, where, f"10.0.0.{to}"))  # type: ignore[misc]
            await running.run("dom0", "ip", "link", "set", device, "up")
            await soon(lambda: has_two(running))
        before = (await link(running, "xvm1_0"))["statistics"]["ipackets"]
        await running.run("c", "arping", "-c", "1", "-w", "1", "10.0.0.1", status=None)
        assert (await link(running, "xvm1_0"))["statistics"]["ipackets"] <= before + 2


async def has_two(running: Running) -> bool:
    return len(await active(running, "aggr0")) == 2


async def test_a_ping_hardly_notices_that_a_wire_fails(boot: Boot) -> None:
    """The kernel says so: nobody waits for the next second."""
    lab = Lab(
        name="notices",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("up0", bridge="xenbr0"), LinkSpec("up1", bridge="xenbr0")),
        aggrs=(AggrSpec("aggr0", ("up0", "up1"), mode="dlmp"),),
        domains=(guest("a", 1, link="aggr0"), guest("c", 3, bridge="xenbr0")),
    )
    async with boot(lab) as running:
        running.machine.drivers.tick = lambda: None  # type: ignore[method-assign]
        assert await echoes(running, "a", "10.0.0.3")
        for device in ("up0", "up1"):
            await running.run("dom0", "ip", "link", "set", device, "down")
            await soon(lambda: echoes(running, "a", "10.0.0.3"))
            assert len(await active(running, "aggr0")) == 1
            await running.run("dom0", "ip", "link", "set", device, "up")
            await soon(lambda: has_two(running))


async def test_an_aggregation_by_orders_is_all_or_nothing(boot: Boot) -> None:
    links = (LinkSpec("net0", bridge="xenbr0"), LinkSpec("net1", bridge="xenbr0"))
    async with boot(Lab(name="orders", bridges=(BridgeSpec("xenbr0"),), links=links)) as running:
        await order(running, "create-aggr", name="aggr0", links=["net0"], policy="L2,L3")
        await order(running, "add-aggr", name="aggr0", links=["net1"])
        assert (await link(running, "aggr0"))["over"] == ["net0", "net1"]
        await order(running, "create-vnic", name="v0", over="aggr0")
        for wrong, says in (
            ({"do": "delete-aggr", "name": "aggr0"}, "delete operation failed: link busy"),
            ({"do": "remove-aggr", "name": "aggr0", "links": ["net0", "net1"]}, "remove operation failed: invalid"),
            ({"do": "create-vnic", "name": "v1", "over": "net0"}, "vnic creation over net0 failed: link busy"),
            ({"do": "create-aggr", "name": "aggr1", "links": ["net0"]}, "create operation failed: link busy"),
            ({"do": "modify-aggr", "name": "aggr0", "policy": "L9"}, "invalid policy 'L9'"),
            ({"do": "delete-aggr", "name": "net0"}, "'net0' is not an aggregation"),
        ):
            with pytest.raises(Exception, match=says):
                await running.machine.datalinks.do(wrong)
        await order(running, "delete-vnic", name="v0")
        await order(running, "remove-aggr", name="aggr0", links=["net0"])
        await order(running, "delete-aggr", name="aggr0")
        assert {each["name"] for each in (await order(running, "show"))["links"]} == {"net0", "net1"}
        await order(running, "create-vnic", name="v0", over="net0")


async def test_a_bridge_of_a_wire_and_an_etherstub_learns_who_is_outside(boot: Boot) -> None:
    lab = Lab(
        name="learns",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("net0", bridge="xenbr0"),),
        etherstubs=(EtherstubSpec("stub0", 1500),),
        linkbridges=(LinkBridgeSpec("lan", ("net0", "stub0")),),
        domains=(
            guest("a", 1, link="stub0"),
            guest("b", 2, link="stub0"),
            guest("c", 3, bridge="xenbr0"),
            guest("d", 4, link="net0"),
        ),
    )
    async with boot(lab) as running:
        assert await echoes(running, "a", "10.0.0.2"), "the etherstub has no wire and no loop"
        await soon(lambda: echoes(running, "a", "10.0.0.3"))
        for where, to in (("a", 2), ("a", 3), ("c", 1), ("a", 4), ("d", 1), ("d", 3)):
            assert await echoes(running, where, f"10.0.0.{to}"), f"{where} to {to}"
        [bridge] = (await order(running, "show"))["bridges"]
        fdb = {entry["dest"]: (entry["output"], entry["flags"]) for entry in bridge["fdb"]}
        assert fdb["0:16:3e:0:0:3"] == ("net0", "")
        assert fdb["0:16:3e:0:0:1"] == ("stub0", "L")
        assert fdb["0:16:3e:0:0:4"] == ("net0", "L")
        before = (await link(running, "xvm2_0"))["statistics"]["ipackets"]
        async with running.background("c", "iperf3", "-s", "-1", "--forceflush", says="listening"):
            said = await running.run("a", "iperf3", "-J", "-c", "10.0.0.3", "-t", "1", "-C", "cubic")
        assert json.loads(said)["end"]["sum_received"]["bytes"] > 10_000_000
        assert (await link(running, "xvm2_0"))["statistics"]["ipackets"] < before + 20, (
            "who is known is not flooded for"
        )
        await order(running, "remove-bridge", name="lan", links=["net0"])
        assert not await echoes(running, "a", "10.0.0.3")
        assert await echoes(running, "d", "10.0.0.3")
        await order(running, "add-bridge", name="lan", links=["net0"])
        await soon(lambda: echoes(running, "a", "10.0.0.3"))


async def test_links_that_are_joined_twice_make_no_storm(boot: Boot) -> None:
    """Both wires are in one Linux bridge: without a spanning tree one broadcast would go round for ever."""
    lab = Lab(
        name="loop",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("net0", bridge="xenbr0"), LinkSpec("net1", bridge="xenbr0")),
        etherstubs=(EtherstubSpec("stub0", 1500),),
        linkbridges=(LinkBridgeSpec("lan", ("net0", "net1", "stub0")),),
        domains=(guest("a", 1, link="stub0"), guest("b", 2, bridge="xenbr0")),
    )
    async with boot(lab) as running:

        async def states() -> dict[str, str]:
            [bridge] = (await order(running, "show"))["bridges"]
            return {member["link"]: member["state"] for member in bridge["members"]}

        await soon(lambda: echoes(running, "a", "10.0.0.2"))
        assert sorted((await states()).values()) == ["blocking", "forwarding", "nonstp"]
        before = (await link(running, "net0"))["statistics"]["ipackets"]
        await running.run("b", "ping", "-c", "3", "-W", "1", "10.0.0.77", status=None)
        assert await echoes(running, "b", "10.0.0.1")
        assert (await link(running, "net0"))["statistics"]["ipackets"] < before + 50
        await order(running, "remove-bridge", name="lan", links=["net0"])
        await order(running, "set-linkprop", link="net1", properties={"stp": ["0"]})
        await soon(lambda: echoes(running, "a", "10.0.0.2"))
        assert (await states())["net1"] == "nonstp"


async def test_a_promiscuous_vnic_hears_others_only_when_it_is_not_filtered(boot: Boot) -> None:
    lab = Lab(
        name="hears",
        etherstubs=(EtherstubSpec("stub0", 1500),),
        vnics=(VnicSpec("spy0", "stub0", zone="dom0"),),
        domains=(guest("a", 1, link="stub0"), guest("b", 2, link="stub0")),
    )
    async with boot(lab) as running:

        async def heard() -> int:
            """Of five echoes between others."""
            assert await echoes(running, "a", "10.0.0.2")
            before = (await link(running, "spy0"))["statistics"]["ipackets"]
            for _ in range(5):
                assert await echoes(running, "a", "10.0.0.2")
            return int((await link(running, "spy0"))["statistics"]["ipackets"]) - before

        assert await heard() == 0
        await order(running, "set-linkprop", link="spy0", properties={"promisc-filtered": ["off"]}, temporary=True)
        assert await heard() == 10
        await order(running, "reset-linkprop", link="spy0", names=["promisc-filtered"], temporary=True)
        assert await heard() == 0


async def test_a_vnic_may_have_more_addresses_than_one(boot: Boot) -> None:
    lab = Lab(
        name="macs",
        etherstubs=(EtherstubSpec("stub0", 1500),),
        domains=(guest("a", 1, link="stub0", properties={"protection": ("mac-nospoof",)}), guest("b", 2, link="stub0")),
    )
    async with boot(lab) as running:
        assert await echoes(running, "a", "10.0.0.2")
        await running.run("a", "ip", "link", "set", "eth0", "address", "00:16:3e:00:00:77")
        assert not await echoes(running, "a", "10.0.0.2")
        wanted = {"secondary-macs": ["0:16:3e:0:0:77", "0:16:3e:0:0:78"]}
        await order(running, "set-linkprop", link="xvm1_0", properties=wanted)
        for where in ("a", "b"):  # a may have just given up on b, when nothing came back
            await running.run(where, "ip", "neigh", "flush", "all")
        assert await echoes(running, "a", "10.0.0.2")
        with pytest.raises(Exception, match="MAC address is already in use"):
            await order(running, "set-linkprop", link="xvm1_0", properties={"secondary-macs": ["0:16:3e:0:0:2"]})
        await order(running, "reset-linkprop", link="xvm1_0", names=["secondary-macs"])
        assert not await echoes(running, "a", "10.0.0.2")
