"""The commands on real namespaces, TAPs and bridges."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xnet.control.state import Owner, read_owner

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LAB = """
[lab]
name = "real"
[[bridge]]
name = "xenbr0"
address = "10.0.0.254/24"
[[etherstub]]
name = "stub0"
[[domain]]
name = "a"
gateway = "10.0.0.254"
vif = [{ bridge = "xenbr0", ip = "10.0.0.1/24" }, { link = "stub0", ip = "10.1.0.1/24" }]
[[domain]]
name = "b"
vif = [{ bridge = "xenbr0", ip = "10.0.0.2/24" }, { link = "stub0", ip = "10.1.0.2/24" }]
"""

if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
    pytest.skip("needs root and /dev/net/tun", allow_module_level=True)


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xnet", *args]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def xnet(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "xnet", *args], cwd=ROOT, text=True, capture_output=True, check=False)


def family(pid: int) -> set[int]:
    """A process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= family(int(child))
    return found


def living(pids: set[int]) -> set[int]:
    """Those of them that run (a corpse waiting for its parent does not)."""
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def gone(pids: set[int], timeout_s: float = 1.0) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + timeout_s
    while living(pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def network_namespaces() -> set[str]:
    """Those that some process is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(path))
        except OSError:
            pass
    return found


@pytest.fixture
def lab_file(tmp_path: Path) -> str:
    path = tmp_path / "real.toml"
    path.write_text(LAB)
    return str(path)


@pytest.fixture
def lab(run_root: Path, lab_file: str) -> Iterator[Owner]:
    """The lab, up; and down at the end, whatever the test did."""
    up = xnet("up", lab_file)
    assert (up.returncode, up.stderr) == (0, "")
    owner = read_owner(run_root / "real")
    assert owner is not None
    yield owner
    owner.kill(signal.SIGKILL)
    assert owner.wait_gone(5)


def test_up_exec_and_down(lab: Owner, run_root: Path) -> None:
    domains = json.loads(xnet("list", "--json").stdout)["domains"]
    vifs = [(domain["name"], vif["name"], vif["state"]) for domain in domains for vif in domain["vifs"]]
    assert vifs == [
        ("a", "vif1.0", "Connected"),
        ("a", "xvm1_1", "Connected"),
        ("b", "vif2.0", "Connected"),
        ("b", "xvm2_1", "Connected"),
    ]
    for guest, address in (("a", "10.0.0.2"), ("a", "10.1.0.2"), ("b", "10.0.0.254"), ("dom0", "10.0.0.1")):
        ping = xnet("exec", guest, "--", "ping", "-c", "2", "-i", "0.1", "-W", "2", address)
        assert ping.returncode == 0, (guest, address, ping.stdout, ping.stderr)
    whole = family(lab.pid)
    assert len(whole) > 3
    assert xnet("down").returncode == 0
    assert gone(whole)
    assert os.listdir(run_root) == []


STATUS = {
    "true": (["true"], 0),
    "false": (["false"], 1),
    "a status of its own": (["sh", "-c", "exit 7"], 7),
    "a signal": (["sh", "-c", "kill -TERM $$"], 128 + 15),
    "no such command": (["no-such-command"], 127),
    "an option of the command": (["ls", "--version"], 0),
}


def test_exec_gives_the_commands_own_status(lab: Owner) -> None:
    got = {name: xnet("exec", "a", "--", *command).returncode for name, (command, _) in STATUS.items()}
    assert got == {name: status for name, (_, status) in STATUS.items()}
    assert xnet("exec", "a", "hostname").stdout == "a\n"
    assert xnet("exec", "z", "true").returncode == 1


def test_exec_lends_its_terminal_and_input(lab: Owner) -> None:
    code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", code, sys.executable, "-m", "xnet", "exec", "a", "--", "tty"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert out.returncode == 0, out
    assert out.stdout.startswith("/dev/pts/")
    echo = subprocess.run(
        [sys.executable, "-m", "xnet", "exec", "a", "cat"], cwd=ROOT, input="through\n", capture_output=True, text=True
    )
    assert echo.stdout == "through\n"


def test_kill_9_of_the_engine_leaves_nothing_that_lives(lab: Owner, run_root: Path, lab_file: str) -> None:
    sleeper = start("exec", "a", "--", "sleep", "1000")
    inside = ""
    while "sleep" not in inside:
        inside = xnet("exec", "a", "--", "ps", "ax").stdout
    guest_net = xnet("exec", "a", "--", "readlink", "/proc/self/ns/net").stdout.strip()
    whole = family(lab.pid) | family(sleeper.pid)
    assert guest_net in network_namespaces()
    lab.kill(signal.SIGKILL)
    sleeper.communicate(timeout=5)
    assert gone(whole)
    assert guest_net not in network_namespaces()
    assert os.listdir(run_root) == ["real"]
    assert "no lab is up" in xnet("list").stderr
    again = xnet("up", lab_file)
    assert (again.returncode, again.stderr) == (0, "")
    assert xnet("down").returncode == 0
    assert os.listdir(run_root) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda path: path.name)
def test_what_an_example_tells_to_try_works(path: Path, run_root: Path) -> None:
    commands = [line.split() for line in re.findall(r"^#   sudo xnet (.*?)(?:   .*)?$", path.read_text(), re.MULTILINE)]
    assert (commands[0][0], commands[-1]) == ("up", ["down"])
    try:
        for command in commands:
            done = xnet(*command)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    finally:
        xnet("down", "--all")
    assert os.listdir(run_root) == []


def test_a_guest_that_cannot_boot_is_one_line_and_leaves_nothing(run_root: Path, lab_file: str) -> None:
    with open(lab_file, "a") as file:
        file.write('[[domain]]\nname = "c"\nsysctl = { "net.ipv4.no_such_thing" = 1 }\n')
    up = xnet("up", lab_file)
    assert up.returncode == 1
    assert up.stderr.count("\n") == 1
    assert "net.ipv4.no_such_thing" in up.stderr
    assert os.listdir(run_root) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["run", "demo"])
def test_a_signal_at_any_moment_takes_everything_down_within_two_seconds(
    verb: str, signum: signal.Signals, run_root: Path, lab_file: str
) -> None:
    chance = random.Random(f"{verb}{signum}")
    for _ in range(5):
        child = start(verb, *([lab_file] if verb == "run" else ["--time", "1"]))
        time.sleep(chance.uniform(0.3, 2.5))
        whole = family(child.pid)
        began = time.monotonic()
        child.send_signal(signum)
        _, err = child.communicate(timeout=10)
        took = time.monotonic() - began
        assert took < 2.0, (took, err)
        assert "Traceback" not in err
        assert child.returncode in (0, 128 + signum, -signum), err
        assert gone(whole)
        assert not run_root.exists() or os.listdir(run_root) == []


def test_the_demo_passes_and_every_run_has_crossed_the_rings(run_root: Path) -> None:
    done = xnet("demo", "--time", "1", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    data = json.loads(done.stdout)
    assert data["passed"]
    assert data["boot"]["events"]
    assert len(data["runs"]) == 16
    for run in data["runs"]:
        crossed = run["crossed"]
        assert crossed["slots"] >= crossed["frames"] > 20
        assert crossed["grant_copies"] + crossed["grant_maps"] > 20
        assert crossed["bytes_copied"] > 1000
        assert crossed["notified"] > 0
    assert os.listdir(run_root) == []


def test_root_without_capabilities_is_told_so_in_a_line(run_root: Path, lab_file: str) -> None:
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "xnet", "up", lab_file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "CAP_" in done.stderr
    assert os.listdir(run_root) == []
