"""Hotplug as xVM did it, and VLANs and vanity names of dom0's, with real frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.privileged.test_bundles import guest
from tests.privileged.test_crossbow import echoes, link, order, running_key
from xnet.engine.lab import BridgeSpec, DomainSpec, EtherstubSpec, Lab, LinkSpec, VifSpec
from xnet.netif.profile import BACKENDS

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


async def test_vif_vnic_makes_what_xend_made_and_says_so_in_xenstore(boot: Boot) -> None:
    lab = Lab(
        name="xvm",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("net0", bridge="xenbr0"),),
        domains=(
            guest("a", 1, link="net0", script="vif-vnic", vlan=5, maxbw="20M"),
            guest("b", 2, link="net0", script="vif-vnic", vlan=5),
            guest("c", 3, link="net0"),
        ),
    )
    async with boot(lab) as running:
        vnic = await link(running, "xvm1_0")
        assert (vnic["class"], vnic["over"], vnic["vid"], vnic["mac"]) == ("vnic", ["net0"], 5, "0:16:3e:0:0:1")
        assert (vnic["mac_type"], vnic["speed_mbps"], vnic["user"]) == ("fixed", 20, "vif1.0")
        keys = [await running_key(running, key) for key in ("nic", "hotplug-status", "script", "vlanid", "bridge")]
        assert keys[:2] == ["xvm1_0", "connected"]
        assert keys[2].endswith("vif-vnic")
        assert keys[3:] == ["5", "net0"]
        assert await echoes(running, "a", "10.0.0.2")
        assert not await echoes(running, "c", "10.0.0.1")
        async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
            said = await running.run("a", "iperf3", "-J", "-c", "10.0.0.2", "-t", "2", "-C", "cubic")
        assert 10e6 < json.loads(said)["end"]["sum_received"]["bits_per_second"] < 21e6
        await running.machine.toolstack.detach("a", "0")
        assert "xvm1_0" not in {each["name"] for each in (await order(running, "show"))["links"]}


async def test_a_vlan_of_dom0_is_the_links_own_address_in_a_vlan_and_may_have_a_vanity_name(boot: Boot) -> None:
    lab = Lab(
        name="vlans",
        bridges=(BridgeSpec("xenbr0"),),
        links=(LinkSpec("net0", bridge="xenbr0"),),
        domains=(guest("a", 1, link="net0", vlan=7),),
    )
    async with boot(lab) as running:
        await order(running, "create-vlan", name=None, over="net0", vid=7)
        assert (await link(running, "net7000"))["mac"] == (await link(running, "net0"))["mac"]
        await order(running, "rename-link", old="net7000", new="lan7")
        await order(running, "set-linkprop", link="lan7", properties={"zone": ["dom0"]}, temporary=True)
        await running.run("dom0", "ip", "address", "add", "10.0.0.9/24", "dev", "lan7")
        assert await echoes(running, "dom0", "10.0.0.1")
        assert await echoes(running, "a", "10.0.0.9")
        await order(running, "reset-linkprop", link="lan7", names=["zone"], temporary=True)
        assert "lan7" not in await running.run("dom0", "ip", "-br", "link")
        await order(running, "delete-vlan", name="lan7")


@pytest.mark.parametrize("profile", [name for name, each in BACKENDS.items() if each.sdu])
async def test_an_xvm_backend_takes_no_link_with_large_frames(boot: Boot, profile: str) -> None:
    wants = {"rx-copy": False, "rx-flip": True} if profile == "xvm-2007" else {}  # it only flips
    lab = Lab(
        name="sdu",
        etherstubs=(EtherstubSpec("stub0", 9000), EtherstubSpec("stub1", 1500)),
        domains=(
            DomainSpec(
                "a",
                vifs=(
                    VifSpec(mac="00:16:3e:00:00:01", link="stub0", backend_profile=profile, frontend_features=wants),
                ),
                autostart=False,
            ),
            guest("b", 2, link="stub1", backend_profile=profile, frontend_features=wants),
            guest("c", 3, link="stub1", backend_profile=profile, frontend_features=wants),
        ),
    )
    async with boot(lab) as running:
        assert await echoes(running, "b", "10.0.0.3")
        with pytest.raises(Exception, match=r"SDU too big.*stub0 has 9000, write mtu = 1500"):
            await running.machine.toolstack.create("a")
        named = {each["name"] for each in (await order(running, "show"))["links"] if each["over"] == ["stub0"]}
        assert not named, "nothing half made"
