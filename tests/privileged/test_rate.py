"""A rate limit is what iperf3 measures, away from the guest and not toward it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

LIMIT = 100e6
RATE = "625000,50000"


async def bits_per_second(running: Running, source: str, address: str, *options: str) -> float:
    async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = await running.run(source, "iperf3", "-J", "-t", "2", "-O", "1", "-c", address, *options)
    found: float = json.loads(said)["end"]["sum_received"]["bits_per_second"]
    return found


async def test_a_guest_sends_at_its_rate_and_receives_at_any(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    plain = lab("a", "b")
    a, b = plain.domains
    slow = replace(a, vifs=tuple(replace(vif, rate=RATE) for vif in a.vifs))
    async with boot(replace(plain, domains=(slow, b))) as running:
        for wire in wires[:2]:
            assert 0.85 * LIMIT < await bits_per_second(running, "a", wire.at(4, 2)) < 1.05 * LIMIT
            assert await bits_per_second(running, "a", wire.at(4, 2), "-R") > 2 * LIMIT
            [vif] = [vif for vif in running.machine.describe()["domains"][1]["vifs"] if vif["device"] == wire.device]
            assert vif["rate"] == {"bytes": 625000, "usec": 50000}
