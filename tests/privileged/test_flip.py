"""Page flipping under real traffic: pages change hands for every frame, and a scarce heap is survived."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

MIB = 1 << 20
FLIP = {
    "frontend": {guest: {"rx-copy": False, "rx-flip": True} for guest in "ab"},
    "backend": {guest: {"rx-flip": True} for guest in "ab"},
}


@pytest.mark.parametrize("heap", [16 * MIB, 1 * MIB], ids=["ample", "scarce"])
async def test_frames_cross_by_the_page(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], heap: int) -> None:
    async with boot(replace(lab("a", "b", **FLIP), heap=heap)) as running:
        for wire in wires:
            await running.run("a", "ping", "-c", "20", "-i", "0.01", "-q", wire.at(4, 2))
            async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
                said = await running.run("a", "iperf3", "-J", "-c", wire.at(4, 2), "-n", "24M", "-P", "2", "--bidir")
            end = json.loads(said)["end"]
            both = end["sum_received"]["bytes"] + end["sum_received_bidir_reverse"]["bytes"]
            assert both > 20 * MIB
            for guest in ("a", "b"):
                await running.swap("a", "b", wire.at(6, 2), 2 * MIB)
                ends = running.vif(guest, wire)
                assert ends["netfront"]["rx_errors"] == 0
                assert ends["netfront"]["rx_packets"] == ends["netback"]["rx_packets"]
        domains = {each.name: each for each in running.machine.host.hypervisor.statistics()}
        pages = sum(running.vif(guest, wire)["netback"]["rx_bytes"] for guest in "ab" for wire in wires) // 4096
        assert domains["Domain-0"].frames_given >= pages
        assert domains["a"].frames_received + domains["b"].frames_received == domains["Domain-0"].frames_given
        assert running.machine.host.hypervisor.heap.used < 20
