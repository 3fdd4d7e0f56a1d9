"""``xnet bench --check``: this run's ratios beside the ones that were kept, and what of the difference is not noise.

Kept is one run: every round's ratio lab/relay of every figure, and the machine it was on (`kept_of`; ``--keep FILE``
writes it, `FIGURES` comes with the package). A figure has regressed, or improved, if both hold:

- its median ratio is more than `MARGIN` worse, or better, than the kept median;
- the rounds of the two runs could hardly have fallen that far apart by chance: the exact two-sided Mann-Whitney test
  of the kept rounds against these says p <= `CHANCE`. It asks only which ratio is greater, so one wild round does not
  decide, and nothing is assumed of how ratios are spread. With five rounds each it takes five that are all worse than
  the kept five (p = 0.008). Too few rounds to reach `CHANCE` at all are told so, and prove nothing.

Some 25 figures are judged in one run, so even an unchanged xnet is called changed in about one run of ten by chance
alone; and rounds of one run share the machine's mood, which the test cannot see. A regression that matters is there
again in a second run. Ratios carry over to another machine roughly, not within `MARGIN`: the check goes on and says
what differs.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xnet.bench.metrics import FLAVOURS, METRICS, Metric
from xnet.bench.report import Report, Spread, aligned
from xnet.errors import XnetError

FIGURES = Path(__file__).with_name("figures.json")
"""The last figures that were kept with these sources."""
MARGIN, CHANCE = 0.05, 0.01
MACHINE = ("relay", "kernel", "cpu", "cores", "python", "uvloop", "compiled", "iperf3")
"""What of the environment makes it another machine."""
Ratios = dict[str, dict[str, list[float]]]


@dataclass(slots=True, frozen=True)
class Kept:
    """Ratios lab/relay of one run, by flavour, metric and round, and where they were measured."""

    environment: dict[str, Any]
    options: dict[str, Any]
    ratios: Ratios

    def as_json(self) -> str:
        """What ``--keep`` writes."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(slots=True, frozen=True)
class Verdict:
    """One figure then and now: `change` of the median ratio, how likely chance is, and a word for it."""

    flavour: str
    metric: str
    title: str
    kept: Spread
    now: Spread
    change: float
    chance: float
    word: str


@dataclass(slots=True, frozen=True)
class Check:
    """All figures that were measured then and now; `differences` are those of the machines and of what was run."""

    verdicts: list[Verdict]
    differences: list[str]

    def has_regressed(self) -> bool:
        """Whether any figure is worse beyond noise."""
        return any(each.word == "REGRESSED" for each in self.verdicts)

    def as_text(self) -> str:
        """A table for people, and what else differs."""
        rows = [["lab/relay", "kept", "now", "change", "chance", ""]]
        rows += [
            [
                f"  {each.flavour} {each.title}",
                each.kept.text(2),
                each.now.text(2),
                f"{each.change * 100:+.0f} %",
                f"{each.chance:.3f}",
                each.word,
            ]
            for each in self.verdicts
        ]
        told = [f"not the same as when these were kept: {each}" for each in self.differences]
        count = sum(each.word == "REGRESSED" for each in self.verdicts)
        return "\n".join([*aligned(rows), *told, f"{count} of {len(self.verdicts)} figures regressed"])


def kept_of(report: Report) -> Kept:
    """What is to be kept of a run."""
    ratios = {
        flavour: {each.name: known for each in METRICS if (known := report.ratios(flavour, "lab", each.name))}
        for flavour in FLAVOURS
    }
    return Kept(report.environment, report.options, {flavour: known for flavour, known in ratios.items() if known})


def load(path: Path) -> Kept:
    """The figures kept in a file; `XnetError` with the fix if there are none, or not such."""
    try:
        data = json.loads(path.read_text())
        ratios = {
            str(flavour): {str(name): [float(each) for each in rounds] for name, rounds in known.items()}
            for flavour, known in data["ratios"].items()
        }
        return Kept(dict(data["environment"]), dict(data["options"]), ratios)
    except OSError as error:
        reason = f"{error.strerror}: xnet bench --keep {path} writes it"
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = "no figures of a bench: write them with xnet bench --keep FILE"
    raise XnetError(f"bench: {path}: {reason}")


def check(kept: Kept, report: Report) -> Check:
    """Judge a run by the one that was kept; figures that only one of them has are left out."""
    now = kept_of(report)
    verdicts = [
        judge(flavour, metric, then, rounds)
        for flavour, known in now.ratios.items()
        for metric in METRICS
        if (rounds := known.get(metric.name)) and (then := kept.ratios.get(flavour, {}).get(metric.name))
    ]
    if not verdicts:
        raise XnetError("bench: nothing to check: the kept figures have none that was measured now")
    pairs = [(name, kept.environment.get(name), now.environment.get(name)) for name in MACHINE]
    pairs.append(("seconds", kept.options.get("seconds"), now.options.get("seconds")))
    return Check(verdicts, [f"{name} {ours}, then {theirs}" for name, theirs, ours in pairs if theirs != ours])


def judge(flavour: str, metric: Metric, kept: Sequence[float], now: Sequence[float]) -> Verdict:
    """One figure, by its ratios of all rounds then and now."""
    change = statistics.median(now) / statistics.median(kept) - 1
    chance = mann_whitney(kept, now)
    if 2 / math.comb(len(kept) + len(now), len(now)) > CHANCE:
        word = "too few rounds"
    elif chance > CHANCE or abs(change) <= MARGIN:
        word = "same"
    else:
        word = "improved" if (change > 0) is metric.higher else "REGRESSED"
    before, after = Spread.of(kept), Spread.of(now)
    assert before is not None
    assert after is not None
    return Verdict(flavour, metric.name, metric.title, before, after, change, chance, word)


def mann_whitney(left: Sequence[float], right: Sequence[float]) -> float:
    """The chance that two samples of one distribution lie at least as far apart as these: exact, two-sided.

    How far is U, the number of pairs in which left is greater, from half of all pairs. The distribution of U is
    counted: of all ways to mix the two samples, those in which some of `right` precede so many of `left`.
    """
    pairs = len(left) * len(right)
    greater = sum((a > b) + (a == b) / 2 for a in left for b in right)
    ways = [[1] + [0] * pairs] + [[0] * (pairs + 1) for _ in left]  # [how many of left placed][U so far]
    for rank in range(len(left) + len(right)):
        for placed in range(min(rank, len(left) - 1), -1, -1):
            before = rank - placed  # of right, if this place goes to left
            if before > len(right):
                continue
            for so_far in range(pairs - before, -1, -1):
                ways[placed + 1][so_far + before] += ways[placed][so_far]
    counts = ways[len(left)]
    extreme = sum(count for u, count in enumerate(counts) if abs(u - pairs / 2) >= abs(greater - pairs / 2))
    return extreme / sum(counts)
