"""Guests that crash at a bad moment (in an order, behind one, asleep) or by a hypercall, and some that never start."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.privileged.test_life import MORE, accounted, ping, planned
from tests.privileged.test_orders import descriptors, first_process, state, until, with_on_crash
from xnet.engine.machine import Machine
from xnet.errors import XnetError

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]


@pytest.mark.parametrize("what", ["destroy", "restart", "preserve"])
async def test_a_domain_that_says_that_it_crashed(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], what: str) -> None:
    """SCHEDOP_shutdown with the reason crash: its processes are well, and its domain is over."""
    async with boot(with_on_crash(lab("a", "b", "c"), "b", what)) as running:
        machine = running.machine
        domid = machine.guests["b"].domid
        machine.host.hypervisor.shutdown(domid, "crash")
        assert state(running, "b") == "---sc-"
        await until(lambda: not machine.toolstack.orders)
        if what == "destroy":
            assert sorted(machine.guests) == ["a", "c"]
        elif what == "restart":
            assert machine.guests["b"].domid > domid
            await ping(running, "a", wires[0].at(4, 2))
        else:
            assert state(running, "b") == "---sc-"
            await running.run("a", "ping", "-c", "2", "-i", "0.02", "-W", "0.2", wires[0].at(4, 2), status=1)
            await machine.toolstack.destroy("b")
        await ping(running, "a", wires[0].at(4, 3))
        await accounted(running)


@pytest.mark.parametrize("how", ["killed", "hypercall"])
async def test_a_crash_behind_a_reboot_is_not_the_new_guests(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], how: str
) -> None:
    async with boot(lab("a", "b")) as running:
        machine, stack = running.machine, running.machine.toolstack
        domid, init = machine.guests["b"].domid, first_process(running, "b")
        async with stack.turns["b"]:  # something else is being done
            reboot = asyncio.create_task(stack.reboot("b"))
            await asyncio.sleep(0)
            if how == "killed":
                os.kill(init, signal.SIGKILL)
            else:
                machine.host.hypervisor.shutdown(domid, "crash")
            await until(lambda: state(running, "b") == "---sc-")
        await reboot
        await until(lambda: not stack.orders)
        assert machine.guests["b"].domid > domid
        await ping(running, "a", wires[0].at(4, 2))
        await accounted(running)


async def test_orders_do_not_wait_for_a_guest_that_crashed(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    """Each would take ten seconds: nobody answers any more."""
    async with boot(with_on_crash(lab("a", "b"), "b", "preserve")) as running:
        machine, stack = running.machine, running.machine.toolstack
        machine.host.hypervisor.shutdown(machine.guests["b"].domid, "crash")
        async with asyncio.timeout(5):
            with pytest.raises(XnetError, match="b has crashed"):
                await stack.attach("b", planned(MORE))
            await stack.detach("b", "eth1")
            with pytest.raises(XnetError, match="is not suspended"):
                await stack.resume("b")
            await accounted(running)
            await stack.reboot("b")
        await ping(running, "a", wires[0].at(4, 2))
        await accounted(running)


async def test_a_guest_killed_in_its_sleep_is_ended(boot: Boot, lab: MakeLab) -> None:
    async with boot(lab("a", "b")) as running:
        machine, stack = running.machine, running.machine.toolstack
        init = first_process(running, "b")
        await stack.suspend("b")
        os.kill(init, signal.SIGKILL)
        await until(lambda: "b" not in machine.guests and not stack.orders)
        await accounted(running)


async def test_a_guest_that_cannot_be_started_leaves_nothing(boot: Boot, lab: MakeLab) -> None:
    """But for one whose vif cannot be connected: it is there to be looked at, as after `xnet up`."""
    made = lab("a", "b", "c")
    late = replace(made.domains[2], autostart=False)
    for wrong, why, there in (
        ({"gateway": ("192.0.2.1",)}, "192.0.2.1", False),
        ({"sysctl": {"net/no/such": "1"}}, "net/no/such", False),
        ({"vifs": (replace(late.vifs[0], bridge="nobr"),)}, "no bridge nobr in this lab", True),
    ):
        async with boot(replace(made, domains=(*made.domains[:2], replace(late, **wrong)))) as running:
            for _ in range(2):
                with pytest.raises(XnetError, match=why):
                    await running.machine.toolstack.create("c")
                assert ("c" in running.machine.guests) is there
                if there:
                    await running.machine.toolstack.destroy("c")
                await accounted(running)


@pytest.mark.parametrize("after", [0.0, 0.02, 0.1])
async def test_a_machine_that_ends_while_a_crashed_guest_is_restarted_leaves_nothing(
    lab: MakeLab, after: float
) -> None:
    before = descriptors()
    async with Machine(with_on_crash(lab("a", "b"), "b", "restart")) as machine:
        await machine.wait_connected()
        machine.host.hypervisor.shutdown(machine.guests["b"].domid, "crash")
        await asyncio.sleep(after)
    assert machine.leaks == []
    assert not machine.toolstack.orders
    assert descriptors() == before
