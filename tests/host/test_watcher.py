"""The watcher: a bridge in the machine's own namespace goes with its engine. Here in a namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.privileged

PRELUDE = """
import asyncio, os, signal, subprocess, sys, time
from xnet.host import Netlink, Watcher

def names():
    return sorted(os.listdir("/sys/class/net"))

def wait_for(expected):
    deadline = time.monotonic() + 3
    while names() != expected and time.monotonic() < deadline:
        time.sleep(0.005)
    assert names() == expected, names()
"""


def run_alone(body: str) -> None:
    """Run a script in network and mount namespaces of its own, with /sys to match."""
    start = 'mount -t sysfs none /sys && ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", start, "sh", sys.executable, "-c", PRELUDE + body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_a_killed_engines_bridge_goes_and_anothers_stays() -> None:
    run_alone("""
async def engine():
    watcher = Watcher()
    async with Netlink() as netlink:
        await netlink.add_bridge("foreign")
        for name in ("ours", "given", "renamed"):
            index = watcher.reserve(name)
            assert await netlink.add_bridge(name, index=index) == index
        watcher.release(netlink.link_index("given"), "given")
        subprocess.run(["ip", "link", "set", "renamed", "down", "name", "theirs"], check=True)
    os.kill(os.getpid(), signal.SIGKILL)

pid = os.fork()
if pid == 0:
    asyncio.run(engine())
assert os.waitpid(pid, 0)[1] == signal.SIGKILL
wait_for(["foreign", "given", "lo", "theirs"])
""")


def test_a_reserved_index_without_a_link_harms_nobody() -> None:
    run_alone("""
watcher = Watcher()
watcher.reserve("xenbr0")
subprocess.run(["ip", "link", "add", "xenbr0", "type", "bridge"], check=True)
watcher.close()
watcher.close()
assert names() == ["lo", "xenbr0"]
""")


def test_close_removes_what_is_still_reserved_before_it_returns() -> None:
    run_alone("""
async def engine():
    watcher = Watcher()
    async with Netlink() as netlink:
        await netlink.add_bridge("xenbr0", index=watcher.reserve("xenbr0"))
    watcher.close()
    assert names() == ["lo"]

asyncio.run(engine())
""")


def test_a_dead_watcher_is_an_error() -> None:
    run_alone("""
from xnet.errors import HostError
watcher = Watcher()
(child,) = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
os.kill(int(child), signal.SIGKILL)
time.sleep(0.1)
try:
    watcher.reserve("xenbr0")
except HostError as error:
    assert "gone" in str(error)
else:
    raise SystemExit("no error")
watcher.close()
""")
