"""Guests and vifs come and go while others' traffic runs; afterwards everything belongs to somebody."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from xnet.engine.lab import VifSpec
from xnet.engine.toolstack import Plan
from xnet.errors import XnetError
from xnet.xenstore import Mkdir

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

MORE = VifSpec(mac="00:16:3e:77:00:01", ip=("10.0.0.77/24",), bridge="xenbr0")
STUB = VifSpec(mac="00:16:3e:77:00:02", ip=("10.1.0.77/24",), link="stub0")


def planned(spec: VifSpec) -> Plan:
    return lambda name, handle: spec


async def accounted(running: Running) -> None:
    found = await running.machine.check()
    assert found["problems"] == []
    assert found["vifs"] == sum(len(guest.vifs) for guest in running.machine.guests.values())


async def bulk(running: Running, address: str, seconds: int) -> Any:
    """iperf3 from a to b."""
    async with running.background("b", "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = json.loads(await running.run("a", "iperf3", "-J", "-c", address, "-t", str(seconds)))
    assert "error" not in said, said
    return said["end"]


async def ping(running: Running, where: str, address: str, count: int = 5) -> str:
    return await running.run(where, "ping", "-c", str(count), "-i", "0.02", "-W", "1", "-q", address)


@pytest.mark.parametrize("rx_mode", ["copy", "flip"])
async def test_vifs_come_and_go_under_traffic(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], rx_mode: str) -> None:
    flip = {"frontend_features": {"rx-copy": False, "rx-flip": True}, "backend_features": {"rx-flip": True}}
    specs = [replace(spec, **(flip if rx_mode == "flip" else {})) for spec in (MORE, STUB)]
    async with boot(lab("a", "b")) as running:
        stack = running.machine.toolstack
        traffic = asyncio.create_task(bulk(running, wires[0].at(4, 2), 4))
        for _ in range(2):
            for spec in specs:
                vif = await stack.attach("a", planned(spec))
                assert vif.device == "eth3"
                await ping(running, "b", spec.ip[0].partition("/")[0])
                await accounted(running)
                await stack.detach("a", spec.mac.upper())
                await accounted(running)
        assert (await traffic)["sum_received"]["bytes"] > 0
        assert "eth3" not in await running.run("a", "ip", "link")


async def test_a_backend_dies_and_connections_live_on(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b")) as running:
        for wire in wires[:2]:
            traffic = asyncio.create_task(bulk(running, wire.at(4, 2), 3))
            for _ in range(5):
                await asyncio.sleep(0.3)
                for guest in ("a", "b"):
                    await running.machine.toolstack.restart_backend(guest, wire.device)
            end = await traffic
            assert end["sum_received"]["bytes"] > 1 << 20
            await running.machine.wait_connected()
            await running.swap("a", "b", wire.at(6, 2), 1 << 20)
            await accounted(running)


async def test_guests_reboot_end_and_start_again(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(replace_autostart(lab("a", "b", "c"))) as running:
        stack, machine = running.machine.toolstack, running.machine
        assert sorted(machine.guests) == ["a", "b"]
        for end in (stack.shutdown, stack.destroy):
            await stack.create("c")
            await ping(running, "c", wires[0].at(4, 2))
            await accounted(running)
            await end("c")
            await accounted(running)
        before = machine.guests["b"].domid
        await stack.attach("b", planned(MORE))
        async with running.background("b", "sleep", "100") as sleeper:
            await stack.reboot("b")
            assert await asyncio.wait_for(sleeper.process.wait(), 5) != 0, "what ran in it is gone"
        assert machine.guests["b"].domid > before
        for address in (wires[0].at(4, 2), wires[1].at(6, 2), "10.0.0.77"):
            await ping(running, "a", address)
        await accounted(running)


def replace_autostart(lab: Any) -> Any:
    *others, last = lab.domains
    return replace(lab, domains=(*others, replace(last, autostart=False)))


async def test_a_suspended_guest_goes_on_with_its_connections(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]
) -> None:
    async with boot(lab("a", "b")) as running:
        stack, machine = running.machine.toolstack, running.machine
        for wire in wires[:2]:
            traffic = asyncio.create_task(bulk(running, wire.at(4, 2), 3))
            for guest in ("a", "b"):
                await asyncio.sleep(0.5)
                await stack.suspend(guest)
                states = {each["name"]: each["state"] for each in machine.describe()["domains"]}
                assert states[guest] == "---ss-"
                with pytest.raises(XnetError, match="suspended already"):
                    await stack.suspend(guest)
                await asyncio.sleep(0.2)
                await stack.resume(guest)
                with pytest.raises(XnetError, match="is not suspended"):
                    await stack.resume(guest)
            end = await traffic
            assert end["sum_received"]["bytes"] > 1 << 20
            await running.swap("a", "b", wire.at(6, 2), 1 << 20)
            await accounted(running)
        assert not any(vif.netfront.counters.others.get("grants_lost") for vif in machine.guests["a"].vifs.values())
        await stack.suspend("a")
        await stack.reboot("a")
        await ping(running, "a", wires[0].at(4, 2))
        await accounted(running)


async def test_what_is_wrong_is_told_and_nothing_is_made(boot: Boot, lab: MakeLab) -> None:
    async with boot(lab("a", "b")) as running:
        stack = running.machine.toolstack
        for order, why in (
            (lambda: stack.create("a"), "a runs already"),
            (lambda: stack.create("z"), "the lab has no domain z; it has a, b"),
            (lambda: stack.destroy("z"), "no guest z; there are a, b"),
            (lambda: stack.attach("a", planned(replace(MORE, ip=("10.0.0.2/24",)))), "ip 10.0.0.2/24 is b eth0's"),
            (lambda: stack.attach("a", planned(replace(MORE, mac="00:16:3e:00:00:02"))), "is b eth0's on xenbr0"),
            (lambda: stack.attach("a", planned(replace(MORE, bridge="nobr"))), "no bridge nobr in this lab"),
            (lambda: stack.detach("a", "eth9"), "a has no vif eth9; it has 0 \\(eth0,"),
            (lambda: stack.link("a", "7", True), "a has no vif 7"),
        ):
            with pytest.raises(XnetError, match=why):
                await order()
            await accounted(running)


async def test_a_paused_guest_does_not_keep_its_vif(boot: Boot, lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnet.engine.toolstack.CLOSE_S", 0.2)
    async with boot(lab("a", "b")) as running:
        running.machine.pause("b")
        await running.machine.toolstack.detach("b", "eth1")
        running.machine.unpause("b")
        await accounted(running)
        await running.machine.toolstack.reboot("b")
        await accounted(running)


async def test_a_cable_that_is_out_passes_nothing(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b")) as running:
        stack = running.machine.toolstack
        for wire in wires:
            await stack.link("b", wire.device, False)
            assert "NO-CARRIER" in await running.run("b", "ip", "link", "show", wire.device)
            said = await running.run("a", "ping", "-c", "3", "-i", "0.02", "-W", "0.3", "-q", wire.at(4, 2), status=1)
            assert " 0 received" in said
            described = {vif["device"]: vif["link"] for vif in running.machine.describe()["domains"][2]["vifs"]}
            assert [device for device, link in described.items() if link == "down"] == [wire.device]
            await stack.link("b", wire.device, True)
            await ping(running, "a", wire.at(4, 2))
        await accounted(running)


async def test_what_nobody_accounts_for_is_found(boot: Boot, lab: MakeLab) -> None:
    async with boot(lab("a", "b")) as running:
        machine = running.machine
        guest, dom0 = machine.guests["a"].xen.domain, machine.host.dom0
        addr, ref, port = guest.alloc_pages(3), guest.alloc_grefs(2), dom0.alloc_unbound(guest.domid)
        frames = dom0.increase_reservation(1)

        def poke() -> Any:
            yield Mkdir("/local/domain/0/backend/vif/77/0")

        machine.host.session.run(poke())
        await running.run("dom0", "ip", "link", "add", "stray", "type", "veth", "peer", "name", "stray2")
        await running.run("dom0", "ip", "link", "set", "stray", "master", "xenbr0")
        problems = "\n".join((await machine.check())["problems"])
        for text in (
            "a: 1649 pages out, 1646 accounted for",
            "a: 1646 grant references out, 1644 accounted for",
            "dom0: 15 ports, 14 accounted for",
            "dom0: 1 frames under no page, 0 accounted for",
            "dom0: stray is a port of xenbr0, and nobody's",
            "xenstore: /local/domain/0/backend/vif/77/0 is nobody's",
        ):
            assert text in problems, problems
        guest.free_pages(addr, 3)
        guest.free_grefs(ref, 2)
        dom0.close_port(port)
        dom0.release_frames(frames)

        def undo() -> Any:
            from xnet.xenstore import Rm

            yield Rm("/local/domain/0/backend/vif/77")

        machine.host.session.run(undo())
        await running.run("dom0", "ip", "link", "del", "stray")
        await accounted(running)
