"""Labs that are ended at random moments, and the machine before and after. A script, for a machine of its own.

``mortal_lab.py kill|interrupt private|host|demo TIMES SEED``: run inside fresh pid, mount and network namespaces, so
that every process, link and mount there is ours and ``[dom0] netns = "host"`` means that network namespace. Each lab is
``xnet run`` in a process of its own and ends by SIGKILL (kill) or SIGINT (interrupt): while it boots, at the moment it
is up, under traffic with children of ``xnet exec`` running in its guests, or in the middle of its teardown; with demo
it is ``xnet demo``, at any moment. Exit status 0 and a line of figures, or 1 and what stayed behind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alone import SETTLE_S, footprint, settle

ENDS_WITHIN_S = 2.0
"""What Ctrl-C is allowed to take."""
RUN = Path("/run/xnet")
XNET = [sys.executable, "-m", "xnet"]
LAB = """
[dom0]
netns = "{netns}"
[[bridge]]
name = "xenbr0"
address = ["10.0.0.254/24", "fd00::254/64"]
[[link]]
name = "net0"
bridge = "xenbr0"
[[link]]
name = "net1"
veth = "wire0"
ip = "10.2.0.254/24"
[[etherstub]]
name = "stub0"
[[vnic]]
name = "vnic0"
over = "stub0"
zone = "dom0"
ip = "10.1.0.254/24"
[[vnic]]
name = "vnic1"
over = "stub0"
zone = "b"
[[domain]]
name = "a"
vif = [{{ bridge = "xenbr0", ip = "10.0.0.1/24" }}, {{ link = "stub0", ip = "10.1.0.1/24" }}, {{ link = "net1" }}]
[[domain]]
name = "b"
vif = [{{ link = "net0", ip = "10.0.0.2/24" }}, {{ link = "stub0", ip = "10.1.0.2/24" }}]
"""
ON_A_FOREIGN_BRIDGE = """
[[bridge]]
name = "foreign0"
existing = true
[[domain]]
name = "c"
vif = [{ bridge = "foreign0" }, { link = "net2" }, { link = "net3" }]
[[link]]
name = "net2"
nic = "foreign3"
[[link]]
name = "net3"
nic = "foreign4"
via = "macvtap"
"""
FOREIGN = (
    "link add foreign0 up type bridge",
    "link add foreign1 up type veth peer name foreign2",
    "link set foreign2 up master foreign0",
    "link add foreign3 up type veth peer name foreign4",
    "link set foreign4 up",
    "link add xenbr9 up type bridge",
)
"""Devices of the machine's own where dom0 is the machine: to be used, or to be left alone, never to be changed."""
IN_GUESTS = (
    ("a", "ping -q -f 10.0.0.2"),
    ("a", "ping -q -f 10.1.0.2"),
    ("b", "setsid sleep 1000 & mount -t tmpfs own /mnt; sleep 1000"),
    ("dom0", "exec ping -q -i 0.01 10.0.0.1"),
)
"""What runs in the domains while a lab under traffic ends, as shell commands."""
MOMENTS = ("booting", "up", "traffic", "teardown")


def must(condition: bool, what: str) -> None:
    """End the script when something is wrong."""
    if not condition:
        print(what, file=sys.stderr)
        sys.exit(1)


@contextmanager
def in_guests(netns: str) -> Iterator[None]:
    """``xnet exec`` children in every domain, each seen to run. A dom0 that is this machine itself has none: what runs
    there is the machine's."""
    with open(os.devnull, "wb") as null:
        children = [
            subprocess.Popen(
                [*XNET, "exec", where, "--", "sh", "-c", f"echo runs; {line}"],
                stdout=subprocess.PIPE,
                stderr=null,
            )
            for where, line in IN_GUESTS
            if (where, netns) != ("dom0", "host")
        ]
        try:
            for child in children:
                assert child.stdout is not None
                must(child.stdout.readline() == b"runs\n", "xnet exec ran nothing")
            yield
        finally:
            for child in children:
                child.communicate(timeout=SETTLE_S)


class Moments:
    """Random moments; how long a boot takes here is learned from those seen whole."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.boot_s = 1.0

    def wait(self, moment: str, engine: subprocess.Popen[str], began: float) -> None:
        """Until the moment to end it has come."""
        assert engine.stdout is not None
        if moment == "booting":
            time.sleep(self.dice.uniform(0.2, 1.0) * self.boot_s)
            return
        line = ""
        while "is up" not in line:
            line = engine.stdout.readline()
            must(line != "", "the lab did not come up")
        self.boot_s = time.monotonic() - began
        if moment == "teardown":
            engine.send_signal(signal.SIGTERM)
            time.sleep(self.dice.uniform(0.0, 0.3))


def end_once(how: str, netns: str, moment: str, path: Path, moments: Moments) -> tuple[float, float]:
    """Start a lab and end it at that moment; seconds until its process was gone, and until all of it was."""
    before = footprint()
    began = time.monotonic()
    engine = subprocess.Popen([*XNET, "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if moment == "traffic":
        moments.wait("up", engine, began)
        with in_guests(netns):
            time.sleep(moments.dice.uniform(0.0, 0.3))
            gone = end(engine, how)
    else:
        moments.wait(moment, engine, began)
        gone = end(engine, how)
    settled = settle(before, f"{how} at {moment}")
    return gone, settled


def end_demo(dice: random.Random) -> tuple[float, float]:
    """Start ``xnet demo`` and press Ctrl-C at a random moment of its boot or traffic; as `end_once`."""
    before = footprint()
    demo = subprocess.Popen([*XNET, "demo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(dice.uniform(0.1, 6.0))
    return end(demo, "interrupt"), settle(before, "interrupted demo")


def end(engine: subprocess.Popen[str], how: str) -> float:
    """Signal the engine; seconds until it is gone. After Ctrl-C its exit and its words must be orderly."""
    start = time.monotonic()
    engine.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    _, said = engine.communicate(timeout=30)
    took = time.monotonic() - start
    if how == "interrupt":
        orderly = (0, 128 + signal.SIGINT, -signal.SIGINT)  # the last: it came before Python's start, or after its end
        must(engine.returncode in orderly, f"exit status {engine.returncode} after Ctrl-C: {said}")
        must(not said, f"said after Ctrl-C: {said}")
        must(took <= ENDS_WITHIN_S, f"Ctrl-C took {took:.2f} s")
        must(not any(RUN.iterdir()), f"state files after Ctrl-C: {list(RUN.rglob('*'))}")
    return took


def collect() -> None:
    """``xnet gc`` removes what a killed engine left in /run/xnet, all of it."""
    done = subprocess.run([*XNET, "gc"], capture_output=True, text=True, timeout=30)
    must(done.returncode == 0, f"xnet gc: {done.stderr}")
    must(not RUN.exists() or not any(RUN.iterdir()), f"after xnet gc: {list(RUN.rglob('*'))}")


def main(how: str, netns: str, times: int, seed: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    RUN.mkdir()
    path = Path("/run/mortal.toml")
    path.write_text(LAB.format(netns=netns) + (ON_A_FOREIGN_BRIDGE if netns == "host" else ""))
    for line in FOREIGN if netns == "host" else ():
        subprocess.run(["ip", *line.split()], check=True)
    moments = Moments(random.Random(seed))
    figures = []
    for number in range(times):
        if netns == "demo":
            figures.append(end_demo(moments.dice))
        else:
            figures.append(end_once(how, netns, MOMENTS[number % len(MOMENTS)], path, moments))
        if number % 3 == 2:  # between the others the next start has to cope with what is there
            collect()
    collect()
    gone, settled = (sorted(column) for column in zip(*figures, strict=True))
    print(
        f"{times} labs ended by {how}; process gone after {gone[times // 2]:.3f} s (median), {max(gone):.3f} s (worst),"
        f" all of it {settled[times // 2]:.3f} s later (median), {max(settled):.3f} s (worst)"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
