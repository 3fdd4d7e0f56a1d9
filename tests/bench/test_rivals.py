"""Every system a user would take instead comes up for real, carries a ping, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xnet.bench.rivals import RIVALS, Rival
from xnet.bench.setup import output, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

HOLD = """
import sys, time
from xnet.bench.rivals import RIVALS
rival = next(each for each in RIVALS if each.name == sys.argv[1])
with rival.setup():
    print("up", flush=True)
    time.sleep(60)
"""


def installed(*names: str) -> list[Rival]:
    """The rivals of these names that this machine has; what it has not is the comparison's to tell."""
    return [rival for rival in RIVALS if rival.name in names and rival.missing() is None]


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for child in children for each in (child, *descendants(child))]


@pytest.mark.parametrize("name", [rival.name for rival in RIVALS])
def test_guests_reach_each_other_over_it_and_its_processes_end_with_it(name: str) -> None:
    for rival in installed(name):
        with rival.setup() as setup:
            assert setup.name == name
            assert bool(setup.pids) is (name != "kernel")
            with running(setup, "a", ["ping", "-n", "-c", "1", "-W", "2", setup.address("b")]) as ping:
                assert "1 received" in output(ping, 5.0)
            assert all(map(is_alive, setup.pids))
        assert not any(map(is_alive, setup.pids))


@pytest.mark.parametrize("name", ["vde", "ovs", "pasta", "socat"])
def test_nothing_stays_when_the_bench_is_killed(name: str, tmp_path: Path) -> None:
    for rival in installed(name):
        before = set(Path("/run").iterdir())
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, rival.name],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "up\n"
            below = descendants(holder.pid)
            assert len(below) >= 2
            holder.send_signal(signal.SIGKILL)
        until = time.monotonic() + 5
        while any(map(is_alive, below)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(is_alive, below))
        assert list(tmp_path.iterdir()) == []
        assert set(Path("/run").iterdir()) == before
