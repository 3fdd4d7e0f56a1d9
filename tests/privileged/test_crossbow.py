"""Crossbow in dom0 under real traffic: caps, flows, protection, VLANs, hotplug, and dladm's command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xnet.engine.lab import BridgeSpec, DomainSpec, EtherstubSpec, Lab, LinkSpec, VifSpec, VnicSpec

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, Running

pytestmark = [pytest.mark.privileged]
in_loop = pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])


def vif(host: int, **more: Any) -> VifSpec:
    return VifSpec(mac=f"00:16:3e:00:00:{host:02x}", ip=(f"10.0.0.{host}/24",), link="stub0", **more)


def stub_lab(*vifs: VifSpec) -> Lab:
    quiet = {"net.ipv6.conf.all.disable_ipv6": "1"}
    domains = tuple(DomainSpec(name, vifs=(each,), sysctl=quiet) for name, each in zip("abc", vifs, strict=False))
    return Lab(name="crossbow", etherstubs=(EtherstubSpec("stub0", 1500),), domains=domains)


async def mbps(running: Running, *options: str) -> float:
    async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = await running.run("a", "iperf3", "-J", "-c", "10.0.0.2", "-t", "3", "-O", "1", *options)
    end = json.loads(said)["end"]
    if "-u" in options:
        return float(end["sum"]["bits_per_second"]) * (1 - end["sum"]["lost_percent"] / 100) / 1e6
    return float(end["sum_received"]["bits_per_second"]) / 1e6


async def order(running: Running, do: str, **arguments: Any) -> Any:
    return await running.machine.datalinks.do({"do": do, **arguments})


async def link(running: Running, name: str) -> dict[str, Any]:
    shot = await order(running, "show")
    return next(each for each in shot["links"] if each["name"] == name)


async def echoes(running: Running, where: str, *options: str) -> bool:
    said = await running.run(where, "ping", "-c", "1", "-W", "1", *options, status=None)
    return " 1 received" in said


@in_loop
async def test_a_cap_holds_each_way_is_changed_live_and_counts_what_it_drops(boot: Boot) -> None:
    async with boot(stub_lab(vif(1, maxbw="100M"), vif(2))) as running:
        assert 90 <= await mbps(running, "-C", "cubic") <= 101
        assert 90 <= await mbps(running, "-C", "cubic", "-R") <= 101
        assert 20 <= await mbps(running, "-u", "-b", "200M") <= 101
        [tx] = [lane for lane in (await link(running, "xvm1_0"))["lanes"]["tx"] if lane["id"] == "sw"]
        assert tx["sdrops"] > 1000
        assert tx["blkcnt"] >= 1
        await order(running, "set-linkprop", link="xvm1_0", properties={"maxbw": ["10M"]})
        assert 8.5 <= await mbps(running, "-C", "cubic") <= 11, "frames of 64 KiB neither stall nor beat the cap"
        await order(running, "set-linkprop", link="xvm1_0", properties={"maxbw": ["0"]})
        assert not await echoes(running, "a", "10.0.0.2")
        await order(running, "reset-linkprop", link="xvm1_0", names=["maxbw"])
        assert await mbps(running, "-C", "cubic") > 200


@in_loop
async def test_a_flow_has_a_cap_of_its_own(boot: Boot) -> None:
    async with boot(stub_lab(vif(1), vif(2))) as running:
        match = {"transport": "tcp", "local_port": "5201"}
        properties = {"maxbw": ["50M"]}
        await order(running, "add-flow", name="web", link="xvm2_0", attributes=match, properties=properties)
        assert 44 <= await mbps(running, "-C", "cubic") <= 51
        [flow] = (await order(running, "show"))["flows"]
        assert flow["statistics"]["rbytes"] > 10_000_000
        await running.run("a", "ping", "-c", "1", "10.0.0.2")
        [after] = (await order(running, "show"))["flows"]
        assert after["statistics"]["ipkts"] == flow["statistics"]["ipkts"], "an echo is not that flow's"


@in_loop
async def test_protection_with_real_tools(boot: Boot) -> None:
    async with boot(stub_lab(vif(1, properties={"protection": ("mac-nospoof", "restricted")}), vif(2))) as running:
        assert await echoes(running, "a", "10.0.0.2")
        await running.run("a", "ip", "link", "set", "eth0", "address", "00:16:3e:00:00:99")
        assert not await echoes(running, "a", "10.0.0.2")
        assert (await link(running, "xvm1_0"))["misc"]["macspoofed"] > 0
        await running.run("a", "ip", "link", "set", "eth0", "address", "00:16:3e:00:00:01")
        properties = {"protection": ["mac-nospoof", "ip-nospoof"], "allowed-ips": ["10.0.0.1"]}
        await order(running, "set-linkprop", link="xvm1_0", properties=properties)
        assert await echoes(running, "a", "10.0.0.2")
        await running.run("a", "ip", "address", "add", "10.0.0.77/24", "dev", "eth0")
        assert not await echoes(running, "a", "-I", "10.0.0.77", "10.0.0.2")
        assert (await link(running, "xvm1_0"))["misc"]["ipspoofed"] > 0


@in_loop
async def test_vlans_do_not_meet_and_unknown_unicast_reaches_nobody(boot: Boot) -> None:
    async with boot(stub_lab(vif(1, vlan=5), vif(2, vlan=5), vif(3))) as running:
        assert await echoes(running, "a", "10.0.0.2")
        before = await link(running, "xvm2_0")
        await running.run("a", "ip", "neigh", "add", "10.0.0.50", "lladdr", "00:16:3e:00:00:50", "dev", "eth0")
        sent = (await link(running, "xvm1_0"))["statistics"]["opackets"]
        assert not await echoes(running, "a", "10.0.0.50")
        assert (await link(running, "xvm1_0"))["statistics"]["opackets"] > sent, "counted as sent"
        assert (await link(running, "xvm2_0"))["statistics"]["ipackets"] == before["statistics"]["ipackets"]
        assert not await echoes(running, "a", "10.0.0.3")


@in_loop
async def test_a_dedicated_link_has_one_guest_and_no_vnic(boot: Boot) -> None:
    dedicated = VifSpec(mac="00:16:3e:00:00:01", ip=("10.0.0.1/24",), link="net0", script="vif-dedicated")
    machine = Lab(
        name="crossbow",
        bridges=(BridgeSpec("xenbr0", ("10.0.0.254/24",)),),
        links=(LinkSpec("net0", "xenbr0"),),
        domains=(DomainSpec("a", vifs=(dedicated,)),),
    )
    async with boot(machine) as running:
        assert await echoes(running, "a", "10.0.0.254")
        with pytest.raises(Exception, match="link busy"):
            await order(running, "create-vnic", name="v0", over="net0")
        store = await running_key(running, "nic")
        assert store == "net0"
        await running.machine.toolstack.detach("a", "0")
        await order(running, "create-vnic", name="v0", over="net0")


async def running_key(running: Running, key: str) -> str:
    found: list[str | None] = []

    def read() -> Any:
        from xnet.xenstore import Read

        found.append((yield Read(f"backend/vif/1/0/{key}")))

    running.machine.host.session.run(read())
    return str(found[0])


@in_loop
async def test_vnics_in_dom0_and_caps_side_by_side(boot: Boot) -> None:
    plain = stub_lab(vif(1, maxbw="20M"), vif(2), vif(3))
    with_dom0 = replace(plain, vnics=(VnicSpec("host0", "stub0", zone="dom0", ip=("10.0.0.9/24",)),))
    async with boot(with_dom0) as running:
        assert await echoes(running, "dom0", "10.0.0.1")
        async with (
            running.background("b", "iperf3", "-s", "-p", "5210", "--forceflush", says="listening"),
            running.background(
                "a", "iperf3", "-c", "10.0.0.2", "-p", "5210", "-t", "9", "--forceflush", says="bits/sec"
            ),
            running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"),
        ):
            said = await running.run("c", "iperf3", "-J", "-c", "10.0.0.2", "-t", "2")
        assert json.loads(said)["end"]["sum_received"]["bits_per_second"] > 100e6, "who has no cap is not held back"


def test_the_command_line_and_what_a_killed_engine_had_to_keep(tmp_path: Path) -> None:
    (tmp_path / "wires.toml").write_text('[[etherstub]]\nname = "stub0"\n')
    environment = {**os.environ, "XNET_RUN": str(tmp_path / "run")}

    def xnet(*words: str, status: int = 0) -> str:
        command = [sys.executable, "-P", "-m", "xnet", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=40)
        assert done.returncode == status, done
        return done.stdout + done.stderr

    xnet("up", "wires.toml")
    try:
        xnet("dladm", "create-vnic", "-l", "stub0", "-m", "2:8:20:1:2:3", "vnic0")
        xnet("dladm", "create-vnic", "-t", "-l", "stub0", "vnic1")
        assert "minimum value for maxbw is 1200K" in xnet(
            *("dladm", "set-linkprop", "-p", "maxbw=1199K", "vnic0"), status=1
        )
        xnet("dladm", "set-linkprop", "-p", "maxbw=0", "vnic0")
        assert xnet("dladm", "show-vnic", "-p", "-o", "macaddress", "vnic0") == "2:8:20:1:2:3\n"
        assert "must be specified in parsable mode" in xnet("dladm", "show-vnic", "-p", status=1)
        assert xnet("dladm", "delete-etherstub", "stub0", status=1) == "dladm: vnic deletion failed: link busy\n"
        xnet("flowadm", "add-flow", "-l", "vnic0", "-a", "transport=tcp", "all")
        mixed = xnet("flowadm", "add-flow", "-l", "vnic0", "-a", "local_ip=10.0.0.1", "f", status=1)
        assert mixed == "flowadm: add flow failed: flow(s) with incompatible attributes exists\n"
        os.kill(json.loads((tmp_path / "run/wires/lab.json").read_text())["pid"], 9)
        xnet("up", "wires.toml")
        assert xnet("dladm", "show-vnic", "-p", "-o", "link") == "vnic0\n", "what was temporary is gone"
        assert xnet("flowadm", "show-flow", "-p", "-o", "flow,link") == "all:vnic0\n"
    finally:
        xnet("down", "--lab", "wires")
    assert not any((tmp_path / "run").iterdir())
