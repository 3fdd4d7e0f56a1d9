"""Echoes of every size and kind, between guests and to dom0, over every flavour of netback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

DOM0 = 254
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP headers before an echo's data."""
LARGEST_IP_DATA = 65507


async def answered(running: Running, where: str, *argv: str, count: int = 3) -> None:
    """Every echo came back, once, with the data it was sent with. One after another: of several, ping waits for the
    last one only twice as long as the others took."""
    for _ in range(count):
        said = await running.run(where, "ping", "-n", "-q", "-W", "5", "-c", "1", *argv)
        assert "1 packets transmitted, 1 received, 0% packet loss" in said, said
        assert "duplicates" not in said, said
        assert "wrong data byte" not in said, said


@pytest.mark.parametrize("family", [4, 6])
async def test_guests_reach_each_other(pair: Running, wire: Wire, family: int) -> None:
    await answered(pair, "a", wire.at(family, 2))
    await answered(pair, "b", wire.at(family, 1))


@pytest.mark.parametrize("family", [4, 6])
async def test_guests_and_dom0_reach_each_other(pair: Running, dom0_wire: Wire, family: int) -> None:
    await answered(pair, "a", dom0_wire.at(family, DOM0))
    await answered(pair, "dom0", dom0_wire.at(family, 2))


async def test_no_echo_comes_from_an_address_nobody_has(pair: Running, wire: Wire) -> None:
    said = await pair.run("a", "ping", "-n", "-q", "-c", "2", "-i", "0.01", "-W", "0.1", wire.at(4, 77), status=1)
    assert "0 received" in said


async def test_a_paused_guest_answers_when_it_goes_on(pair: Running, wire: Wire) -> None:
    """And sends what its processes said meanwhile."""
    await answered(pair, "a", wire.at(4, 2))  # both know each other's address
    pair.machine.pause("b")
    asked = await pair.spawn("a", "ping", "-n", "-O", "-i", "0.2", "-W", "9", "-c", "5", wire.at(4, 2))
    own = await pair.spawn("b", "ping", "-n", "-O", "-i", "0.2", "-W", "9", "-c", "5", wire.at(4, 1))
    for ping in (asked, own):
        await ping.says("no answer yet", times=2)
        assert not any("bytes from" in line for line in ping.lines)
    assert pair.machine.describe()["domains"][2]["state"] == "--p---"
    pair.machine.unpause("b")
    for ping in (asked, own):
        await ping.says("5 packets transmitted, 5 received, 0% packet loss")
        await ping.end()
    assert pair.machine.describe()["domains"][2]["state"] == "-b----"
    await answered(pair, "a", wire.at(4, 2))


@pytest.mark.parametrize("family", [4, 6])
async def test_a_flood_loses_nothing(pair: Running, wire: Wire, family: int) -> None:
    said = await pair.run("a", "ping", "-n", "-q", "-f", "-c", "2000", wire.at(family, 2))
    assert "2000 packets transmitted, 2000 received, 0% packet loss" in said, said


@pytest.mark.parametrize("pattern", ["00", "ff", "0102030405060708090a0b0c0d0e0f"])
async def test_data_comes_back_as_it_was_sent(pair: Running, wire: Wire, pattern: str) -> None:
    for size in (17, 1472, 20001):
        await answered(pair, "a", "-s", str(size), "-p", pattern, wire.at(4, 2), count=2)


@pytest.mark.parametrize("family", [4, 6])
async def test_echoes_of_any_size_come_back(pair: Running, wire: Wire, family: int) -> None:
    for size in (0, 1, 8, 63, 4000, 30000, LARGEST_IP_DATA):
        await answered(pair, "a", "-s", str(size), wire.at(family, 2), count=2)


@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("mtu", [68, 1280, 1500, 4082, 9000, 65517])
async def test_packets_as_long_as_the_mtu_pass_unfragmented(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], mtu: int
) -> None:
    async with boot(lab("a", "b", mtu=mtu)) as running:
        for wire in wires:
            for family in (4, 6) if mtu >= 1280 else (4,):
                largest = mtu - HEADERS[family]
                for size in (largest - 1, largest):
                    await answered(running, "a", "-M", "do", "-s", str(size), wire.at(family, 2), count=2)
                    if wire.bridge:
                        await answered(running, "a", "-M", "do", "-s", str(size), wire.at(family, DOM0), count=2)
                if largest < LARGEST_IP_DATA:
                    refused = ["ping", "-c", "1", "-W", "0.1", "-M", "do", "-s", str(largest + 1), wire.at(family, 2)]
                    assert "message too long" in (await running.run("a", *refused, status=1)).lower()
                    await answered(running, "a", "-M", "dont", "-s", str(largest + 1), wire.at(family, 2), count=2)


async def test_neighbours_are_discovered_from_scratch(pair: Running, wire: Wire) -> None:
    for family, table in ((6, "-6"), (4, "-4")):
        for guest in ("a", "b"):
            await pair.run(guest, "ip", "neigh", "flush", "dev", wire.device)
        assert wire.at(family, 2) not in await pair.run("a", "ip", table, "neigh", "show", "dev", wire.device)
        await answered(pair, "a", wire.at(family, 2))
        known = await pair.run("a", "ip", table, "neigh", "show", wire.at(family, 2), "dev", wire.device)
        assert f"lladdr 00:16:3e:00:{wire.handle:02x}:02" in known


def repliers(said: str) -> set[str]:
    """Who answered."""
    return {sender.partition("%")[0] for sender in re.findall(r"from ([^ ]+?):? icmp_seq", said)}


async def test_ipv6_multicast_reaches_everybody_on_the_wire(pair: Running, wire: Wire) -> None:
    said = await pair.run("a", "ping", "-n", "-c", "2", "-i", "0.2", f"ff02::1%{wire.device}")
    b = f"fe80::216:3eff:fe00:{wire.handle << 8 | 2:x}"
    others = repliers(said) - {f"fe80::216:3eff:fe00:{wire.handle << 8 | 1:x}"}
    assert b in others, said
    assert len(others) == (2 if wire.bridge else 1), said


@pytest.mark.parametrize("group", ["224.0.0.1", "broadcast"])
async def test_ipv4_multicast_and_broadcast_reach_the_other_guest(pair: Running, wire: Wire, group: str) -> None:
    address = ["-b", wire.at(4, 255)] if group == "broadcast" else ["-I", wire.device, group]
    said = await pair.run("a", "ping", "-n", "-c", "2", "-i", "0.2", *address)
    assert wire.at(4, 2) in repliers(said), said
