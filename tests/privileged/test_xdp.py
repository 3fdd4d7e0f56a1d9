"""Headroom in the guest's pages: frames of every size arrive whole, between guests and from dom0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


async def test_traffic_passes_with_headroom_at_one_end_only(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    plain = lab("a", "b", mtu=9000)
    a, b = plain.domains
    roomy = replace(a, vifs=tuple(replace(vif, xdp_headroom=256) for vif in a.vifs))
    async with boot(replace(plain, domains=(roomy, b))) as running:
        for wire in wires:
            for size in ("0", "3800", "8972"):
                await running.run("b", "ping", "-n", "-c", "2", "-i", "0.05", "-M", "do", "-s", size, wire.at(4, 1))
            await running.swap("a", "b", wire.at(4, 2), 3_000_000)
            await running.swap("a", "b", wire.at(6, 2), 3_000_000)
            assert running.vif("a", wire)["netfront"]["rx_errors"] == 0
        headrooms = [vif["xdp_headroom"] for domain in running.machine.describe()["domains"] for vif in domain["vifs"]]
        assert headrooms == [256] * 3 + [0] * 3
