"""Vnics as interfaces: of dom0, of guests, of namespaces that ``ip netns`` keeps."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from xnet.engine.lab import DomainSpec, EtherstubSpec, Lab, VifSpec, VnicSpec
from xnet.engine.machine import Machine
from xnet.errors import XnetError

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, Running

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20


@pytest.fixture
def pinned() -> Iterator[str]:
    """A namespace of ``ip netns``."""
    name = f"xnet{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def at(zone: str, *argv: str) -> tuple[str, ...]:
    """A command line for inside a pinned namespace, to be run on this machine."""
    return ("", "ip", "netns", "exec", zone, *argv)


def lab_of(*vnics: VnicSpec, mtu: int = 1500) -> Lab:
    """Guests a and b on an etherstub, besides these vnics."""
    guests = [
        DomainSpec(name, vifs=(VifSpec(f"00:16:3e:00:00:0{host}", (f"10.1.0.{host}/24",), link="stub0", mtu=mtu),))
        for host, name in enumerate("ab", 1)
    ]
    return Lab("zones", domains=tuple(guests), etherstubs=(EtherstubSpec("stub0", mtu),), vnics=vnics)


def vnic(name: str, zone: str, host: int) -> VnicSpec:
    addresses = (f"10.1.0.{host}/24", f"fd01::{host}/64")
    return VnicSpec(name, "stub0", mac=f"02:08:20:00:00:{host:02x}", zone=zone, ip=addresses)


async def links(running: Running, where: str, *prefix: str) -> dict[str, dict[str, Any]]:
    """The interfaces of a domain; of a pinned namespace with `at`."""
    shown = await running.run(where, *prefix, "ip", "-j", "-d", "addr")
    return {link["ifname"]: link for link in json.loads(shown)}


async def reaches(running: Running, *client: str) -> None:
    """An echo comes back; `client` is who asks, and ends with who is asked."""
    *client_, address = client
    said = await running.run(*client_, "ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "5", address)
    assert "2 received" in said


async def iperf3(running: Running, server: tuple[str, ...], client: tuple[str, ...], address: str) -> float:
    """Bytes that arrived of 24 MB; either end is a domain and what goes before the command there."""
    async with running.background(*server, "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = await running.run(*client, "iperf3", "-J", "-c", address, "-n", "24M")
    received: float = json.loads(said)["end"]["sum_received"]["bytes"]
    return received


async def test_vnics_of_dom0_a_guest_and_a_pinned_namespace_all_talk(boot: Boot, pinned: str) -> None:
    outside, dom0, a = at(pinned), ("dom0",), ("a",)
    async with boot(lab_of(vnic("vnic0", "dom0", 10), vnic("vnic1", pinned, 11), vnic("vnic2", "b", 12))) as running:
        for client, host in ((dom0, 11), (outside, 10), (dom0, 1), (outside, 2), (a, 10), (a, 11), (dom0, 12)):
            await reaches(running, *client, f"10.1.0.{host}")
        for client, host in ((dom0, 11), (outside, 10), (outside, 12)):
            await reaches(running, *client, f"fd01::{host}")
        found = (await links(running, "dom0"))["vnic0"]
        assert (found["address"], found["mtu"]) == ("02:08:20:00:00:0a", 1500)
        assert {"UP", "LOWER_UP"} <= set(found["flags"])
        assert (await links(running, "b"))["vnic2"]["address"] == "02:08:20:00:00:0c"
        assert "vnic1" not in await links(running, "")
        shown = {each["name"]: each["zone"] for each in running.machine.datalinks.show()["links"]}
        assert (shown["vnic0"], shown["vnic1"], shown["vnic2"]) == ("dom0", pinned, "b")
        for server, client, address in (
            (outside, dom0, "10.1.0.11"),
            (dom0, outside, "10.1.0.10"),
            (a, outside, "10.1.0.1"),
            (outside, a, "10.1.0.11"),
        ):
            assert await iperf3(running, server, client, address) > 20 * MIB
        zones = running.machine.datalinks.zones
        assert zones is not None
        for tap in zones.taps.values():
            counters = tap.counters()
            if tap.vnic.name != "vnic2":
                assert counters["read_frames"] + counters["written_frames"] < 48 * MIB / 1500, "segments stay undone"
    shown_after = subprocess.run(at(pinned, "ip", "-br", "link")[1:], capture_output=True, text=True, check=True)
    assert "vnic1" not in shown_after.stdout


async def test_dom0s_stack_takes_what_a_guest_leaves_undone(boot: Boot, pinned: str) -> None:
    """Random bytes, both ways, between a guest and a vnic of dom0, with the etherstub's large frames."""
    async with boot(lab_of(vnic("vnic0", "dom0", 10), mtu=9000)) as running:
        await running.swap("a", "dom0", "10.1.0.10", 8 * MIB)
        await running.swap("dom0", "b", "10.1.0.2", 8 * MIB)
        await running.run("dom0", "ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", "8972", "10.1.0.1")


async def test_dladm_gives_a_vnic_away_and_takes_it_back(boot: Boot, pinned: str) -> None:
    async with boot(lab_of(vnic("vnic0", "", 10))) as running:
        do = running.machine.datalinks.do

        async def zone(*names: str, link: str = "vnic0", temporary: bool = True) -> None:
            properties = {"zone": list(names)}
            await do({"do": "set-linkprop", "link": link, "properties": properties, "temporary": temporary})

        async def refusal(order: Any) -> str:
            with pytest.raises(XnetError) as caught:
                await order
            return str(caught.value)

        await zone("dom0")
        await running.run("dom0", "ip", "addr", "add", "10.1.0.10/24", "dev", "vnic0")
        await reaches(running, "a", "10.1.0.10")
        assert "link busy" in await refusal(do({"do": "delete-vnic", "name": "vnic0"}))
        await zone(pinned)
        assert "vnic0" not in await links(running, "dom0")
        assert "vnic0" in await links(running, *at(pinned))
        cannot = "cannot set link property 'zone' on"
        assert await refusal(zone("nowhere")) == (
            f"{cannot} 'vnic0': nowhere: no such network namespace; make it (ip netns add nowhere)"
        )
        assert "vnic0" in await links(running, *at(pinned)), "it is where it was"
        assert await refusal(zone("dom0", temporary=False)) == f"{cannot} 'vnic0': change cannot be persistent"
        assert await refusal(zone("dom0", link="xvm1_0")) == f"{cannot} 'xvm1_0': link busy"
        await do({"do": "reset-linkprop", "link": "vnic0", "names": ["zone"], "temporary": True})
        assert "vnic0" not in await links(running, *at(pinned))
        await do({"do": "create-vnic", "name": "a_long_name_of_a_vnic0", "over": "stub0", "temporary": True})
        assert "longer than the 15 bytes the kernel allows" in await refusal(
            zone("dom0", link="a_long_name_of_a_vnic0")
        )
        await do({"do": "create-vnic", "name": "xx0", "over": "stub0", "temporary": True})
        await running.run("dom0", "ip", "link", "add", "xx0", "type", "bridge")
        assert "xx0: an interface of that name exists already" in await refusal(zone("dom0", link="xx0"))
        await do({"do": "delete-vnic", "name": "vnic0"})


async def test_a_guests_vnic_comes_back_with_the_guest(boot: Boot) -> None:
    async with boot(lab_of(vnic("vnic0", "b", 10))) as running:
        await reaches(running, "a", "10.1.0.10")
        await running.machine.toolstack.reboot("b")
        await reaches(running, "a", "10.1.0.10")
        await running.machine.toolstack.destroy("b")
        await running.run("a", "ping", "-n", "-c", "1", "-W", "0.3", "10.1.0.10", status=1)
        await running.machine.toolstack.create("b")
        await reaches(running, "a", "10.1.0.10")


async def test_a_zone_that_is_none_stops_the_boot_and_leaves_nothing() -> None:
    with pytest.raises(
        XnetError, match="cannot set link property 'zone' on 'vnic0': nowhere: no such network namespace"
    ):
        async with Machine(lab_of(vnic("vnic0", "nowhere", 10))):
            pytest.fail("it boots")
