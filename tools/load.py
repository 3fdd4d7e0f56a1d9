"""Many guests that all ping each other for a long time: does the engine hold, forget nothing, grow not?

    sudo scripts/load [--guests 64] [--minutes 10] [--period 1000] [--json]

Every guest runs one fping to all others, half of them over a Linux bridge (xnbu), half over an etherstub (xnbo). Every
ten seconds the engine's resident memory is looked at. It is well when

- the memory of the second half of the time is what it was in the first (its slope is under 1 MiB a minute),
- no more frames are lost between the guests' kernels than a counter names, ours or the kernel's (that fping itself
  misses some, being late on a busy machine, is told, and counts for nothing),
- `Machine.check` finds nothing that is nobody's, before the load and after it, and nothing is left at the end.

Neighbours are entries of one table for all namespaces, 1024 at most by default, and all guests together need more: the
limit is raised while this runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from xnet import Machine
from xnet.engine.lab import BridgeSpec, DomainSpec, EtherstubSpec, Lab, VifSpec
from xnet.host.enter import guest_command

SAMPLE_S = 10
SLOPE_KIB = 1024
"""Of resident memory, a minute."""
RESULT = re.compile(r"^(\S+)\s*: xmt/rcv/%loss = (\d+)/(\d+)/", re.MULTILINE)
LIMITS = [Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{number}") for number in (1, 2, 3)]


def lab_of(count: int) -> Lab:
    """Guests g1, g2, ...: eth0 on the bridge, eth1 on the etherstub."""

    def vif(number: int, net: int) -> VifSpec:
        return VifSpec(
            mac=f"00:16:3e:00:{net:02x}:{number:02x}",
            ip=(f"10.{net}.0.{number}/24",),
            bridge=None if net else "xenbr0",
            link="stub0" if net else None,
        )

    return Lab(
        name="load",
        domains=tuple(DomainSpec(f"g{n}", vifs=(vif(n, 0), vif(n, 1))) for n in range(1, count + 1)),
        bridges=(BridgeSpec("xenbr0"),),
        etherstubs=(EtherstubSpec("stub0", 1500),),
    )


def resident_kib() -> int:
    """Of this process, which is the engine."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10


def slope(samples: list[tuple[float, int]]) -> float:
    """KiB a minute, over the second half."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0
    fit = statistics.linear_regression([at / 60 for at, _ in half], [kib for _, kib in half])
    return fit.slope


def named(found: dict[str, Any]) -> dict[str, int]:
    """Frames that did not get through, by the counter that says so."""
    lost: dict[str, int] = {}

    def walk(value: dict[str, Any]) -> None:
        for name, each in value.items():
            if isinstance(each, dict):
                walk(each)
            elif each and name in DROPS:
                lost[name] = lost.get(name, 0) + each

    walk(found["vifs"])
    walk(found["uplinks"])
    return lost


ECHOES = ("OutEchos", "InEchos", "OutEchoReps", "InEchoReps")
DROPS = {
    "rx_drops", "tx_errors", "rx_errors", "tx_oversize", "tx_malformed", "tx_no_room",
    "no_client", "oerrors", "txerrors", "write_busy", "write_device_down", "write_device_gone", "read_empty",
}  # fmt: skip


async def kernels(machine: Machine) -> dict[str, int]:
    """What the kernels of all domains counted: frames dropped at devices, echoes and replies sent and received."""
    total = dict.fromkeys(("drops", *ECHOES), 0)
    for where in ("dom0", *machine.guests):
        devices, _, protocols = (await run(machine, where, "cat", "/proc/net/dev", "/proc/net/snmp")).partition("Ip:")
        for line in devices.splitlines()[2:]:
            fields = line.replace(":", " ").split()
            total["drops"] += int(fields[12]) + int(fields[4])  # tx and rx
        names, numbers = (line.split()[1:] for line in protocols.splitlines() if line.startswith("Icmp:"))
        icmp = dict(zip(names, map(int, numbers), strict=True))
        for name in ECHOES:
            total[name] += icmp[name]
    return total


async def run(machine: Machine, where: str, *argv: str) -> str:
    """All a command says in a domain."""
    command, fds = guest_command(machine.namespace_fds(where), list(argv))
    process = await asyncio.create_subprocess_exec(
        *command, pass_fds=fds, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode()


async def flood(machine: Machine, number: int, count: int, rounds: int, period_ms: int) -> str:
    """One guest pings all others: what fping says of each."""
    others = [f"10.{number % 2}.0.{other}" for other in range(1, count + 1) if other != number]
    spread = max(1, period_ms // count)
    options = ("-q", "-c", str(rounds), "-p", str(period_ms), "-i", str(spread), "-t", "2000", "-B", "1")
    return await run(machine, f"g{number}", "fping", *options, *others)


async def load(count: int, minutes: float, period_ms: int, say: Any) -> dict[str, Any]:
    """Run it: the result, with ``problems``."""
    problems: list[str] = []
    async with Machine(lab_of(count)) as machine:
        await machine.wait_connected(60)
        say(f"{count} guests, {2 * count} vifs up, {resident_kib() >> 10} MiB")
        problems += [f"before: {text}" for text in (await machine.check())["problems"]]
        rounds = max(1, int(minutes * 60_000 / period_ms))
        await asyncio.gather(*(flood(machine, n, count, 2, 1000) for n in range(1, count + 1)))  # who is who
        before = named(machine.statistics()), await kernels(machine)
        tasks = [asyncio.create_task(flood(machine, n, count, rounds, period_ms)) for n in range(1, count + 1)]
        started, samples = time.monotonic(), [(0.0, resident_kib())]
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=SAMPLE_S)
            samples.append((time.monotonic() - started, resident_kib()))
            say(f"{samples[-1][0]:4.0f} s of {minutes * 60:.0f}, {samples[-1][1] >> 10} MiB")
        after = named(machine.statistics()), await kernels(machine)
        problems += [f"after: {text}" for text in (await machine.check())["problems"]]
        sent = missed = 0
        for task in tasks:
            found = RESULT.findall(task.result())
            if len(found) != count - 1:
                problems.append(f"fping: {task.result().strip()[-200:]}")
            sent += sum(int(each[1]) for each in found)
            missed += sum(int(each[1]) - int(each[2]) for each in found)
    problems += [f"left: {text}" for text in machine.leaks]
    drops = {name: after[0][name] - before[0].get(name, 0) for name in after[0]}
    counted = {name: after[1][name] - before[1][name] for name in after[1]}
    drops["kernel"] = counted["drops"]
    lost = counted["OutEchos"] - counted["InEchos"] + counted["OutEchoReps"] - counted["InEchoReps"]
    if lost > sum(drops.values()):
        problems.append(f"{lost} frames lost, {sum(drops.values())} accounted for")
    if slope(samples) > SLOPE_KIB:
        problems.append(f"resident memory grows by {slope(samples):.0f} KiB a minute")
    return {
        "guests": count,
        "minutes": minutes,
        "echoes": sent,
        "frames_lost": lost,
        "missed_by_fping": missed,
        "drops": {name: each for name, each in drops.items() if each},
        "resident_mib": [samples[len(samples) // 2][1] >> 10, samples[-1][1] >> 10],
        "slope_kib_per_minute": round(slope(samples), 1),
        "problems": problems,
    }


def main() -> None:
    """Run it, print what came of it; exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description="Many guests that all ping each other for a long time.")
    parser.add_argument("--guests", type=int, default=64, choices=range(2, 255), metavar="N", help="2 to 254 [64]")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long [10]")
    parser.add_argument("--period", type=int, default=1000, metavar="MS", help="between two echoes to a guest [1000]")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    wanted = parser.parse_args()
    before = [path.read_text() for path in LIMITS]
    try:
        for path, times in zip(LIMITS, (1, 2, 4), strict=True):
            path.write_text(str(max(int(path.read_text()), times * 2 * wanted.guests * wanted.guests)))
        result = asyncio.run(
            load(wanted.guests, wanted.minutes, wanted.period, lambda text: print(text, file=sys.stderr, flush=True))
        )
    finally:
        for path, text in zip(LIMITS, before, strict=True):
            path.write_text(text)
    if wanted.json:
        print(json.dumps(result, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in result.items() if name != "problems"))
        print("\n".join(result["problems"]) or "all is well")
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
