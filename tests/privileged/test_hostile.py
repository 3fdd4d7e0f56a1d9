"""A guest that breaks every rule, in the same engine as two honest ones whose pings go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from xnet.testing import FrontByHand
from xnet.testing.rogue import FRONTENDS

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

PINGS = 400


class Live:
    """A running machine, as far as a frontend by hand asks for a world."""

    def __init__(self, machine: Any) -> None:
        self.step = machine.turn


async def test_honest_guests_lose_nothing_beside_a_rogue(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b", "c")) as running:
        machine = running.machine
        rogue = machine.guests["c"]
        for vif in rogue.vifs.values():
            vif.netfront.stop()
        pings = [
            asyncio.create_task(
                running.run("a", "ping", "-c", str(PINGS), "-i", "0.01", "-W", "2", "-q", wire.at(4, 2))
            )
            for wire in wires
        ]
        rounds = 0
        while not all(ping.done() for ping in pings):
            for handle in rogue.vifs:
                netback = machine.drivers.backends[rogue.domid, handle].netback
                for attack in FRONTENDS.values():
                    hand = FrontByHand(Live(machine), rogue.xen, handle)  # type: ignore[arg-type]
                    for state in ("5", "6", "1"):
                        hand.write("state", state)
                    hand.connect(split=True, keys={"multi-queue-num-queues": "1"})
                    hand.post(32)
                    assert netback.state.name == "Connected"
                    attack.act(hand)
                    for state in ("5", "6"):
                        hand.write("state", state)
                    hand.close()
                    await asyncio.sleep(0)
            rounds += 1
        await asyncio.gather(*pings)
        await asyncio.sleep(0.1)  # the last replies may be later than ping waits for them
        names, numbers = (
            line.split()
            for line in (await running.run("a", "cat", "/proc/net/snmp")).splitlines()
            if line.startswith("Icmp:")
        )
        counted = dict(zip(names, numbers, strict=True))
        assert counted["OutEchos"] == counted["InEchoReps"] == str(PINGS * len(wires))
        assert rounds
        await machine.toolstack.destroy("c")
