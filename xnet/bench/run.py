"""The bench itself: all setups up at once, the workloads in rounds that take turns between them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from xnet.bench.lab import lab_setup
from xnet.bench.metrics import FLAVOURS, WORKLOADS
from xnet.bench.report import Failure, Report, Sample
from xnet.bench.setup import Setup
from xnet.bench.setups import Relay, c_relay, kernel_setup, python_relay, relay_setup
from xnet.bench.workloads import RUN
from xnet.compiled import is_compiled
from xnet.errors import HostError

Progress = Callable[[int, int, str], None]
"""Told before each step: steps done, steps in all, what comes now."""

TOOLS = {"iperf3": "iperf3", "ping": "iputils-ping", "ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
"""Commands the bench runs, and Debian's package of each."""


@dataclass(slots=True, frozen=True)
class Options:
    """What to measure: `rounds` of `workloads` of `seconds` each, over `flavours`.

    `relay` is ``auto`` (C where there is a compiler, Python else), ``c``, ``python`` or ``both`` (C is the base, Python
    a column beside it). `variants` are labs that differ from the default one, each a row of its own.
    """

    rounds: int = 5
    seconds: int = 3
    flavours: tuple[str, ...] = FLAVOURS
    workloads: tuple[str, ...] = WORKLOADS
    kernel: bool = True
    lab: bool = True
    relay: str = "auto"
    variants: tuple[str, ...] = ()


def run_bench(options: Options, progress: Progress) -> Report:
    """Run every workload in every setup, round by round; a workload that fails is in the report, and the rest goes on.

    Raises `HostError` if the machine lacks something or a setup does not come up; nothing is left behind then, either.
    """
    check_machine()
    with ExitStack() as stack:
        compiled = None if options.relay == "python" else stack.enter_context(c_relay())
        if compiled is None and options.relay in ("c", "both"):
            raise HostError("bench: no C compiler for the relay: apt install gcc, or --relay python")
        base = compiled or python_relay()
        report = Report(environment(base.kind), asdict(options))
        progress(0, 0, "starting the setups")
        setups = {flavour: list(_setups(stack, options, flavour, base)) for flavour in options.flavours}
        _rounds(options, setups, report, progress)
    return report


def _setups(stack: ExitStack, options: Options, flavour: str, base: Relay) -> Iterator[Setup]:
    """The setups of one flavour, up; the stack takes them down."""
    if options.kernel:
        yield stack.enter_context(kernel_setup())
    yield stack.enter_context(relay_setup(flavour, base))
    if options.relay == "both":
        yield stack.enter_context(relay_setup(flavour, python_relay(), "python"))
    if options.lab:
        yield stack.enter_context(lab_setup(flavour))
    for variant in options.variants:
        yield stack.enter_context(lab_setup(flavour, variant))


def _rounds(options: Options, setups: dict[str, list[Setup]], report: Report, progress: Progress) -> None:
    """Fill the report. Within a round a workload goes through all setups at once; every round starts with another."""
    total = options.rounds * len(options.workloads) * sum(map(len, setups.values()))
    done = 0
    for number in range(1, options.rounds + 1):
        for flavour, known in setups.items():
            turn = (number - 1) % len(known)
            for workload in options.workloads:
                for setup in known[turn:] + known[:turn]:
                    progress(done, total, f"round {number}/{options.rounds} {flavour} {workload} {setup.name}")
                    _measure(report, number, flavour, workload, setup, options.seconds)
                    done += 1


def _measure(report: Report, number: int, flavour: str, workload: str, setup: Setup, seconds: int) -> None:
    try:
        figures = RUN[workload](setup, seconds)
    except HostError as error:
        report.failures.append(Failure(number, flavour, setup.name, workload, str(error)))
        return
    report.samples += [Sample(number, flavour, setup.name, name, value) for name, value in figures.items()]


def check_machine() -> None:
    """Raise `HostError` naming the first thing this machine lacks, and the fix."""
    if os.geteuid() != 0:
        raise HostError("bench: needs root for namespaces and TAPs: run it with sudo")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise HostError(f"bench: {tool} is missing: apt install {package}")


def environment(relay: str) -> dict[str, str | int]:
    """What the figures depend on, as far as it has a name; `load` is what else ran in the minute before."""
    return {
        "relay": relay,
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "uvloop": _version("uvloop"),
        "xnet": _version("xnet"),
        "compiled": "yes" if is_compiled() else "no",
        "iperf3": subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=False).stdout.split()[
            1
        ],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
