"""Real traffic through every frontend on Linux's backend, and through every generation of xVM's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from xnet.engine.lab import Lab
from xnet.engine.machine import Machine
from xnet.errors import XnetError

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_factories=["uvloop"])]

MIB = 1 << 20
OTHERS = ("freebsd", "mirage", "windows", "illumos")
FLIP = {"frontend_features": {"rx-copy": False, "rx-flip": True}, "backend_features": {"rx-flip": True}}


def profiled(lab: Lab, profiles: Mapping[str, Mapping[str, object]]) -> Lab:
    """A lab with other vifs, by guest."""
    return replace(
        lab,
        domains=tuple(
            replace(domain, vifs=tuple(replace(vif, **profiles.get(domain.name, {})) for vif in domain.vifs))
            for domain in lab.domains
        ),
    )


async def exchange(running: Running, guest: str, wire: Wire, host: int) -> None:
    """Guest a and another: echoes of several sizes, random bytes there and back, iperf3 both ways."""
    for family in (4, 6):
        address = wire.at(family, host)
        for size in ("0", "700", "1472", "9000") if family == 4 else ("700",):
            said = await running.run("a", "ping", "-nq", "-W", "3", "-c", "1", "-s", size, address)
            seen = running.vif("a", wire), running.vif(guest, wire)
            assert "1 packets transmitted, 1 received, 0% packet loss" in said, f"{said}\n{seen}"
        await running.swap("a", guest, address, MIB)
    for options in ([], ["-R"]):
        async with running.background(guest, "iperf3", "-s", "-1", "--forceflush", says="listening"):
            said = await running.run("a", "iperf3", "-J", "-c", wire.at(4, host), "-n", "8M", *options)
        assert json.loads(said)["end"]["sum_received"]["bytes"] > 4 * MIB
    assert errors(running, guest, wire) == {}


def errors(running: Running, guest: str, wire: Wire) -> dict[str, int]:
    """Counters of a guest's vif that say that something was wrong."""
    ends = running.vif(guest, wire)
    return {name: count for end in ends.values() for name, count in end.items() if "error" in name and count}


async def test_every_frontend_carries_ping_and_iperf3(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    made = profiled(lab("a", *OTHERS), {name: {"frontend_profile": name, "queues": 2} for name in OTHERS})
    async with boot(made) as running:
        for host, guest in enumerate(OTHERS, 2):
            for wire in wires:
                await exchange(running, guest, wire, host)
        vifs = [domain["vifs"][0] for domain in running.machine.describe()["domains"][1:]]
        assert [vif["frontend_profile"] for vif in vifs] == ["linux", *OTHERS]


async def test_every_generation_of_xvm_carries_ping_and_iperf3(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]
) -> None:
    guests = {
        "xvm7": {"backend_profile": "xvm-2007", **FLIP},
        "xvm8": {"backend_profile": "xvm-2008", "frontend_profile": "windows"},
        "xvm9": {"backend_profile": "xvm-2009", "frontend_profile": "illumos"},
    }
    async with boot(profiled(lab("a", *guests), guests)) as running:
        for host, guest in enumerate(guests, 2):
            for wire in wires:
                await exchange(running, guest, wire, host)


async def why_not(lab: Lab) -> tuple[str, Machine]:
    """What is said of a lab that does not come up, and the machine as it was then."""
    async with Machine(lab) as machine:
        with pytest.raises(XnetError) as caught:
            await machine.wait_connected()
        described = machine.describe()
        console = "\n".join(machine.console_lines())
    assert machine.leaks == []
    reasons = {vif["reason"] for domain in described["domains"] for vif in domain["vifs"]}
    assert any(reason and reason in str(caught.value) for reason in reasons), (reasons, str(caught.value))
    assert all(reason in console for reason in reasons)
    return str(caught.value), machine


@pytest.mark.parametrize("front", ["linux", *OTHERS])
async def test_who_takes_copies_only_is_told_why_the_xvm_of_2007_does_not_do(lab: MakeLab, front: str) -> None:
    made = profiled(lab("a"), {"a": {"frontend_profile": front, "backend_profile": "xvm-2007"}})
    said, _ = await why_not(made)
    assert "a eth0" in said
    assert "copying" in said


async def test_a_link_of_large_frames_is_refused_by_xnbo(lab: MakeLab) -> None:
    made = profiled(lab("a", mtu=9000), {"a": {"backend_profile": "xvm-2008"}})
    said, _ = await why_not(made)
    assert "xvm-2008 takes links of 1500 bytes at most: stub0 has 9000, write mtu = 1500 there" in said
