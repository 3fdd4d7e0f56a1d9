"""Several queues under real traffic: more than one is used, and nothing gets lost between them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


async def test_a_guest_says_which_queue_has_which_flow(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    """Windows' frontend, by the control ring: all queues at first, then what it is told, while connections live."""
    made = lab("a", "b")
    domains = tuple(
        replace(domain, vifs=tuple(replace(vif, queues=4, frontend_profile="windows") for vif in domain.vifs))
        for domain in made.domains
    )
    async with boot(replace(made, domains=domains)) as running:
        guest = running.machine.guests["b"]
        for wire in wires[:2]:
            front = guest.vifs[wire.handle].netfront
            assert front.control is not None
            for queues in (range(4), [2], [3, 1]):
                front.control.steer(queues)
                running.machine.turn.kick()
                await running.run("a", "ping", "-c", "5", "-i", "0.01", "-q", wire.at(4, 2))
                before = [queue.counters.rx_packets for queue in front.queues]
                async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
                    said = await running.run("a", "iperf3", "-J", "-c", wire.at(4, 2), "-t", "1", "-P", "16")
                assert "error" not in json.loads(said)
                after = [queue.counters.rx_packets for queue in front.queues]
                used = {index for index, (old, new) in enumerate(zip(before, after, strict=True)) if new > old}
                # what is not IP (ARP) has no hash, and goes where the first entry says
                assert used <= set(queues), f"{wire.name}: {used}, wanted {queues}"
                assert len(used) > len(queues) / 2
            described = next(each for each in running.machine.describe()["domains"] if each["name"] == "b")
            told = described["vifs"][wire.handle]["hashing"]
            assert told["mapping"] == [3, 1] * 64
            assert told["kinds"] == ["ipv4", "ipv4-tcp", "ipv6", "ipv6-tcp"]
            await running.machine.toolstack.restart_backend("b", wire.device)
            await running.swap("a", "b", wire.at(6, 2), 4 << 20)
            described = next(each for each in running.machine.describe()["domains"] if each["name"] == "b")
            assert described["vifs"][wire.handle]["hashing"] == told, "the guest does not say it again"


@pytest.mark.parametrize(("queues", "max_queues", "agreed"), [(4, 4, 4), (4, 2, 2), (1, 4, 1)])
async def test_flows_spread_over_the_queues(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], queues: int, max_queues: int, agreed: int
) -> None:
    made = lab("a", "b")
    domains = tuple(
        replace(domain, vifs=tuple(replace(vif, queues=queues, max_queues=max_queues) for vif in domain.vifs))
        for domain in made.domains
    )
    async with boot(replace(made, domains=domains)) as running:
        for wire in wires[:2]:
            await running.run("a", "ping", "-c", "20", "-i", "0.01", "-q", wire.at(4, 2))
            async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
                said = await running.run("a", "iperf3", "-J", "-c", wire.at(4, 2), "-t", "2", "-P", "8", "--bidir")
            assert "error" not in json.loads(said)
            for guest in ("a", "b"):
                ends = running.vif(guest, wire)
                described = next(each for each in running.machine.describe()["domains"] if each["name"] == guest)
                assert described["vifs"][wire.handle]["queues"] == agreed
                if agreed == 1:
                    assert "queues" not in ends
                    continue
                for end in ("netfront", "netback"):
                    for way in ("tx_packets", "rx_packets"):
                        counts = [queue[end][way] for queue in ends["queues"].values()]  # type: ignore[index]
                        assert len(counts) == agreed
                        assert sum(count > 0 for count in counts) > 1, f"{guest} {wire.name} {end} {way} {counts}"
                        assert sum(counts) == ends[end][way]
            await running.swap("a", "b", wire.at(6, 2), 4 << 20)
