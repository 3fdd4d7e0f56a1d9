"""What is kept of an experiment: a line of JSON for each finished point, so that a run can be broken off and go on.

::

    points.jsonl    {"plan": {...}, "environment": {...}}       the first line; again wherever the run was resumed
                    {"point": {...}, "figures": {...}}          every other one
    data.csv        the same points as a table, without lists
    data.json       plan, environments, and medians with their spread, setting by setting
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from xnet.bench.transports.plan import Options, Point
from xnet.errors import HostError

POINTS = "points.jsonl"
FORMAT = 2
"""Raised when figures change their meaning: what was kept before is of no use then."""


@dataclass(slots=True, frozen=True)
class Measured:
    """A point and its figures; `error` is why there are none."""

    point: Point
    figures: dict[str, Any]
    error: str = ""


@dataclass(slots=True)
class Kept:
    """All that is known of an experiment."""

    options: Options
    environments: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)

    def good(self) -> list[Measured]:
        """Points that have figures, calibrations left out."""
        return [each for each in self.measured.values() if not each.error and each.point.sweep != "calibration"]

    def saturation(self, base: str) -> float:
        """Delivered frames a second that a load is a part of. HostError when its calibration failed."""
        way, guests, size = base.split("/")
        found = [
            each.figures["fps"]
            for each in self.measured.values()
            if each.point.sweep == "calibration" and not each.error and each.figures["fps"]
            if (each.point.guests, each.point.size) == (int(guests), int(size)) and way in ("", each.point.way)
        ]
        if not found:
            raise HostError(f"bench: nothing is known of the load {base}")
        return float(min(found))


def load(directory: Path) -> Kept:
    """What an earlier run left. HostError when there is nothing, or it is not ours; half a line at the end is none."""
    path = directory / POINTS
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise HostError(f"{path}: {(error.strerror or str(error)).lower()}", errno=error.errno or 0) from None
    kept: Kept | None = None
    for number, line in enumerate(lines):
        try:
            said = json.loads(line)
        except ValueError:
            if number == len(lines) - 1:
                break
            raise HostError(f"{path}:{number + 1}: not JSON: measure anew with --fresh") from None
        if "plan" in said:
            if said.get("format") != FORMAT:
                raise HostError(f"{path}: kept by another version of xnet: measure anew with --fresh")
            kept = kept or Kept(options_of(said["plan"]))
            kept.environments.append(said["environment"])
        elif kept is not None:
            point = Point(**said["point"])
            kept.measured[point.key] = Measured(point, said.get("figures", {}), said.get("error", ""))
    if kept is None:
        raise HostError(f"{path}: no plan in it: measure anew with --fresh")
    return kept


def options_of(plan: dict[str, Any]) -> Options:
    """A plan as it was kept."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plan.items()}
    return Options(**values)


class Store:
    """Where points are written as they are finished; a context manager."""

    def __init__(self, directory: Path, kept: Kept, file: IO[str]) -> None:
        self.directory = directory
        self.kept = kept
        self.file = file

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def begin(self, environment: dict[str, Any]) -> None:
        """Say where what follows was measured."""
        self.kept.environments.append(environment)
        self._write({"format": FORMAT, "plan": self.kept.options.fingerprint(), "environment": environment})

    def add(self, measured: Measured) -> None:
        """Keep a point. One that failed has its error, and is measured again when the run is resumed."""
        self.kept.measured[measured.point.key] = measured
        said: dict[str, Any] = {"point": asdict(measured.point)}
        self._write(said | ({"error": measured.error} if measured.error else {"figures": measured.figures}))

    def has(self, point: Point) -> bool:
        """Whether a point is finished."""
        found = self.kept.measured.get(point.key)
        return found is not None and not found.error

    def _write(self, said: dict[str, Any]) -> None:
        self.file.write(json.dumps(rounded(said), separators=(",", ":")) + "\n")
        self.file.flush()


def open_store(directory: Path, options: Options, *, seeded: bool, fresh: bool) -> Store:
    """Begin an experiment in a directory, or go on with the one that is there.

    HostError when that one is another: its plan differs, or its seed when this one's was chosen (`seeded`).
    """
    path = directory / POINTS
    kept = Kept(options)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and not fresh:
            kept = load(directory)
            wanted = options if seeded else replace(options, seed=kept.options.seed)
            differ = [name for name, value in wanted.fingerprint().items() if kept.options.fingerprint()[name] != value]
            if differ:
                what = ", ".join(differ)
                raise HostError(
                    f"{path}: kept of another plan ({what}): --fresh replaces it, --out DIR leaves it alone"
                )
            _cut_half_line(path)
        return Store(directory, kept, path.open("w" if fresh else "a"))
    except OSError as error:
        raise HostError(f"{path}: {(error.strerror or str(error)).lower()}", errno=error.errno or 0) from None


def _cut_half_line(path: Path) -> None:
    """Remove what a killed run left behind its last newline."""
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)


def rounded(value: Any) -> Any:
    """Floats to six significant digits: no clock here knows more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def as_csv(measured: Iterable[Measured]) -> str:
    """Points as a table: the point, its figures, loss by cause as ``name=count`` words, the first console line."""
    rows = [_row(each) for each in measured]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(measured: Measured) -> dict[str, Any]:
    point = {**asdict(measured.point), "heap": measured.point.heap or "default"}
    figures = {name: value for name, value in measured.figures.items() if not isinstance(value, list | dict)}
    lost = "; ".join(f"{name}={count}" for name, count in measured.figures["lost"].items())
    first = measured.figures["console_lines"][:1]
    return {**point, **rounded(figures), "lost": lost, "console_line": "".join(first)}
