"""``xnet bench compare``: xnet beside what a user would take instead, on the same two namespaces in one run.

Every system that is installed comes up (`rivals`) and stays; round by round each workload goes through all of them,
and every round starts with another. What counts is the ratio xnet/other of each round; CPU time is that of all
processes that move the frames, kernel threads and softirqs apart. How the systems' links differ (MTU, checksum and
segmentation offload) is read from guest a's ``eth0``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from xnet.bench.lab import lab_setup
from xnet.bench.metrics import FLAVOURS, METRICS, QUICK, Metric
from xnet.bench.programs import either
from xnet.bench.report import Failure, Sample, Spread, aligned
from xnet.bench.rivals import RIVALS
from xnet.bench.run import Progress, Steps, check_machine, environment, in_turn, told
from xnet.bench.setup import Setup, output, running
from xnet.bench.workloads import workloads
from xnet.errors import HostError

SHOWN = tuple(each for each in METRICS if each.workload in QUICK and each.name != "rr_p99_us")
WANTED_METRIC, WANTED_OF, WANTED = "tcp_gbps", "vde", 8.0
"""What was promised: TCP in bulk at least so many times what a VDE switch does."""
OFFLOADS = {"tx-checksumming": "checksum", "tcp-segmentation-offload": "TSO"}


@dataclass(slots=True)
class Comparison:
    """What a comparison found. `absent` says why a system is not there, `links` what guest a's link is like."""

    environment: dict[str, str | int]
    rounds: int
    seconds: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def figures(self, system: str, metric: str) -> dict[int, float]:
        """The figures of one system by round."""
        return {each.round: each.value for each in self.samples if (each.setup, each.metric) == (system, metric)}

    def ratio(self, flavour: str, rival: str, metric: str) -> Spread | None:
        """xnet with this netback divided by the rival, over the rounds in which both have a figure."""
        ours, theirs = self.figures(flavour, metric), self.figures(rival, metric)
        return Spread.of(value / theirs[number] for number, value in sorted(ours.items()) if theirs.get(number))

    def verdicts(self) -> dict[str, bool]:
        """For each netback, whether what was promised is reached; without a ratio there is none."""
        ratios = {flavour: self.ratio(flavour, WANTED_OF, WANTED_METRIC) for flavour in FLAVOURS}
        return {flavour: ratio.median >= WANTED for flavour, ratio in ratios.items() if ratio is not None}

    def is_reached(self) -> bool:
        """No workload failed, and what was promised is reached."""
        return not self.failures and all(self.verdicts().values())

    def as_json(self) -> str:
        """All of it as a JSON object."""
        rivals = [each.name for each in RIVALS]
        data: dict[str, Any] = {
            "environment": self.environment,
            "options": {"rounds": self.rounds, "seconds": self.seconds},
            "systems": {
                name: {
                    "note": note,
                    "link": self.links.get(name),
                    "absent": self.absent.get(name),
                    "figures": _spreads((each, self._spread(name, each.name)) for each in SHOWN),
                }
                for name, note in _notes().items()
            },
            "ratios": {
                flavour: {
                    rival: _spreads((each, self.ratio(flavour, rival, each.name)) for each in SHOWN) for rival in rivals
                }
                for flavour in FLAVOURS
            },
            "wanted": {"metric": WANTED_METRIC, "of": WANTED_OF, "at_least": WANTED, "reached": self.verdicts()},
            "samples": [asdict(sample) for sample in self.samples],
            "failures": [asdict(failure) for failure in self.failures],
        }
        return json.dumps(data, indent=2)

    def as_text(self) -> str:
        """All of it for people."""
        head = ["", *(each.title for each in SHOWN)]
        rows = [head]
        for name in _notes():
            spreads = [(each, self._spread(name, each.name)) for each in SHOWN]
            if any(spread for _, spread in spreads):
                rows.append([f"  {name}", *("-" if it is None else it.text(each.digits) for each, it in spreads)])
        lines = ["figures: medians (least-greatest)", *aligned(rows), ""]
        for flavour in FLAVOURS:
            lines += self._ratios(flavour, head)
        lines += [f"{name}: {words}" for name, words in self.absent.items()]
        lines += [f"failed: round {each.round} {each.setup} {each.workload}: {each.words}" for each in self.failures]
        for flavour, reached in self.verdicts().items():
            ratio = self.ratio(flavour, WANTED_OF, WANTED_METRIC)
            assert ratio is not None
            word = "reached" if reached else "MISSED"
            lines.append(f"TCP bulk, {flavour}: {ratio.text(1)} times a VDE switch, wanted >= {WANTED:g}: {word}")
        lines += ["", *(f"{name}: {note}; {self.links.get(name, 'not up')}" for name, note in _notes().items())]
        lines.append("  ".join(f"{name} {value}" for name, value in self.environment.items()))
        return "\n".join(lines)

    def _ratios(self, flavour: str, head: list[str]) -> list[str]:
        rows = [head]
        for rival in (each.name for each in RIVALS):
            ratios = [self.ratio(flavour, rival, each.name) for each in SHOWN]
            if any(ratios):
                rows.append([f"  {rival}", *("-" if ratio is None else ratio.text(2) for ratio in ratios)])
        return [f"xnet {flavour} divided by each", *aligned(rows), ""] if len(rows) > 1 else []

    def _spread(self, system: str, metric: str) -> Spread | None:
        return Spread.of(self.figures(system, metric).values())


def run_compare(rounds: int, seconds: int, progress: Progress) -> Comparison:
    """Measure xnet with both netbacks and every rival that is installed; one that does not come up is absent."""
    check_machine()
    with ExitStack() as stack:
        traffic = workloads(stack.enter_context(either("ends")))
        result = Comparison(environment("none"), rounds, seconds)
        del result.environment["relay"]
        progress(0, 0, "starting the systems")
        systems = _systems(stack, result)
        steps = Steps(progress, rounds * len(QUICK) * len(systems))
        for number in range(1, rounds + 1):
            for workload in QUICK:
                for name, setup in in_turn(list(systems.items()), number):
                    with (
                        steps.step(f"round {number}/{rounds} {workload} {name}"),
                        told(result.failures, number, "", name, workload),
                    ):
                        for metric, value in traffic[workload](setup, seconds).items():
                            result.samples.append(Sample(number, "", name, metric, value))
    return result


def _systems(stack: ExitStack, result: Comparison) -> dict[str, Setup]:
    """All that can be compared, up; the stack takes it down."""
    systems = {flavour: stack.enter_context(lab_setup(flavour)) for flavour in FLAVOURS}
    for rival in RIVALS:
        missing = rival.missing()
        if missing is not None:
            result.absent[rival.name] = missing
            continue
        try:
            systems[rival.name] = stack.enter_context(rival.setup())
        except HostError as error:
            result.absent[rival.name] = f"did not come up: {error}"
    for name, setup in systems.items():
        result.links[name] = link_of(
            _said(setup, ["ip", "link", "show", "eth0"]), _said(setup, ["ethtool", "-k", "eth0"])
        )
    for rival in RIVALS:
        if rival.name in systems:
            result.links[rival.name] += f"; {rival.version()}"
    return systems


def link_of(shown: str, features: str) -> str:
    """What ``ip link show`` and ``ethtool -k`` say of a link: ``MTU 1500, checksum offload on, TSO on``."""
    mtu = re.search(r" mtu (\d+)", shown)
    words = [f"MTU {mtu[1] if mtu else 'unknown'}"]
    for feature, name in OFFLOADS.items():
        state = re.search(rf"^{feature}: (\w+)", features, re.MULTILINE)
        words.append(f"{name} offload {state[1] if state else 'unknown'}")
    return ", ".join(words)


def _said(setup: Setup, argv: list[str]) -> str:
    with running(setup, "a", argv) as tool:
        return output(tool, 10.0)


def _notes() -> dict[str, str]:
    """Every system in the order of the tables, with what is to be known about it."""
    ours = {
        "xnbu": "xnet, vif TAPs in a Linux bridge; one process",
        "xnbo": "xnet, guest to guest on an etherstub; one process",
    }
    return ours | {rival.name: rival.note for rival in RIVALS}


def _spreads(known: Iterable[tuple[Metric, Spread | None]]) -> dict[str, Any]:
    return {metric.name: asdict(spread) for metric, spread in known if spread is not None}
