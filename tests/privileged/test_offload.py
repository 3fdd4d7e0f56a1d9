"""What was negotiated shows in the guest, and what one end lacks the other's kernel or we have finished."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20
CSUM = {"csum-offload": False, "ipv6-csum-offload": False}
GSO = {"gso-tcpv4": False, "gso-tcpv6": False}


@pytest.mark.parametrize("side", ["frontend", "backend"])
@pytest.mark.parametrize(
    ("lacking", "checksum", "tso4", "tso6"),
    [
        ({}, "on", "on", "on"),
        ({"gso-tcpv4": False}, "on", "off", "on"),
        ({"gso-tcpv6": False}, "on", "on", "off"),
        ({"ipv6-csum-offload": False}, "on", "on", "off"),
        (CSUM, "off", "off", "off"),
        ({"sg": False}, "on", "off", "off"),
    ],
)
async def test_ethtool_shows_what_was_negotiated(
    boot: Boot, lab: MakeLab, lacking: dict[str, bool], checksum: str, tso4: str, tso6: str, side: str
) -> None:
    async with boot(lab("a", **{side: {"a": lacking}})) as running:
        for device in ("eth0", "eth1", "eth2"):
            shown = dict(re.findall(r"^\s*([\w-]+): (on|off)", await running.run("a", "ethtool", "-k", device), re.M))
            assert shown["tx-checksumming"] == checksum
            assert shown["tx-tcp-segmentation"] == tso4
            assert shown["tx-tcp6-segmentation"] == tso6


@asynccontextmanager
async def watched(running: Running, where: str, device: str, way: str) -> AsyncIterator[list[str]]:
    """What tcpdump says there of the first 40 TCP segments with data to or from a transfer; all of it at the end."""
    data = "port 7777 and ((tcp and len > 200) or (ip6 proto 6 and len > 200))"
    command = ["tcpdump", "-i", device, "-Q", way, "-n", "-vv", "-l", "--immediate-mode", "-c", "40", data]
    async with running.background(where, *command, says="listening on") as tcpdump:
        yield tcpdump.lines
        await tcpdump.says("packets received by filter")


def lengths(lines: list[str]) -> list[int]:
    """Data bytes of each segment."""
    return [int(found[1]) for line in lines if (found := re.search(r", length (\d+)$", line))]


@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("family", [4, 6])
async def test_checksums_are_whole_when_an_end_cannot_finish_them(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], family: int
) -> None:
    """b can neither take blank checksums nor leave them blank: what it gets and what it sends is summed."""
    async with boot(lab("a", "b", frontend={"b": CSUM})) as running:
        for wire in wires:
            async with (
                watched(running, "b", wire.device, "in") as into_b,
                watched(running, "b", wire.device, "out") as out_of_b,
            ):
                await running.swap("a", "b", wire.at(family, 2), MIB)
            for said in ("\n".join(into_b), "\n".join(out_of_b)):
                assert len(re.findall(r"cksum 0x\w+ \(correct\)", said)) >= 40, said
                assert "incorrect" not in said, said


@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("family", [4, 6])
async def test_large_frames_are_segmented_for_a_guest_that_cannot_take_them(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], family: int
) -> None:
    async with boot(lab("a", "b", frontend={"b": GSO})) as running:
        for wire in wires:
            async with (
                watched(running, "a", wire.device, "out") as out_of_a,
                watched(running, "b", wire.device, "in") as into_b,
            ):
                await running.swap("a", "b", wire.at(family, 2), 4 * MIB)
            assert len(lengths(into_b)) >= 40
            assert max(lengths(out_of_a)) > 1460 >= max(lengths(into_b))


@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("gro", [True, False])
async def test_segments_that_come_together_are_one_frame_to_the_guest(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], gro: bool
) -> None:
    """a's are small, as those of one guest among many; what b gets is whole."""
    async with boot(replace(lab("a", "b"), gro=gro)) as running:
        for wire in wires:
            await running.run("a", "ip", "link", "set", wire.device, "gso_max_size", "4096")
            async with (
                watched(running, "a", wire.device, "out") as out_of_a,
                watched(running, "b", wire.device, "in") as into_b,
            ):
                await running.swap("a", "b", wire.at(4, 2), 8 * MIB)
            assert 1460 < max(lengths(out_of_a)) <= 4096
            assert (max(lengths(into_b)) > 4096) == gro
            assert bool(running.vif("b", wire)["tap"].get("joined_frames")) == gro
