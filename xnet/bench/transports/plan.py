"""What is measured: four sweeps, each point of them by every way, in rounds whose order a seed decides.

sizes    one receiver; datagrams of 64 to 65 000 bytes, as fast as they can be sent, and at a light load
loads    one receiver; from a tenth to twice the load at which hypervisor copy was found to be full in this run
guests   one to many receivers at once; all of them prompt, and most of them stopped
heaps    most receivers stopped for a while, with heaps from the default down; before, meanwhile, after are told apart

*Stopped* guests are paused, as one is that is saved, debugged, or kept from its CPU by others; what comes for them goes
on. An eighth of the receivers stays prompt and is counted apart: what the stopped ones do to them is the question. The
sender always runs. Ways are interleaved: all of them measure a point before the next point comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

DEFAULT_HEAP = ""
"""The lab file's own default."""
FULL = 0.0
"""A load that means as fast as the sender can."""
LIGHT = 0.1


@dataclass(slots=True, frozen=True)
class Point:
    """One measurement. `load` is a part of the `base` point's delivered frames a second, `FULL` none at all."""

    sweep: str
    way: str
    guests: int
    size: int
    load: float
    seconds: float
    round: int = 0
    stopped: bool = False
    heap: str = DEFAULT_HEAP
    base: str = ""

    @property
    def prompt(self) -> int:
        """Receivers that stay prompt: the first ones."""
        return max(1, self.guests // 8) if self.stopped else self.guests

    @property
    def key(self) -> str:
        """A name that no other point of a plan has."""
        pace = "stopped" if self.stopped else "prompt"
        where = f"{self.sweep}/{self.heap or 'default'}/{self.guests}/{self.size}/{self.load:g}/{pace}"
        return f"{where}/{self.way}/{self.round}"


@dataclass(slots=True, frozen=True)
class Options:
    """A whole experiment; two with the same `fingerprint` measure the same points."""

    ways: tuple[str, ...] = ("copy", "flip", "map", "flip+map")
    flavour: str = "xnbo"
    rounds: int = 3
    seconds: float = 0.6
    seed: int = 0
    sizes: tuple[int, ...] = (64, 256, 1448, 4000, 16000, 65000)
    load_sizes: tuple[int, ...] = (1448, 16000)
    loads: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
    guests: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    guests_size: int = 1448
    heaps: tuple[str, ...] = (DEFAULT_HEAP, "8M", "4M", "2M", "1M")
    heap_guests: int = 16
    heap_size: int = 16000
    heap_seconds: float = 4.0
    stopped_guests: tuple[int, ...] = (8, 16, 32, 64)
    stopped_seconds: float = 4.0

    def fingerprint(self) -> dict[str, Any]:
        """All of it, as JSON gives it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def most_guests(self) -> int:
        """Receivers of a lab with the default heap."""
        return max(*self.guests, *self.stopped_guests, self.heap_guests)


QUICK = Options(
    ways=("copy", "flip", "map"),
    rounds=1,
    seconds=0.3,
    sizes=(64, 1448, 65000),
    load_sizes=(1448,),
    loads=(0.25, 1.0, 2.0),
    guests=(1, 16),
    heaps=(DEFAULT_HEAP, "2M"),
    heap_seconds=2.0,
    stopped_guests=(16,),
    stopped_seconds=1.2,
)
"""Rough, but each question is asked once."""


def calibrations(options: Options) -> list[Point]:
    """What loads are parts of: copy's saturation for each size with one receiver; for many, that of the way which is
    full first, so that prompt guests get all of it whichever way it comes."""
    ways = options.ways if "copy" in options.ways else ("copy", *options.ways)
    found = [
        Point("calibration", "copy", 1, size, FULL, options.seconds)
        for size in sorted({*options.sizes, *options.load_sizes})
    ]
    many = [(guests, options.guests_size) for guests in options.guests]
    many += [(guests, options.heap_size) for guests in (*options.stopped_guests, options.heap_guests)]
    for guests, size in dict.fromkeys(many):
        found += [Point("calibration", way, guests, size, FULL, options.seconds) for way in ways]
    return list({point.key: point for point in found}.values())


def base_of(guests: int, size: int, way: str = "") -> str:
    """What a load is a part of: a way's saturation, or without a way that of the one which is full first."""
    return f"{way}/{guests}/{size}"


def points(options: Options) -> Iterator[list[Point]]:
    """Blocks of points in the order they are measured: a block is one setting, by every way; a round is all blocks.

    Blocks of the same heap stay together, so that no more labs than needed are up.
    """
    dice = random.Random(options.seed)
    for number in range(1, options.rounds + 1):
        settings = _settings(options)
        dice.shuffle(settings)
        settings.sort(key=lambda point: options.heaps.index(point.heap) if point.heap else -1)
        for setting in settings:
            ways = _ways(options, setting)
            dice.shuffle(ways)
            yield [_replaced(setting, way, number) for way in ways]


def _settings(options: Options) -> list[Point]:
    """All points once, without way and round."""
    seconds, found = options.seconds, []
    for size in options.sizes:
        base = base_of(1, size, "copy")
        found += [Point("sizes", "", 1, size, load, seconds, base=base) for load in (FULL, LIGHT)]
    for size in options.load_sizes:
        base = base_of(1, size, "copy")
        found += [Point("loads", "", 1, size, load, seconds, base=base) for load in options.loads]
    for guests in options.guests:
        size = options.guests_size
        base = base_of(guests, size)
        found.append(Point("guests", "", guests, size, 0.7, seconds, base=base))
        found.append(Point("guests", "", guests, size, FULL, seconds))
    many, size = options.heap_guests, options.heap_size
    for guests in options.stopped_guests:
        base = base_of(guests, size)
        found.append(Point("guests", "", guests, size, 0.7, options.stopped_seconds, stopped=True, base=base))
    for heap in options.heaps:
        base = base_of(many, size)
        found.append(Point("heaps", "", many, size, 0.7, options.heap_seconds, stopped=True, heap=heap, base=base))
    return found


def _ways(options: Options, setting: Point) -> list[str]:
    """The ways a setting is measured by. Stopped guests and scarce heaps are about how frames get into guests: a way
    that maps them out adds nothing."""
    return [way for way in options.ways if not (setting.stopped and "map" in way)]


def _replaced(setting: Point, way: str, number: int) -> Point:
    return Point(**{**asdict(setting), "way": way, "round": number})
