"""The experiment: labs up, points in their order, each kept as soon as it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from xnet.bench.transports.agent import built
from xnet.bench.transports.keep import Measured, Store
from xnet.bench.transports.labs import TransportLab, lab_name, transport_lab
from xnet.bench.transports.plan import DEFAULT_HEAP, FULL, Options, Point, calibrations, points
from xnet.bench.transports.traffic import measure
from xnet.errors import HostError

Progress = Callable[[int, int, str], None]


class Labs:
    """Labs that are up, started when they are first needed; those of another heap go before. A context manager."""

    def __init__(self, options: Options, program: int) -> None:
        self.options = options
        self.program = program
        self.always = ExitStack()
        self.scarce = ExitStack()
        self.up: dict[tuple[str, str], TransportLab] = {}
        self.runs = 0

    def __enter__(self) -> Labs:
        return self

    def __exit__(self, *_: object) -> None:
        with self.always, self.scarce:
            self.up.clear()

    def get(self, way: str, heap: str) -> TransportLab:
        """The lab of a way with a heap. HostError when it does not come up."""
        key = way, heap
        if key not in self.up:
            stack, guests = self.always, self.options.most_guests
            if heap != DEFAULT_HEAP:
                self._forget_heaps_but(heap)
                stack, guests = self.scarce, self.options.heap_guests
            name = lab_name(way, heap)
            lab = transport_lab(name, self.options.flavour, way, guests, heap, self.program)
            self.up[key] = stack.enter_context(lab)
        return self.up[key]

    def run(self) -> int:
        """A number for a run that none had before."""
        self.runs += 1
        return time.monotonic_ns() // 1_000_000 * 1000 + self.runs % 1000

    def _forget_heaps_but(self, heap: str) -> None:
        others = [key for key in self.up if key[1] not in (DEFAULT_HEAP, heap)]
        if others:
            self.scarce.close()
            for key in others:
                del self.up[key]


def run_points(options: Options, store: Store, progress: Progress) -> None:
    """Measure all points that the store has not yet. HostError when a lab does not come up, or a lab ends."""
    todo = [[point] for point in calibrations(options)] + list(points(options))
    total = sum(map(len, todo))
    done = sum(store.has(point) for block in todo for point in block)
    with built() as program, Labs(options, program) as labs:
        for block in todo:
            for point in block:
                if store.has(point):
                    continue
                progress(done, total, text_of(point, options))
                lab = labs.get(point.way, point.heap)
                store.add(_measured(labs, lab, point, store))
                done += 1


def text_of(point: Point, options: Options) -> str:
    """A point in a line."""
    where = f"round {point.round}/{options.rounds}" + ("" if point.round else " calibration,")
    load = "as fast as it goes" if point.load == FULL else f"load {point.load:g}"
    stopped = ", most stopped" if point.stopped else ""
    heap = f", heap {point.heap}" if point.heap else ""
    return f"{where} {point.way}: {point.size} bytes to {point.guests}{stopped}, {load}{heap}"


def _measured(labs: Labs, lab: TransportLab, point: Point, store: Store) -> Measured:
    """The point measured; what fails in it is kept as its error, unless the lab is gone."""
    rate = point.load * store.kept.saturation(point.base) if point.load != FULL else 0.0
    try:
        return Measured(point, measure(lab, point, rate, labs.run()))
    except HostError as error:
        lab.control.ask("status")  # raises when the lab is gone
        return Measured(point, {}, str(error))
