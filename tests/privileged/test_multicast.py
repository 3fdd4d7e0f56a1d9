"""Multicast control with a real kernel in the guest: what it joins it hears, what it does not join stays in dom0."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

GROUP, ADDRESS = "239.1.1.1", "01:00:5e:01:01:01"


async def told(running: Running, wire: Wire, *, member: bool) -> None:
    """Wait until the backend knows whether guest a is in the group."""
    guest = running.machine.guests["a"]
    netback = running.machine.drivers.backends[guest.domid, wire.handle].netback
    group = bytes.fromhex(ADDRESS.replace(":", ""))
    async with asyncio.timeout(10):
        while (group in netback.multicast.groups.members) is not member:
            await asyncio.sleep(0.02)


async def heard(running: Running, wire: Wire) -> int:
    """Of three frames that guest b sends to the group, those that guest a gets."""
    before = running.vif("a", wire)["tap"]["written_frames"]
    await running.run("b", "ping", "-n", "-c", "3", "-i", "0.05", "-W", "0.2", "-I", wire.device, GROUP, status=None)
    return running.vif("a", wire)["tap"]["written_frames"] - before


async def test_what_is_joined_is_heard_and_nothing_else(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b", frontend={"a": {"multicast-control": True}})) as running:
        for wire in wires:
            await running.run("a", "ping", "-6", "-n", "-c", "1", wire.at(6, 2))
            assert await heard(running, wire) == 0, wire.name
            await running.run("a", "ip", "maddr", "add", ADDRESS, "dev", wire.device)
            await told(running, wire, member=True)
            assert await heard(running, wire) == 3, wire.name
            await running.run("a", "ip", "maddr", "del", ADDRESS, "dev", wire.device)
            await told(running, wire, member=False)
            assert await heard(running, wire) == 0, wire.name
            await running.run("b", "ping", "-6", "-n", "-c", "1", wire.at(6, 1))
            await running.run("a", "ip", "link", "set", wire.device, "allmulticast", "on")
            async with asyncio.timeout(10):
                while await heard(running, wire) < 3:
                    await asyncio.sleep(0.02)


async def test_without_multicast_control_a_guest_gets_it_all(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b")) as running:
        for wire in wires:
            assert await heard(running, wire) >= 3, wire.name
