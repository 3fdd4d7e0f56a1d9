"""What was negotiated shows in the guest, and what one end lacks the other's kernel or we have finished."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

PEER = Path(__file__).with_name("peer.py")
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


async def seen(running: Running, where: str, device: str, way: str, source: str, target: str, address: str) -> str:
    """What tcpdump says in a guest of the first 40 TCP segments of a transfer that carry data."""
    dump = ["tcpdump", "-i", device, "-Q", way, "-n", "-vv", "-l", "--immediate-mode", "-c", "40"]
    data = "(tcp and dst port 7777 and len > 200) or (ip6 proto 6 and dst port 7777 and len > 200)"
    async with (
        running.background(where, *dump, data, says="listening on") as tcpdump,
        running.background(target, sys.executable, "-I", "-S", str(PEER), "serve", says="listening"),
    ):
        sent, arrived = (await running.python(source, PEER, "send", address, str(4 << 20))).split()
        assert sent == arrived
        await tcpdump.says("packets received by filter")
        return "\n".join(tcpdump.lines)


@pytest.mark.parametrize("family", [4, 6])
async def test_checksums_are_whole_when_an_end_cannot_finish_them(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], family: int
) -> None:
    """b can neither take blank checksums nor leave them blank: what it gets and what it sends is summed."""
    async with boot(lab("a", "b", frontend={"b": CSUM})) as running:
        for wire in wires:
            into_b = await seen(running, "b", wire.device, "in", "a", "b", wire.at(family, 2))
            out_of_b = await seen(running, "b", wire.device, "out", "b", "a", wire.at(family, 1))
            for said in (into_b, out_of_b):
                assert len(re.findall(r"cksum 0x\w+ \(correct\)", said)) >= 30, said
                assert "incorrect" not in said, said


@pytest.mark.parametrize("family", [4, 6])
async def test_large_frames_are_segmented_for_a_guest_that_cannot_take_them(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], family: int
) -> None:
    async with boot(lab("a", "b", frontend={"b": GSO})) as running:
        for wire in wires:
            said = await seen(running, "b", wire.device, "in", "a", "b", wire.at(family, 2))
            lengths = [int(length) for length in re.findall(r", length (\d+)$", said, re.M)]
            assert len(lengths) >= 30, said
            assert max(lengths) <= 1460, said
            out = await seen(running, "a", wire.device, "out", "a", "b", wire.at(family, 2))
            assert max(int(length) for length in re.findall(r", length (\d+)$", out, re.M)) > 1460, out
