"""Orders that wait for each other, guests that end by themselves, and a machine that ends in the middle of an order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.privileged.test_life import MORE, accounted, bulk, ping, planned
from xnet.engine.machine import Machine
from xnet.errors import XnetError

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


def with_on_crash(lab: Any, guest: str, what: str) -> Any:
    return replace(lab, domains=tuple(replace(d, on_crash=what) if d.name == guest else d for d in lab.domains))


def first_process(running: Running, guest: str) -> int:
    """The machine's pid of a guest's init."""
    namespace = os.readlink(f"/proc/self/fd/{running.machine.guests[guest].fds.pid}")
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "ns/pid") == namespace and (entry / "comm").read_text() == "xnet-init\n":
                return int(entry.name)
    raise AssertionError(f"{guest} has no first process")


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


def state(running: Running, guest: str) -> str:
    return str({each["name"]: each["state"] for each in running.machine.describe()["domains"]}.get(guest, ""))


@pytest.mark.parametrize("what", ["destroy", "restart", "preserve"])
async def test_what_becomes_of_a_crashed_guest(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], what: str) -> None:
    async with boot(with_on_crash(lab("a", "b", "c"), "b", what)) as running:
        machine = running.machine
        domid = machine.guests["b"].domid
        traffic = asyncio.create_task(running.run("a", "ping", "-c", "100", "-i", "0.01", "-q", wires[0].at(4, 3)))
        os.kill(first_process(running, "b"), signal.SIGKILL)
        if what == "destroy":
            await until(lambda: "b" not in machine.guests and not machine.toolstack.orders)
            await machine.toolstack.create("b")
        elif what == "restart":
            await until(lambda: "b" in machine.guests and machine.guests["b"].domid > domid)
            await until(lambda: not machine.toolstack.orders)
        else:
            await until(lambda: state(running, "b") == "---sc-")
            await accounted(running)
            await ping(running, "a", wires[0].at(4, 3))
            with pytest.raises(XnetError, match="is not suspended"):
                await machine.toolstack.resume("b")
            await machine.toolstack.reboot("b")
        for wire in wires:
            await ping(running, "a", wire.at(4, 2))
        assert " 0% packet loss" in await traffic
        await accounted(running)


async def test_a_guest_that_reboots_or_stops_itself(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    """`reboot -f` and `poweroff -f` in it; busybox's call reboot(2), which there ends the guest's pid namespace."""
    async with boot(lab("a", "b")) as running:
        machine = running.machine
        domid = machine.guests["b"].domid
        await machine.toolstack.attach("b", planned(MORE))
        inside = await running.run("b", "sh", "-c", "readlink /proc/self/ns/pid")
        assert inside.strip() != os.readlink("/proc/self/ns/pid")
        await running.run("b", "busybox", "reboot", "-f", status=None)
        await until(lambda: "b" in machine.guests and machine.guests["b"].domid > domid)
        await until(lambda: not machine.toolstack.orders)
        await ping(running, "a", wires[0].at(4, 2))
        await ping(running, "a", "10.0.0.77")
        await accounted(running)
        await running.run("b", "busybox", "poweroff", "-f", status=None)
        await until(lambda: "b" not in machine.guests and not machine.toolstack.orders)
        await accounted(running)


async def test_orders_find_the_guest_there_is_when_their_turn_comes(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]
) -> None:
    async with boot(lab("a", "b", "c")) as running:
        stack, machine = running.machine.toolstack, running.machine
        traffic = asyncio.create_task(bulk(running, wires[0].at(4, 2), 3))
        before = machine.guests["c"].domid
        reboot, attach = asyncio.create_task(stack.reboot("c")), asyncio.create_task(stack.attach("c", planned(MORE)))
        restart = asyncio.create_task(stack.restart_backend(str(before), "eth0"))
        await asyncio.gather(reboot, attach, restart)
        assert machine.guests["c"].domid > before
        await ping(running, "a", "10.0.0.77")
        await accounted(running)
        reboot = asyncio.create_task(stack.reboot("c"))
        await until(lambda: "c" not in machine.guests)
        await stack.detach("c", MORE.mac)
        assert reboot.done(), "it waited for the guest that was not there just then"
        await accounted(running)
        orders = [stack.destroy("c"), stack.suspend("c"), stack.detach("c", "eth0"), stack.link("c", "eth0", False)]
        ends = await asyncio.gather(*orders, stack.attach("c", planned(MORE)), return_exceptions=True)
        assert ends[0] is None
        assert all(str(end).startswith("no guest c") for end in ends[1:])
        assert all(isinstance(end, XnetError) for end in ends[1:])
        assert (await traffic)["sum_received"]["bytes"] > 1 << 20
        await accounted(running)


async def test_two_vifs_at_once_get_numbers_and_addresses_of_their_own(boot: Boot, lab: MakeLab) -> None:
    async with boot(lab("a", "b")) as running:
        stack = running.machine.toolstack

        def plan(name: str, handle: int) -> Any:
            return replace(MORE, mac=f"00:16:3e:78:00:{handle:02x}", ip=(f"10.0.0.{70 + handle}/24",))

        vifs = await asyncio.gather(*(stack.attach("a", plan) for _ in range(3)))
        assert sorted(vif.handle for vif in vifs) == [3, 4, 5]
        ends = await asyncio.gather(
            *(stack.attach(guest, planned(MORE)) for guest in ("a", "b")), return_exceptions=True
        )
        assert sum(isinstance(end, XnetError) and "choose another" in str(end) for end in ends) == 1
        await accounted(running)


def descriptors() -> int:
    """Open ones of this process, but for the memory of machines that somebody still looks at."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += "memfd" not in os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.mark.parametrize("order", ["reboot", "attach", "create", "shutdown"])
@pytest.mark.parametrize("after", [0.0, 0.02, 0.1, 0.3])
async def test_a_machine_that_ends_in_the_middle_of_an_order_leaves_nothing(
    lab: MakeLab, order: str, after: float
) -> None:
    made = lab("a", "b", "c")
    made = replace(made, domains=(*made.domains[:2], replace(made.domains[2], autostart=False)))
    before = descriptors()
    async with Machine(made) as machine:
        await machine.wait_connected()
        stack = machine.toolstack
        asked = asyncio.create_task(
            {
                "reboot": lambda: stack.reboot("b"),
                "attach": lambda: stack.attach("b", planned(MORE)),
                "create": lambda: stack.create("c"),
                "shutdown": lambda: stack.shutdown("b"),
            }[order]()
        )
        await asyncio.sleep(after)
    assert asked.done()
    assert machine.leaks == []
    with suppress(XnetError):
        await asked
    assert descriptors() == before
    with pytest.raises(XnetError, match="the lab is ending"):
        await stack.create("c")
    assert "vif" not in subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
