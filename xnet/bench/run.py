"""The bench itself: all setups of two guests up at once, the workloads in rounds that take turns between them; then
the setups of many pairs, one number of pairs at a time."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from xnet.bench.lab import CROSSBOW, lab_setup
from xnet.bench.metrics import FLAVOURS, WORKLOADS
from xnet.bench.pairs import SIZES, Streams, streams
from xnet.bench.programs import Program, either
from xnet.bench.report import Failure, Report, Sample
from xnet.bench.setup import Setup
from xnet.bench.setups import Relay, c_relay, kernel_setup, python_relay, relay_setup
from xnet.bench.workloads import Figures, Workload, workloads
from xnet.compiled import is_compiled
from xnet.errors import HostError

Turn = TypeVar("Turn")
Progress = Callable[[int, int, str], None]
"""Told before each step: steps done, steps in all, what comes now."""

TOOLS = {"iperf3": "iperf3", "ping": "iputils-ping", "ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
"""Commands the bench runs, and Debian's package of each."""


@dataclass(slots=True, frozen=True)
class Options:
    """What to measure: `rounds` of `workloads` of `seconds` each, over `flavours`.

    `relay` is ``auto`` (C where there is a compiler, Python else), ``c``, ``python`` or ``both`` (C is the base, Python
    a column beside it). `variants` are labs that differ from the default one, each a row of its own. `pairs` are the
    numbers of pairs of the workload of that name.
    """

    rounds: int = 5
    seconds: int = 3
    flavours: tuple[str, ...] = FLAVOURS
    workloads: tuple[str, ...] = WORKLOADS
    kernel: bool = True
    lab: bool = True
    relay: str = "auto"
    variants: tuple[str, ...] = ()
    pairs: tuple[int, ...] = SIZES


@dataclass(slots=True)
class Steps:
    """Where the bench is: steps begun, and in all."""

    show: Progress
    total: int
    done: int = 0

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say what comes now, and count it when it has gone."""
        self.show(self.done, self.total, text)
        self.done += 1
        yield


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
        ends = stack.enter_context(either("ends"))
        report = Report(environment(base.kind), asdict(options))
        progress(0, 0, "starting the setups")
        if set(options.workloads) & set(workloads(ends)):
            with ExitStack() as up:
                setups = {flavour: list(_setups(up, options, flavour, base)) for flavour in options.flavours}
                _rounds(options, setups, workloads(ends), report, progress)
        if "pairs" in options.workloads:
            _pairs(options, base, ends, report, progress)
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
        if variant in CROSSBOW and flavour != "xnbo":
            continue
        yield stack.enter_context(lab_setup(flavour, variant))


def _rounds(
    options: Options, setups: dict[str, list[Setup]], known: dict[str, Workload], report: Report, progress: Progress
) -> None:
    """Fill the report. Within a round a workload goes through all setups at once; every round starts with another."""
    wanted = [workload for workload in options.workloads if workload in known]
    steps = Steps(progress, options.rounds * len(wanted) * sum(map(len, setups.values())))
    for number in range(1, options.rounds + 1):
        for flavour, all_up in setups.items():
            for workload in wanted:
                for setup in in_turn(all_up, number):
                    with (
                        steps.step(f"round {number}/{options.rounds} {flavour} {workload} {setup.name}"),
                        told(report.failures, number, flavour, setup.name, workload),
                    ):
                        _keep(report, number, flavour, setup, known[workload](setup, options.seconds))


def _pairs(options: Options, base: Relay, ends: Program, report: Report, progress: Progress) -> None:
    """The same for many pairs: relay and lab of one size are up at a time, their streams waiting."""
    steps = Steps(progress, len(options.pairs) * len(options.flavours) * options.rounds * (2 if options.lab else 1))
    for pairs in options.pairs:
        for flavour in options.flavours:
            progress(steps.done, steps.total, f"pairs {pairs} {flavour} starting")
            with told(report.failures, 0, flavour, "all", f"{pairs} pairs"), ExitStack() as stack:
                held = list(_held(stack, options, flavour, base, ends, pairs))
                for number in range(1, options.rounds + 1):
                    for each in in_turn(held, number):
                        name = each.setup.name
                        with (
                            steps.step(f"pairs {pairs} {flavour} round {number}/{options.rounds} {name}"),
                            told(report.failures, number, flavour, name, f"{pairs} pairs"),
                        ):
                            _keep(report, number, flavour, each.setup, each.run())


def _held(
    stack: ExitStack, options: Options, flavour: str, base: Relay, ends: Program, pairs: int
) -> Iterator[Streams]:
    """Relay and lab with so many pairs, and a stream for each; the stack takes them down."""
    setups = [stack.enter_context(relay_setup(flavour, base, pairs=pairs))]
    if options.lab:
        setups.append(stack.enter_context(lab_setup(flavour, pairs=pairs)))
    for setup in setups:
        yield stack.enter_context(streams(setup, ends, pairs, options.rounds, max(1.0, options.seconds * 2 / 3)))


def in_turn(all_up: list[Turn], number: int) -> list[Turn]:
    """The setups in the order of round `number`."""
    turn = (number - 1) % len(all_up)
    return all_up[turn:] + all_up[:turn]


@contextmanager
def told(failures: list[Failure], number: int, flavour: str, setup: str, workload: str) -> Iterator[None]:
    """What fails inside is among the failures, and the rest goes on."""
    try:
        yield
    except HostError as error:
        failures.append(Failure(number, flavour, setup, workload, str(error)))


def _keep(report: Report, number: int, flavour: str, setup: Setup, figures: Figures) -> None:
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
