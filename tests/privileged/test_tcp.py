"""Bulk traffic: nothing lost, nothing changed, and it crosses the rings in frames larger than the wire's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

DOM0 = 254
MIB = 1 << 20


async def iperf3(running: Running, where: str, address: str, *options: str) -> dict[str, Any]:
    """What iperf3 measured, from a domain to guest b."""
    async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = await running.run(where, "iperf3", "-J", "-c", address, *options)
    found: dict[str, Any] = json.loads(said)
    assert "error" not in found, found
    end: dict[str, Any] = found["end"]
    return end


@pytest.mark.parametrize("family", [4, 6])
async def test_iperf3_runs_both_ways_in_large_frames(pair: Running, wire: Wire, family: int) -> None:
    before = {guest: pair.vif(guest, wire) for guest in ("a", "b")}
    for options in ([], ["-R"]):
        end = await iperf3(pair, "a", wire.at(family, 2), "-n", "24M", *options)
        assert end["sum_received"]["bytes"] > 20 * MIB
    for guest in ("a", "b"):
        after = pair.vif(guest, wire)
        for side in ("netfront", "netback"):
            crossed = {name: after[side][name] - before[guest][side][name] for name in after[side]}
            for way in ("tx", "rx"):
                assert crossed[f"{way}_bytes"] > 20 * MIB
                assert crossed[f"{way}_slots"] > 2 * crossed[f"{way}_packets"], "no frame was larger than a page"


@pytest.mark.parametrize("family", [4, 6])
async def test_a_moderate_flow_of_datagrams_loses_none(pair: Running, wire: Wire, family: int) -> None:
    end = await iperf3(pair, "a", wire.at(family, 2), "-u", "-b", "20M", "-l", "1400", "-n", "1M")
    assert end["sum"]["packets"] > 700
    assert end["sum"]["lost_packets"] == 0


@pytest.mark.parametrize("family", [4, 6])
async def test_dom0_exchanges_bulk_with_a_guest(pair: Running, dom0_wire: Wire, family: int) -> None:
    await pair.swap("a", "dom0", dom0_wire.at(family, DOM0), 8 * MIB)


async def test_many_connections_at_once_all_go_on(pair: Running, wire: Wire) -> None:
    end = await iperf3(pair, "a", wire.at(4, 2), "-t", "1", "-P", "8", "--bidir")
    assert len(end["streams"]) == 16
    assert all(stream["receiver"]["bytes"] > 0 for stream in end["streams"])


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
@pytest.mark.parametrize("address", ["10.0.0.2", "10.1.0.2"], ids=["xnbu", "xnbo"])
async def test_a_gigabyte_over_http_arrives_as_it_was_sent(pair: Running, peer: tuple[str, ...], address: str) -> None:
    async with pair.background("b", *peer, "http", str(1 << 30), says="listening") as server:
        fetch = f"curl -sS --fail --max-time 110 http://{address}:7777/ | sha256sum"
        arrived = (await pair.run("a", "bash", "-o", "pipefail", "-c", fetch, timeout_s=120)).split()[0]
        await server.says(f"sent {arrived}")


LACKS = {
    "sg": {"sg": False},
    "gso": {"gso-tcpv4": False, "gso-tcpv6": False},
    "csum": {"csum-offload": False, "ipv6-csum-offload": False},
    "ipv6 csum": {"ipv6-csum-offload": False},
    "all": dict.fromkeys(("sg", "gso-tcpv4", "gso-tcpv6", "csum-offload", "ipv6-csum-offload"), False),
    "rx-notify, split-event-channels": {"rx-notify": False, "split-event-channels": False},
}
"""What one end can be without."""


@pytest.mark.parametrize(("lacking", "tx_mode"), [*((each, "copy") for each in LACKS), ("all", "map")])
@pytest.mark.parametrize("side", ["frontend", "backend"])
@pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
async def test_bytes_are_right_whatever_one_side_lacks(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], side: str, lacking: str, tx_mode: str
) -> None:
    async with boot(lab("a", "b", **{side: {"b": LACKS[lacking]}}, tx_mode=tx_mode)) as running:
        for wire in wires:
            for family in (4, 6):
                await running.swap("a", "b", wire.at(family, 2), 2 * MIB)
            vif = running.vif("b", wire)
            assert [count for end in vif.values() for name, count in end.items() if "error" in name and count] == []
