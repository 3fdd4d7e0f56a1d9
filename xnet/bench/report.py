"""The figures of a bench, as medians with their spread and as ratios of one round.

Absolute figures drift with the machine's mood; two figures of the same round drift together. So a comparison is
always the ratio of a round, and what is reported is the median of these ratios with the least and the greatest.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from xnet.bench.metrics import METRICS, Metric

BASE = "relay"
"""The setup that the others are divided by."""
SETUPS = ("kernel", "relay", "python", "lab")
"""Columns, in order; those without a figure are left out."""
TITLES = {"xnbu": "two hops: vif TAPs in a Linux bridge", "xnbo": "one hop: guest to guest inside the process"}


@dataclass(slots=True, frozen=True)
class Sample:
    """One figure of one setup in one round."""

    round: int
    flavour: str
    setup: str
    metric: str
    value: float


@dataclass(slots=True, frozen=True)
class Failure:
    """A workload that gave no figure, and the words it left."""

    round: int
    flavour: str
    setup: str
    workload: str
    words: str


@dataclass(slots=True, frozen=True)
class Spread:
    """Median, least and greatest of the rounds."""

    median: float
    least: float
    greatest: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of `values`, None if there are none."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known), len(known)) if known else None

    def text(self, digits: int) -> str:
        """``0.68 (0.61-0.72)``."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}-{self.greatest:.{digits}f})"


@dataclass(slots=True)
class Report:
    """Everything a bench found: `environment` and `options` say where and how."""

    environment: dict[str, str | int]
    options: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def figures(self, flavour: str, setup: str, metric: str) -> dict[int, float]:
        """The figures of one setup by round."""
        key = (flavour, setup, metric)
        return {each.round: each.value for each in self.samples if (each.flavour, each.setup, each.metric) == key}

    def spread(self, flavour: str, setup: str, metric: str) -> Spread | None:
        """The figures of one setup over the rounds."""
        return Spread.of(self.figures(flavour, setup, metric).values())

    def ratios(self, flavour: str, setup: str, metric: str) -> list[float]:
        """`setup` divided by the relay, one ratio for each round in which both have a figure, in order."""
        ours, base = self.figures(flavour, setup, metric), self.figures(flavour, BASE, metric)
        return [value / base[number] for number, value in sorted(ours.items()) if base.get(number)]

    def ratio(self, flavour: str, setup: str, metric: str) -> Spread | None:
        """The ratios of the rounds."""
        return Spread.of(self.ratios(flavour, setup, metric))

    def is_reached(self) -> bool:
        """No workload failed and no median ratio of the lab misses what was promised."""
        reached = (
            each.is_reached(ratio.median)
            for flavour in TITLES
            for each in METRICS
            if (ratio := self.ratio(flavour, "lab", each.name)) is not None
        )
        return not self.failures and all(answer is not False for answer in reached)

    def summary(self) -> list[dict[str, Any]]:
        """A row for each flavour and metric that has figures: spreads by setup, ratios to the relay by setup."""
        return [row for flavour in TITLES for each in METRICS if (row := self._row(flavour, each)) is not None]

    def _row(self, flavour: str, metric: Metric) -> dict[str, Any] | None:
        setups = dict.fromkeys((*SETUPS, *(each.setup for each in self.samples)))
        spreads = {setup: self.spread(flavour, setup, metric.name) for setup in setups}
        ratios = {setup: self.ratio(flavour, setup, metric.name) for setup in setups if setup != BASE}
        if not any(spreads.values()):
            return None
        lab = ratios["lab"]
        return {
            "flavour": flavour,
            "metric": metric.name,
            "title": metric.title,
            "higher_is_better": metric.higher,
            "setups": {setup: asdict(each) for setup, each in spreads.items() if each is not None},
            "ratios": {setup: asdict(each) for setup, each in ratios.items() if each is not None},
            "wanted": metric.wanted,
            "reached": None if lab is None else metric.is_reached(lab.median),
        }

    def as_data(self) -> dict[str, Any]:
        """The whole report: environment, options, summary, samples, failures."""
        return {
            "environment": self.environment,
            "options": self.options,
            "summary": self.summary(),
            "samples": [asdict(sample) for sample in self.samples],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def as_json(self) -> str:
        """`as_data` as a JSON object."""
        return json.dumps(self.as_data(), indent=2)

    def as_text(self) -> str:
        """The report for people: a table for each flavour, the failures, the environment."""
        lines: list[str] = []
        for flavour, title in TITLES.items():
            lines += self._table(flavour, title)
            lines += self._variants(flavour)
        lines += [
            f"failed: round {each.round} {each.flavour} {each.setup} {each.workload}: {each.words}"
            for each in self.failures
        ]
        lines.append("Figures are medians (least-greatest); ratios are per round, to the relay of the same round.")
        lines.append("  ".join(f"{name} {value}" for name, value in self.environment.items()))
        return "\n".join(lines)

    def _table(self, flavour: str, title: str) -> list[str]:
        shown = [
            setup for setup in SETUPS if any(each.flavour == flavour and each.setup == setup for each in self.samples)
        ]
        if not shown:
            return []
        compared = [setup for setup in shown if setup != BASE and BASE in shown]
        head = ["", *shown, *(f"{setup}/{BASE}" for setup in compared), "wanted"]
        rows = [head]
        for metric in METRICS:
            cells = [self.spread(flavour, setup, metric.name) for setup in shown]
            if not any(cells):
                continue
            ratios = [self.ratio(flavour, setup, metric.name) for setup in compared]
            rows.append(
                [
                    f"  {metric.title}",
                    *("-" if cell is None else cell.text(metric.digits) for cell in cells),
                    *("-" if ratio is None else ratio.text(2) for ratio in ratios),
                    _verdict(metric, self.ratio(flavour, "lab", metric.name)),
                ]
            )
        return [f"{flavour} ({title})", *aligned(rows), ""]

    def _variants(self, flavour: str) -> list[str]:
        """A row for the default lab and for each that goes another way: every figure, and its ratio to the relay."""
        seen = dict.fromkeys(each.setup for each in self.samples if each.flavour == flavour)
        others = [setup for setup in seen if setup not in SETUPS]
        if not others:
            return []
        metrics = [each for each in METRICS if any(self.spread(flavour, setup, each.name) for setup in others)]
        rows = [["", *(metric.title for metric in metrics)]]
        for setup in ("lab", *others):
            cells = [
                (self.spread(flavour, setup, each.name), self.ratio(flavour, setup, each.name)) for each in metrics
            ]
            texts = [
                f"{spread.median:.{metric.digits}f}" + (f" ({ratio.median:.2f}x)" if ratio else "") if spread else "-"
                for metric, (spread, ratio) in zip(metrics, cells, strict=True)
            ]
            rows.append([f"  {setup}", *texts])
        return [f"{flavour}, other ways (and their ratio to the relay)", *aligned(rows), ""]


def _verdict(metric: Metric, ratio: Spread | None) -> str:
    if metric.wanted is None:
        return ""
    wanted = f"{'>=' if metric.higher else '<='} {metric.wanted:.2f}"
    if ratio is None:
        return wanted
    return f"{wanted} {'reached' if metric.is_reached(ratio.median) else 'MISSED'}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Cells in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
