"""Commands in guests: exit status, signals, terminal, environment, as if the shell had started them."""

from __future__ import annotations

import ctypes
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from xnet.errors import HostError
from xnet.host import NamespaceFds, Nursery, enter_and_exec, guest_command

RunIn = Callable[[NamespaceFds, Sequence[str]], tuple[int, str]]

pytestmark = pytest.mark.privileged


@pytest.mark.parametrize(
    ("argv", "status", "output"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM, ""),
        (["no-such-command"], 127, "xnet: no-such-command: command not found\n"),
        (["/etc/hosts"], 126, "xnet: /etc/hosts: Permission denied\n"),
        (["sh", "-c", "yes | head -1"], 0, "y\n"),
        (["sh", "-c", "id -u; echo out; echo err >&2"], 0, "0\nout\nerr\n"),
    ],
)
async def test_exit_status_is_a_shells(
    nursery: Nursery, run_in: RunIn, argv: list[str], status: int, output: str
) -> None:
    assert run_in(await nursery.create("a"), argv) == (status, output)


async def test_the_command_is_inside(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a")
    script = "for kind in net mnt pid uts; do readlink /proc/self/ns/$kind; done"
    assert run_in(guest, ["sh", "-c", script]) == (
        0,
        "".join(os.readlink(f"/proc/self/fd/{fd}") + "\n" for fd in guest.fds()),
    )


async def test_it_keeps_the_directory_if_there_is_one(nursery: Nursery, run_in: RunIn, tmp_path: Path) -> None:
    guest = await nursery.create("a")
    before = os.getcwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    try:
        os.chdir(tmp_path)
        assert run_in(guest, ["pwd"]) == (0, f"{tmp_path}\n")
        os.chdir(gone)
        gone.rmdir()
        assert run_in(guest, ["pwd"]) == (0, "/\n")
    finally:
        os.chdir(before)


async def test_it_gets_the_environment_it_is_given(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    pid = os.fork()
    if pid == 0:
        script = 'test "$XNET_A" = 1 && test -z "$HOME"'
        os._exit(enter_and_exec(guest, ["sh", "-c", script], {"XNET_A": "1", "PATH": os.environ["PATH"]}))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def start_caller(guest: NamespaceFds, argv: list[str]) -> tuple[int, int]:
    """The caller (as ``xnet exec``) on a terminal of its own, as a foreground process group: its pid and our end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os._exit(enter_and_exec(guest, argv, os.environ))
    return pid, terminal


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 5
    while text not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], f"silent after {seen!r}"
        seen += os.read(terminal, 4096)
    return seen


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_control_c_reaches_the_command_and_its_status_comes_back(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    pid, terminal = start_caller(guest, ["sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; sleep 1000 & wait"])
    read_until(terminal, b"ready")
    os.write(terminal, b"\x03")
    read_until(terminal, b"caught")
    assert status_of(pid) == 3
    os.close(terminal)


async def test_control_c_kills_a_command_that_does_not_care(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    pid, terminal = start_caller(guest, ["sh", "-c", "echo ready; exec sleep 1000"])
    read_until(terminal, b"ready")
    os.write(terminal, b"\x03")
    assert status_of(pid) == 128 + signal.SIGINT
    os.close(terminal)


async def test_an_interactive_shell_has_job_control(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    pid, terminal = start_caller(guest, ["bash", "--norc", "-i"])
    os.write(terminal, b"PS1='[$?]'; tty; sleep 0.01 & fg; echo do''ne\n")
    seen = read_until(terminal, b"done")
    assert b"/dev/pts/" in seen
    assert b"no job control" not in seen
    os.write(terminal, b"exit 4\n")
    read_until(terminal, b"exit")
    assert status_of(pid) == 4
    os.close(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_signals_to_the_caller_are_passed_on(nursery: Nursery, number: signal.Signals) -> None:
    guest = await nursery.create("a")
    script = f"trap 'echo caught; exit 5' {number.value}; echo ready; sleep 1000 & wait"
    pid, terminal = start_caller(guest, ["sh", "-c", script])
    read_until(terminal, b"ready")
    os.kill(pid, number)
    read_until(terminal, b"caught")
    assert status_of(pid) == 5
    os.close(terminal)


async def test_a_killed_caller_takes_the_command_along(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os._exit(enter_and_exec(guest, ["sh", "-c", "echo ready; exec sleep 1000"], os.environ))
    os.close(writer)
    assert os.read(reader, 6) == b"ready\n"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert select.select([reader], [], [], 5)[0], "the command still holds the pipe"
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.fixture
def adopts() -> Iterator[None]:
    """Orphans become the test's own, and stay corpses until it buries them."""
    libc, set_child_subreaper = ctypes.CDLL(None), 36
    assert libc.prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    yield
    libc.prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.usefixtures("adopts")
@pytest.mark.parametrize("argv", [["sleep", "1000"], ["ping", "-q", "127.0.0.1"]])
async def test_a_killed_caller_leaves_no_corpse_in_the_guest(nursery: Nursery, argv: list[str]) -> None:
    guest = await nursery.create("a")
    pid, terminal = start_caller(guest, ["sh", "-c", f"echo ready; exec {' '.join(argv)}"])
    read_until(terminal, b"ready")
    os.kill(pid, signal.SIGKILL)
    assert status_of(pid) == -signal.SIGKILL
    minder = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    assert minder is not None
    assert minder.si_status == 128 + signal.SIGHUP
    space = os.readlink(f"/proc/self/fd/{guest.pid}")
    there = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and pid_namespace(entry) == space]
    assert len(there) == 1, "the guest's first process alone"
    os.waitpid(minder.si_pid, 0)
    os.close(terminal)


def pid_namespace(process: Path) -> str:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return ""


async def test_a_guest_whose_first_process_died_is_told_of_in_a_line(nursery: Nursery, run_in: RunIn) -> None:
    guest = await nursery.create("a")
    (init,) = Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text().split()
    with open_pidfd(int(init)) as first:
        os.kill(int(init), signal.SIGKILL)
        assert select.select([first], [], [], 5)[0]
    assert run_in(guest, ["true"]) == (1, "xnet: nothing can be run there: its first process is dead\n")


@contextmanager
def open_pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    yield fd
    os.close(fd)


async def test_a_caller_outside_runs_commands_with_nsenter(nursery: Nursery) -> None:
    guest = await nursery.create("alpha")
    command, fds = guest_command(guest, ["sh", "-c", "hostname; echo $PPID; exit 9"])
    done = subprocess.run(command, pass_fds=fds, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (9, "alpha\n0\n")


def test_without_privilege_the_error_names_the_fix() -> None:
    script = """
import os
from xnet.errors import HostError
from xnet.host import enter_and_exec, own_namespaces
spaces = own_namespaces()
os.setresuid(65534, 65534, 65534)
try:
    enter_and_exec(spaces, ["true"], {})
except HostError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10)
    assert done.stdout == "cannot enter the guest: setns: Operation not permitted; run as root\n", done.stderr


def test_what_is_no_namespace_is_refused() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            enter_and_exec(NamespaceFds(0, 0, 0, 0), ["true"], {})
        except HostError:
            os._exit(0)
        os._exit(1)
    assert status_of(pid) == 0
