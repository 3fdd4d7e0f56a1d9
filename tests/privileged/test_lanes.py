"""Dynamic polling under real traffic: lone frames come by interrupt, a load is polled, and each is counted once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

DOM0 = 254
PINGS = 10


def lanes(running: Running, name: str) -> dict[str, dict[str, Any]]:
    """A link's lanes toward it, as the client of the control socket is told."""
    shown = running.machine.datalinks.show()["links"]
    [link] = [link for link in shown if link["name"] == name]
    found = {row["id"]: row for row in link["lanes"]["rx"]}
    if link["class"] == "vnic":
        assert sum(row["ipkts"] for row in found.values()) == link["statistics"]["ipackets"]
        assert sum(row["rbytes"] for row in found.values()) == link["statistics"]["rbytes"]
        sent = link["lanes"]["tx"]
        assert sum(row["opkts"] for row in sent) == link["statistics"]["opackets"]
    return found


def gain(now: dict[str, Any], before: dict[str, Any]) -> dict[str, int]:
    """What a lane has counted since."""
    return {name: now[name] - before[name] for name in ("ipkts", "intrs", "polls", "ch10", "ch10_50", "ch50")}


async def loaded(running: Running, where: str, to: str, at: str) -> None:
    """TCP in bulk for two seconds."""
    async with running.background(to, "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = json.loads(await running.run(where, "iperf3", "-J", "-c", at, "-t", "2"))
    assert "error" not in said


@pytest.mark.parametrize(("guests", "lane"), [(("a",), "hw"), (("a", "b"), "sw")])
async def test_a_load_is_polled_and_lone_pings_interrupt(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], guests: tuple[str, ...], lane: str
) -> None:
    wire = next(wire for wire in wires if wire.name == "link")
    made = lab(*guests)
    domains = tuple(replace(each, vifs=tuple(vif for vif in each.vifs if vif.link == "net0")) for each in made.domains)
    async with boot(replace(made, domains=domains)) as running:
        vnic, at = "xvm1_0", f"{wire.v4}1"
        await running.run("dom0", "ping", "-c", "3", "-i", "0.2", "-q", at)
        idle = lanes(running, vnic)[lane]
        await running.run("dom0", "ping", "-c", str(PINGS), "-i", "0.2", "-q", at)
        pinged = lanes(running, vnic)[lane]
        lone = gain(pinged, idle)
        assert lone["intrs"] >= PINGS
        assert lone["polls"] == 0, "nothing came together"
        ring = lanes(running, "net0")["hw"]
        await loaded(running, "dom0", "a", at)
        load = gain(lanes(running, vnic)[lane], pinged)
        assert load["polls"] > load["intrs"], str(load)
        assert load["ipkts"] == load["intrs"] + load["polls"]
        chains = load["ch10"] + load["ch10_50"] + load["ch50"]
        assert chains <= load["polls"] <= 10 * load["ch10"] + 50 * load["ch10_50"] + 64 * load["ch50"]
        whole = gain(lanes(running, "net0")["hw"], ring)
        assert whole["intrs"] >= load["intrs"]
        assert whole["polls"] >= load["polls"]


async def test_frames_between_guests_are_local(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    wire = next(wire for wire in wires if wire.name == "link")
    async with boot(lab("a", "b")) as running:
        vnic = f"xvm2_{wire.handle}"
        before = lanes(running, vnic)
        await loaded(running, "a", "b", wire.at(4, 2))
        after = lanes(running, vnic)
        assert gain(after["sw"], before["sw"])["ipkts"] < 10, "the wire has nothing to do with it"
        local = gain(after["local"], before["local"])
        assert local["ipkts"] > 1000
        assert local["ipkts"] == local["intrs"] + local["polls"]
