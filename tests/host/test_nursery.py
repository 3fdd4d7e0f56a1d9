"""Guests' namespaces: what is private in them, and that nothing of them outlives anything."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from xnet.errors import HostError
from xnet.host import NamespaceFds, Nursery, own_namespaces
from xnet.host.nursery_process import INIT_SOCKETS, sleeper

RunIn = Callable[[NamespaceFds, list[str]], tuple[int, str]]

KILLED = Path(__file__).with_name("killed_engine.py")
pytestmark = pytest.mark.privileged


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def inode(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


async def test_a_guest_has_four_namespaces_of_its_own(nursery: Nursery) -> None:
    guests = [await nursery.create(name) for name in ("a", "b")]
    ours = own_namespaces()
    for each in range(4):
        assert len({inode(spaces.fds()[each]) for spaces in (*guests, ours)}) == 3
    assert [inode(fd).partition(":")[0] for fd in guests[0].fds()] == ["net", "mnt", "pid", "uts"]
    ours.close()


async def test_a_guest_is_furnished(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a", hostname="alpha")
    script = (
        "hostname; cat /sys/class/net/lo/flags; ls /sys/class/net; echo $$; grep -c alpha /etc/hosts; cat /proc/1/comm"
    )
    assert run_in(guest, ["sh", "-c", script]) == (0, "alpha\n0x9\nlo\n2\n1\nxnet-init\n")


async def test_a_guest_that_is_crashed_or_rebooted_does_not_do_it_to_the_machine(
    nursery: Nursery, run_in: RunIn
) -> None:
    """Only ``h`` is tried, which is harmless (it prints help) where it gets through. Not every kernel has SysRq."""
    guest = await nursery.create("a")
    status, said = run_in(guest, ["sh", "-c", "echo h > /proc/sysrq-trigger"])
    assert status != 0
    if os.path.exists("/proc/sysrq-trigger"):
        assert "Read-only file system" in said
        assert os.access("/proc/sysrq-trigger", os.W_OK), "the machine's own is as it was"
    for path in INIT_SOCKETS:
        kind = "char" if os.path.exists(path) else "none"
        look = f"if [ -c {path} ]; then echo char; elif [ -e {path} ]; then echo open; else echo none; fi"
        assert run_in(guest, ["sh", "-c", look]) == (0, f"{kind}\n")


async def test_files_and_settings_of_the_guest_are_not_the_machines(nursery: Nursery, run_in: RunIn) -> None:
    before = Path("/etc/hosts").read_text()
    guest = await nursery.create(
        "a",
        files={"/etc/hosts": "10.0.0.7 b\n", "/etc/no-such-file": "x"},
        sysctls={"net.ipv4.ip_forward": 1, "net.ipv4.no_such_setting": 1},
    )
    assert run_in(guest, ["cat", "/etc/hosts", "/proc/sys/net/ipv4/ip_forward"]) == (0, "10.0.0.7 b\n1\n")
    assert run_in(guest, ["sh", "-c", "echo rubbish > /etc/hosts; cat /etc/hosts"]) == (0, "rubbish\n")
    assert Path("/etc/hosts").read_text() == before
    assert not Path("/etc/no-such-file").exists()


async def test_mounts_of_a_guest_do_not_show_on_the_machine(nursery: Nursery, run_in: RunIn) -> None:
    before = Path("/proc/self/mounts").read_text()
    guest = await nursery.create("a")
    assert run_in(guest, ["mount", "-t", "tmpfs", "guests-own", "/mnt"])[0] == 0
    assert "guests-own /mnt" in run_in(guest, ["cat", "/proc/self/mounts"])[1]
    assert Path("/proc/self/mounts").read_text() == before


async def test_orphans_are_reaped_by_the_init(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a")
    assert run_in(guest, ["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0 &) ; done"])[0] == 0
    await asyncio.sleep(0.05)
    status, text = run_in(guest, ["ps", "-eo", "stat,comm", "--no-headers"])
    assert status == 0
    assert [line.split()[1] for line in text.splitlines()] == ["xnet-init", "ps"]


async def test_an_init_shrugs_at_signals_from_inside(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a")
    assert run_in(guest, ["sh", "-c", "kill -KILL 1; kill -TERM 1; kill -SEGV 1; sleep 0.02; cat /proc/1/comm"]) == (
        0,
        "xnet-init\n",
    )


async def test_destroy_kills_all_that_runs_in_the_guest(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a")
    assert (
        run_in(guest, ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 &"])[0] == 0
    )
    inside = inode(guest.pid)
    assert len(inhabitants(inside)) == 3
    await nursery.destroy("a")
    await nursery.destroy("a")
    assert inhabitants(inside) == []
    assert children(nursery.pid) == []


def inhabitants(pid_namespace: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns/pid") == pid_namespace:
                    found.append(entry.name)
            except OSError:
                continue
    return found


async def test_a_name_is_free_again_after_destroy(nursery: Nursery) -> None:
    await nursery.create("a")
    with pytest.raises(HostError, match="there is a guest of that name"):
        await nursery.create("a")
    await nursery.destroy("a")
    await nursery.create("a")


async def one_is_left(nursery: Nursery) -> None:
    """The inits that came to nothing are killed, which takes them a moment."""
    async with asyncio.timeout(2):
        while len(children(nursery.pid)) != 1:
            await asyncio.sleep(0.005)


async def test_what_fails_is_named_and_leaves_nothing(nursery: Nursery) -> None:
    with pytest.raises(HostError, match=r"^a: sethostname: "):
        await nursery.create("a", hostname="x" * 65)
    with pytest.raises(HostError, match=r"only net\.\* settings"):
        await nursery.create("a", sysctls={"kernel.hostname": "b"})
    await nursery.create("a")
    await one_is_left(nursery)


async def test_a_create_that_is_given_up_leaves_nothing(nursery: Nursery) -> None:
    task = asyncio.create_task(nursery.create("a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nursery.create("b")  # answered after a's
    await one_is_left(nursery)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGKILL, "crash"), (signal.SIGTERM, ""), (signal.SIGHUP, "")])
async def test_the_death_of_an_init_is_reported(number: int, reason: str) -> None:
    deaths: list[tuple[str, str]] = []
    nursery = Nursery(on_death=lambda *death: deaths.append(death))
    try:
        await nursery.create("a")
        (init,) = children(nursery.pid)
        os.kill(init, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(2 if reason else 0.2):
                while not deaths:
                    await asyncio.sleep(0.005)
        assert deaths == ([("a", reason)] if reason else []), "what a user may send is not heeded, what kills is"
        await nursery.destroy("a")
        await nursery.create("a")
    finally:
        await nursery.close()


REBOOT = "import ctypes; ctypes.CDLL(None).reboot({})"


@pytest.mark.parametrize(("magic", "reason"), [(0x01234567, "reboot"), (0x4321FEDC, "poweroff")])
async def test_a_guest_that_ends_itself_says_how(run_in: RunIn, magic: int, reason: str) -> None:
    """reboot(2), in a pid namespace of its own only: anywhere else it would be the machine's."""
    deaths: list[tuple[str, str]] = []
    nursery = Nursery(on_death=lambda *death: deaths.append(death))
    try:
        spaces = await nursery.create("a")
        here = inode(spaces.pid)
        assert here != os.readlink("/proc/self/ns/pid")
        sure = f"import os; assert os.readlink('/proc/self/ns/pid') == {here!r} and os.getpid() < 1000; "
        run_in(spaces, [sys.executable, "-I", "-S", "-c", sure + REBOOT.format(magic)])
        async with asyncio.timeout(2):
            while not deaths:
                await asyncio.sleep(0.005)
        assert deaths == [("a", reason)]
    finally:
        await nursery.close()


async def test_the_death_of_the_nursery_is_the_death_of_all_guests() -> None:
    deaths: list[tuple[str, str]] = []
    nursery = Nursery(on_death=lambda *death: deaths.append(death))
    try:
        for name in ("a", "b"):
            await nursery.create(name)
        os.kill(nursery.pid, signal.SIGKILL)
        async with asyncio.timeout(2):
            while len(deaths) < 2:
                await asyncio.sleep(0.005)
        assert sorted(deaths) == [("a", "crash"), ("b", "crash")]
        with pytest.raises(HostError, match="the process that holds the guests is gone"):
            await nursery.create("c")
    finally:
        await nursery.close()


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def test_fifty_guests_are_made_quickly_and_are_small(nursery: Nursery) -> None:
    await nursery.create("first")
    start = time.perf_counter()
    await asyncio.gather(*(nursery.create(f"g{number}") for number in range(50)))
    assert time.perf_counter() - start < 1.0
    limit_kb = 2_000 if sleeper(os.uname().machine) else 51 * 12_000
    async with asyncio.timeout(2):  # an init reports before it becomes small
        while sum(resident_kb(pid) for pid in children(nursery.pid)) > limit_kb:
            await asyncio.sleep(0.005)


async def test_the_nursery_keeps_nothing_of_the_engine(nursery: Nursery) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    late = Nursery()
    try:
        await late.create("a")
        os.close(writer)
        assert select.select([reader], [], [], 1)[0]
        assert os.read(reader, 1) == b""
        (init,) = children(late.pid)
        async with asyncio.timeout(2):  # it closes the rest after it has reported
            while sorted(os.listdir(f"/proc/{init}/fd")) != ["0", "1", "2"]:
                await asyncio.sleep(0.005)
    finally:
        os.close(reader)
        await late.close()


def test_only_the_main_thread_may_start_it() -> None:
    errors: list[HostError] = []

    def start() -> None:
        try:
            Nursery()
        except HostError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


async def test_close_without_a_guest_and_twice(nursery: Nursery) -> None:
    await nursery.close()
    await nursery.close()


@pytest.mark.slow
def test_a_killed_engine_leaves_nothing_twenty_times_over(
    run_alone: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_alone(KILLED, 20)
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 engines killed" in done.stdout
