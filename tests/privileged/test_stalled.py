"""A guest that takes no frames loses its carrier in dom0, and has it again when it takes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


async def kernel_sees(running: Running, device: str) -> bool:
    """Whether dom0's kernel has a carrier there."""
    said = json.loads(await running.run("dom0", "ip", "-j", "link", "show", device))
    return "LOWER_UP" in said[0]["flags"]


async def test_a_paused_guest_stalls_and_an_unpaused_one_recovers(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]
) -> None:
    plain = lab("a", "b")
    a, b = plain.domains
    timed = replace(a, vifs=tuple(replace(vif, rx_drain_s=0.1, rx_stall_s=0.3) for vif in a.vifs))
    async with boot(replace(plain, domains=(timed, b))) as running:
        machine = running.machine
        for wire in wires[:2]:
            guest = machine.guests["a"]
            backend = machine.drivers.backends[guest.domid, wire.handle]
            assert backend.netback.carrier
            await running.run("b", "ping", "-n", "-c", "1", wire.at(4, 1))
            flood = ("ping", "-n", "-q", "-i", "0.001", "-s", "8", wire.at(4, 1))
            machine.pause("a")
            async with running.background("b", *flood):
                await until(lambda backend=backend: not backend.netback.carrier)  # type: ignore[misc]
            if wire.bridge:
                assert not await kernel_sees(running, backend.name)
            [shown] = [vif for vif in machine.describe()["domains"][1]["vifs"] if vif["device"] == wire.device]
            assert shown["carrier"] is False
            assert running.vif("a", wire)["netback"]["rx_stalled"] >= 1
            machine.unpause("a")
            await until(lambda backend=backend: backend.netback.carrier)  # type: ignore[misc]
            await running.run("b", "ping", "-n", "-c", "2", "-i", "0.2", "-w", "10", wire.at(4, 1))
