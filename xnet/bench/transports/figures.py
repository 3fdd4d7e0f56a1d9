"""The figures of an experiment, asked for by setting: medians of rounds with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from xnet.bench.report import Spread
from xnet.bench.transports.keep import Kept, Measured
from xnet.bench.transports.plan import DEFAULT_HEAP, FULL, Options, Point

PHASES = ("before", "meanwhile", "after")
BIN_S = 0.05
MIB_PAGES = 256


@dataclass(slots=True, frozen=True)
class Setting:
    """What a point was about, but for way and round."""

    sweep: str
    guests: int
    size: int
    load: float
    stopped: bool
    heap: str

    @classmethod
    def of(cls, point: Point) -> Setting:
        """A point's."""
        return cls(point.sweep, point.guests, point.size, point.load, point.stopped, point.heap)

    def text(self) -> str:
        """In words."""
        load = "as fast as it goes" if self.load == FULL else f"load {self.load:g}"
        heap = f", heap {self.heap}" if self.heap else ""
        stopped = ", most of them stopped" if self.stopped else ""
        return f"{self.sweep}: {self.size} bytes to {self.guests}{stopped}, {load}{heap}"


class Figures:
    """What was kept, ordered for who tells of it."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.options: Options = kept.options
        self.cells: dict[tuple[Setting, str], list[dict[str, Any]]] = {}
        self.measured: list[Measured] = kept.good()
        for each in self.measured:
            self.cells.setdefault((Setting.of(each.point), each.point.way), []).append(each.figures)
        seen = dict.fromkeys(each.point.way for each in self.measured)
        self.ways = [way for way in self.options.ways if way in seen]

    def settings(self, sweep: str, **where: object) -> list[Setting]:
        """Settings of a sweep that were measured, in the order of what varies in it."""
        found = dict.fromkeys(setting for setting, _ in self.cells if setting.sweep == sweep)
        wanted = [each for each in found if all(getattr(each, name) == value for name, value in where.items())]
        return sorted(
            wanted, key=lambda each: (each.size, each.guests, each.stopped, -heap_pages(each.heap), each.load)
        )

    def rounds(self, setting: Setting, way: str) -> list[dict[str, Any]]:
        """All rounds' figures of a setting by a way."""
        return self.cells.get((setting, way), [])

    def spread(self, setting: Setting, way: str, name: str) -> Spread | None:
        """One figure over the rounds."""
        return Spread.of(each[name] for each in self.rounds(setting, way) if each.get(name) is not None)

    def median(self, setting: Setting, way: str, name: str) -> float | None:
        """Its median."""
        spread = self.spread(setting, way, name)
        return None if spread is None else spread.median

    def total(self, setting: Setting, way: str, name: str) -> int:
        """A count, summed over the rounds."""
        return sum(each[name] for each in self.rounds(setting, way))

    def phases(self, setting: Setting, way: str) -> dict[str, Spread | None]:
        """Frames a second that the prompt receivers got before guests were stopped, meanwhile and after."""
        found: dict[str, list[float]] = {phase: [] for phase in PHASES}
        for each in self.rounds(setting, way):
            for phase, value in phases_of(each["prompt_bins"], self.options.heap_seconds).items():
                found[phase].append(value)
        return {phase: Spread.of(values) for phase, values in found.items()}

    def aggregated(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Every setting and way with the median, the least and the greatest of some figures, JSON-ready."""
        rows = []
        for (setting, way), rounds in self.cells.items():
            spreads = {name: self.spread(setting, way, name) for name in names}
            values = {name: [each.median, each.least, each.greatest] for name, each in spreads.items() if each}
            what = {name: getattr(setting, name) for name in Setting.__slots__}
            rows.append(
                {**what, "heap": setting.heap or "default", "way": way, "rounds": len(rounds), "figures": values}
            )
        return rows


def phases_of(bins: Iterable[Iterable[int]], seconds: float) -> dict[str, float]:
    """Frames a second in the first quarter, the middle half and the last quarter of so many seconds."""
    counts: dict[int, int] = {}
    for at, count in bins:
        counts[at] = count
    ends = [0, round(seconds / 4 / BIN_S), round(seconds * 3 / 4 / BIN_S), round(seconds / BIN_S)]
    parts = zip(PHASES, ends, ends[1:], strict=False)
    return {phase: sum(counts.get(at, 0) for at in range(a, b)) / ((b - a) * BIN_S) for phase, a, b in parts}


def heap_pages(heap: str) -> int:
    """A heap's size in pages, the default's being more than any that is scarce."""
    return 1 << 30 if heap == DEFAULT_HEAP else int(heap.removesuffix("M")) * MIB_PAGES


def heap_text(heap: str) -> str:
    """A heap in words."""
    return "default" if heap == DEFAULT_HEAP else f"{heap}iB"


def losses(measured: Iterable[Measured]) -> dict[str, int]:
    """Frames lost by cause over some points, the greatest first; what no counter explains is a cause too."""
    found: dict[str, int] = {}
    for each in measured:
        for cause, count in [*each.figures["lost"].items(), ("unexplained", each.figures["unexplained"])]:
            found[cause] = found.get(cause, 0) + count
    return dict(sorted(((cause, count) for cause, count in found.items() if count), key=lambda pair: -pair[1]))


def variation(figures: Figures, name: str) -> Iterator[tuple[float, Setting, str, Spread]]:
    """How far the rounds of each setting and way were apart in a figure: (greatest - least) / median, widest first."""
    found = []
    for setting, way in figures.cells:
        spread = figures.spread(setting, way, name)
        if spread is not None and spread.rounds > 1 and spread.median > 0:
            found.append(((spread.greatest - spread.least) / spread.median, setting, way, spread))
    yield from sorted(found, key=lambda each: -each[0])
