"""The tools of a network's administrator, unmodified: tcpdump, DHCP, xenstore-utils."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xnet.engine.lab import BridgeSpec, DomainSpec, Lab, LinkSpec, VifSpec

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


def echoes(lines: list[str]) -> set[str]:
    """The echo requests that a tcpdump saw, by id and sequence number."""
    return {found[0] for line in lines if (found := re.search(r"echo request, id \d+, seq \d+", line))}


async def watched(running: Running, points: list[tuple[str, str]], *ping: str) -> list[set[str]]:
    """Echo requests that tcpdump sees at each (domain, device) while a pings, and for a moment after."""
    dump = ["tcpdump", "-n", "-l", "--immediate-mode", "icmp or icmp6"]
    tools = [await running.spawn(where, *dump, "-i", device) for where, device in points]
    try:
        for tool in tools:
            await tool.says("listening on")
        await running.run("a", "ping", "-n", "-c", "3", "-i", "0.05", *ping)
        await tools[0].says("seq 3")
    finally:
        for tool in tools:
            await tool.end(2)
    return [echoes(tool.lines) for tool in tools]


@pytest.mark.parametrize("family", [4, 6])
async def test_tcpdump_sees_the_same_ping_at_every_point_of_a_bridge(pair: Running, family: int) -> None:
    points = [("a", "eth0"), ("dom0", "vif1.0"), ("dom0", "xenbr0"), ("dom0", "vif2.0"), ("b", "eth0")]
    first, *rest = await watched(pair, points, {4: "10.0.0.2", 6: "fd00::2"}[family])
    assert len(first) == 3
    assert all(each == first for each in rest)


async def test_tcpdump_sees_the_same_ping_on_a_links_uplink(pair: Running) -> None:
    first, *rest = await watched(pair, [("a", "eth2"), ("dom0", "net0"), ("dom0", "xenbr1")], "10.2.0.254")
    assert len(first) == 3
    assert all(each == first for each in rest)


async def test_a_ping_between_two_vnics_never_shows_on_the_uplink(pair: Running) -> None:
    at_a, at_b, uplink = await watched(pair, [("a", "eth2"), ("b", "eth2"), ("dom0", "net0")], "10.2.0.2")
    assert len(at_a) == 3
    assert (at_b, uplink) == (at_a, set())


LEASE = """#!/bin/sh
[ "$1" = bound ] && ip address add "$ip/$mask" dev "$interface" && ip route add default via "$router"
exit 0
"""


@pytest.mark.parametrize("lacking", [{}, {"csum-offload": False}], ids=["offload", "no-offload"])
@pytest.mark.parametrize("plug", ["bridge", "link"])
async def test_a_guest_gets_its_address_by_dhcp(
    boot: Boot, tmp_path: Path, plug: str, lacking: dict[str, bool]
) -> None:
    vif = VifSpec(
        "00:16:3e:00:00:01",
        bridge="xenbr0" if plug == "bridge" else None,
        link="net0" if plug == "link" else None,
        frontend_features=lacking,
    )
    lab = Lab(
        "dhcp",
        domains=(DomainSpec("a", vifs=(vif,)),),
        bridges=(BridgeSpec("xenbr0", ("10.0.0.254/24",)),),
        links=(LinkSpec("net0", "xenbr0"),),
    )
    script, leases = tmp_path / "lease", tmp_path / "leases"
    script.write_text(LEASE)
    script.chmod(0o755)
    dnsmasq = ["dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null", "--user=root", "--pid-file="]
    dnsmasq += ["--interface=xenbr0", "--bind-interfaces", f"--dhcp-leasefile={leases}", "--log-dhcp"]
    dnsmasq += ["--dhcp-range=10.0.0.50,10.0.0.60,1h", "--no-ping"]
    async with (
        boot(lab) as running,
        running.background("dom0", *dnsmasq, says="sockets bound exclusively") as server,
    ):
        udhcpc = ["busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1", "-s", str(script)]
        await running.run("a", *udhcpc)
        await server.says("DHCPACK(xenbr0)")
        addresses = json.loads(await running.run("a", "ip", "-j", "-4", "address", "show", "dev", "eth0"))
        leased = addresses[0]["addr_info"][0]["local"]
        assert leased in leases.read_text()
        assert 50 <= int(leased.rpartition(".")[2]) <= 60
        assert "2 received" in await running.run("a", "ping", "-n", "-q", "-c", "2", "-i", "0.05", "10.0.0.254")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/local/domain/1/device/vif/0/state", "4"),
        ("/local/domain/1/device/vif/0/backend", "/local/domain/0/backend/vif/1/0"),
        ("/local/domain/1/device/vif/0/backend-id", "0"),
        ("/local/domain/1/device/vif/0/mac", "00:16:3e:00:00:01"),
        ("/local/domain/0/backend/vif/1/0/state", "4"),
        ("/local/domain/0/backend/vif/1/0/frontend", "/local/domain/1/device/vif/0"),
        ("/local/domain/0/backend/vif/1/0/frontend-id", "1"),
        ("/local/domain/0/backend/vif/1/0/hotplug-status", "connected"),
        ("/local/domain/0/backend/vif/1/0/bridge", "xenbr0"),
        ("/local/domain/0/backend/vif/2/1/bridge", "stub0"),
        ("/libxl/1/device/vif/0/frontend", "/local/domain/1/device/vif/0"),
        ("/libxl/1/device/vif/0/backend", "/local/domain/0/backend/vif/1/0"),
        ("/local/domain/1/name", "a"),
    ],
)
async def test_xenstore_read_finds_what_xens_toolstack_and_drivers_write(pair: Running, path: str, value: str) -> None:
    assert await pair.run("", "xenstore-read", path) == value


async def test_xenstore_ls_shows_owners_and_permissions(pair: Running) -> None:
    listed = await pair.run("", "xenstore-ls", "-f", "-p")
    node = dict(re.findall(r"^(\S+) = .*\((\S+)\)$", listed, re.M))
    assert node["/local/domain/1/device/vif/0/state"] == "n1,r0"
    assert node["/local/domain/0/backend/vif/1/0/state"] == "n0,r1"
    assert node["/libxl/1/device/vif/0/backend"].startswith("n0")
    vm = await pair.run("", "xenstore-read", "/local/domain/1/vm")
    assert await pair.run("", "xenstore-read", f"{vm}/name") == "a"


async def test_xenstore_watch_fires_when_somebody_writes(pair: Running) -> None:
    async with pair.background("", "xenstore-watch", "-n", "2", "/tool/test", says="/tool/test") as watch:
        await pair.run("", "xenstore-write", "/tool/test/x", "1")
        await watch.says("/tool/test/x")
    assert await pair.run("", "xenstore-list", "/tool/test") == "x"
    await pair.run("", "xenstore-chmod", "/tool/test/x", "n1", "r2")
    assert "(n1,r2)" in await pair.run("", "xenstore-ls", "-p", "/tool/test")
    await pair.run("", "xenstore-rm", "/tool/test")
    await pair.run("", "xenstore-exists", "/tool/test", status=1)


async def test_a_dozen_watchers_at_once_all_hear_of_it(pair: Running) -> None:
    watchers = [await pair.spawn("", "xenstore-watch", "-n", "2", "/tool/many") for _ in range(12)]
    try:
        for watcher in watchers:
            await watcher.says("/tool/many")
        await pair.run("", "xenstore-write", "/tool/many/x", "1")
        await asyncio.gather(*(watcher.says("/tool/many/x") for watcher in watchers))
    finally:
        for watcher in watchers:
            await watcher.end()
        await pair.run("", "xenstore-rm", "/tool/many")


async def test_what_the_wires_are_called_in_dom0(pair: Running, wires: tuple[Wire, ...]) -> None:
    names = {link["ifname"] for link in json.loads(await pair.run("dom0", "ip", "-j", "link"))}
    assert {"vif1.0", "vif2.0", "xenbr0", "xenbr1", "net0"} <= names
    shown = [vif["name"] for domain in pair.machine.describe()["domains"] for vif in domain["vifs"]]
    assert shown == ["vif1.0", "xvm1_1", "xvm1_2", "vif2.0", "xvm2_1", "xvm2_2"]
