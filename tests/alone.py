"""A machine of a test's own: fresh pid, mount and network namespaces, where every process, link and mount that is there
is ours, and before and after can be compared exactly. For scripts that conftest's `run_alone` starts there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

SETTLE_S = 5.0
"""The kernel takes namespaces apart in the background."""


def footprint() -> dict[str, list[str]]:
    """Links, processes, namespaces in use, mounts: everything, as it is this machine's."""
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout
    wanted = ("ifindex", "ifname", "flags", "mtu", "master")
    links = [" ".join(f"{key}={link.get(key)}" for key in wanted) for link in json.loads(shown)]
    processes: list[str] = []
    spaces: set[str] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                spaces |= {os.readlink(entry / "ns" / kind) for kind in ("net", "mnt", "pid", "uts")}
                processes.append(entry.name + " " + (entry / "comm").read_text().strip())
            except OSError:
                continue
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {"links": links, "processes": sorted(processes), "namespaces": sorted(spaces), "mounts": mounts}


def reap() -> None:
    """We are pid 1 here: orphans are ours to bury."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def settle(before: dict[str, list[str]], what: str) -> float:
    """Seconds until the machine is as it was before; ends the script if that does not come."""
    start = time.monotonic()
    while (after := footprint()) != before:
        reap()
        if time.monotonic() - start > SETTLE_S:
            print(f"{what}:", file=sys.stderr)
            for kind, seen in after.items():
                for line in sorted(set(seen) ^ set(before[kind])):
                    print(f"{kind}: {line}", file=sys.stderr)
            sys.exit(1)
        time.sleep(0.005)
    return time.monotonic() - start
