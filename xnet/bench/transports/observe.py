"""What is watched while traffic runs: counters before and after, the heap in between; and guests are stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xnet.bench.transports.control import Control
from xnet.bench.transports.labs import TransportLab

SAMPLE_S = 0.05
Numbers = dict[str, int]

WORK = (
    *("copies", "bytes_copied", "maps", "unmaps", "frames_given", "frames_received"),
    *("frames_increased", "frames_decreased", "hypercalls", "events_sent", "upcalls"),
)
"""What the hypervisor counts for each domain, of that which a transport is about."""
NETBACK_TRAFFIC = ("packets", "bytes", "slots", "notified", "suppressed")
"""Counters whose names end so say what went well."""
NOT_LOST = {"rx_defer", "rx_no_pages", "rx_stalled", "rx_drops", "tx_errors", "rx_errors"}
"""Waiting is no loss; the last three are sums of causes that have names of their own."""
PATIENCE = ("read_", "written_")


def engine_cpu_s(pid: int) -> float:
    """What a process has spent so far, user and system, of all its threads: its own CPU clock (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def engine_faults(pid: int) -> int:
    """Page faults so far that needed no disk (proc(5), stat, minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def snapshot(lab: TransportLab, guests: int) -> dict[str, Any]:
    """Every counter that a frame can turn up in, by place."""
    devices = {agent.guest: net_devices(agent.read("/proc/net/dev")) for agent in lab.agents(guests)}
    udp = {agent.guest: udp_counters(agent.read("/proc/net/snmp")) for agent in lab.receivers[:guests]}
    return {
        "statistics": lab.control.ask("statistics"),
        "console": lab.control.ask("dmesg"),
        "devices": devices,
        "udp": udp,
        "cpu_s": engine_cpu_s(lab.engine),
        "faults": engine_faults(lab.engine),
    }


def net_devices(lines: Iterable[str]) -> dict[str, Numbers]:
    """Drops of each interface out of /proc/net/dev: `rx_dropped`, `tx_dropped`."""
    found = {}
    for line in lines:
        name, colon, rest = line.partition(":")
        if colon:
            fields = [int(word) for word in rest.split()]
            found[name.strip()] = {"rx_dropped": fields[3], "tx_dropped": fields[11]}
    return found


def udp_counters(lines: Iterable[str]) -> Numbers:
    """The UDP counters out of /proc/net/snmp, by their names there."""
    names, numbers = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    return dict(zip(names, map(int, numbers), strict=True))


def work(before: dict[str, Any], after: dict[str, Any]) -> Numbers:
    """What was done for all domains in between: copies, maps, pages that changed hands, hypercalls; and the machine's
    own price of it, the system calls that remapped pages and the pages they were about."""
    old, new = before["statistics"]["windows"], after["statistics"]["windows"]
    olds, news = before["statistics"]["domains"], after["statistics"]["domains"]
    remaps = {"remaps": new["remaps"] - old["remaps"], "pages_remapped": new["pages"] - old["pages"]}
    return remaps | {name: sum(news[each][name] - olds[each][name] for each in news) for name in WORK}


def losses(before: dict[str, Any], after: dict[str, Any]) -> Numbers:
    """Frames that went missing in between, by place and the name of the counter there; only what is not zero."""
    found: Numbers = {}

    def add(where: str, count: int) -> None:
        if count:
            found[where] = found.get(where, 0) + count

    for guest, devices in after["devices"].items():
        for device, drops in devices.items():
            old = before["devices"][guest].get(device, {})
            where = "dom0's TAP" if guest == "dom0" else "the guest's TAP"
            for name, count in drops.items():
                add(f"{where} {name}", count - old.get(name, 0))
    for guest, counters in after["udp"].items():
        old = before["udp"][guest]
        full = counters["RcvbufErrors"] - old["RcvbufErrors"]
        add("UDP RcvbufErrors", full)
        add("UDP InErrors", counters["InErrors"] - old["InErrors"] - full)
    for vif, places in after["statistics"]["vifs"].items():
        for place, counters in places.items():
            old = before["statistics"]["vifs"].get(vif, {}).get(place, {})
            for name in filter(_is_loss, counters):
                add(f"{place} {name}", counters[name] - old.get(name, 0))
    return found


def _is_loss(name: str) -> bool:
    return not (
        name in NOT_LOST
        or name.endswith(NETBACK_TRAFFIC)
        or name.startswith(PATIENCE)
        or not name.startswith(("rx_", "tx_", "write_", "drop", "oerr", "ierr"))
    )


def netback(before: dict[str, Any], after: dict[str, Any], name: str) -> int:
    """How much a counter of all netbacks grew."""
    olds, news = before["statistics"]["vifs"], after["statistics"]["vifs"]
    return sum(vif["netback"].get(name, 0) - olds[key]["netback"].get(name, 0) for key, vif in news.items())


def new_lines(before: list[str], now: list[str]) -> list[str]:
    """What a console ring has now after what it had before, the oldest of which it may have dropped."""
    dropped = 0
    while before[dropped:] != now[: len(before) - dropped]:
        dropped += 1
    return now[len(before) - dropped :]


@contextmanager
def heap_sampled(lab: TransportLab) -> Iterator[list[tuple[float, int]]]:
    """The pages the heap can lend, 20 times a second while the block runs: (monotonic time, pages)."""
    samples: list[tuple[float, int]] = []
    stop = threading.Event()

    def sample() -> None:
        with Control(lab.name) as control:
            while True:
                samples.append((time.monotonic(), control.ask("heap")["free"]))
                if stop.wait(SAMPLE_S):
                    return

    with _beside(sample, stop):
        yield samples


@contextmanager
def stopped(lab: TransportLab, names: Sequence[str], begin_s: float, end_s: float) -> Iterator[None]:
    """Between these two monotonic times the guests are paused; never after the block."""
    stop = threading.Event()

    def schedule() -> None:
        stop.wait(begin_s - time.monotonic())
        with Control(lab.name) as control:
            for name in names:
                control.ask("pause", domain=name)
            stop.wait(end_s - time.monotonic())
            for name in names:
                control.ask("unpause", domain=name)

    with _beside(schedule, stop):
        yield


@contextmanager
def _beside(do: Any, stop: threading.Event) -> Iterator[None]:
    """Something in a thread of its own until the block is left; what it raised is raised then."""
    errors: list[Exception] = []

    def guarded() -> None:
        try:
            do()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
