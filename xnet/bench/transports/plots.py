"""The plots, as small SVG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xnet.bench.report import Spread
from xnet.bench.transports.figures import BIN_S, Figures, Setting, heap_text
from xnet.bench.transports.plan import DEFAULT_HEAP, FULL, LIGHT

COLOURS = {"copy": "#1b7837", "flip": "#c51b7d", "map": "#2166ac", "flip+map": "#b35806"}
SMOOTHED_BINS = 4
"""Bins of deliveries that are put together: 0.2 s."""


def draw(figures: Figures, directory: Path) -> list[str]:
    """All plots there is something for, into a directory; their names."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "xnet", "font.size": 9, "axes.grid": True})
    mpl.rcParams.update({"grid.alpha": 0.3, "legend.frameon": False, "axes.spines.top": False, "figure.dpi": 72})
    directory.mkdir(exist_ok=True)
    plots: dict[str, Callable[[Figures, Any], bool]] = {
        "sizes": _sizes,
        "cpu": _cpu,
        "loads": _loads,
        "guests": _guests,
        "heaps": _heaps,
        "story": _story,
    }
    drawn = []
    for name, plot in plots.items():
        if _saved(figures, plot, directory / f"{name}.svg"):
            drawn.append(f"{name}.svg")
    return drawn


def _saved(figures: Figures, plot: Callable[[Figures, Any], bool], path: Path) -> bool:
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(7.5, 3.2), layout="constrained")
    try:
        if not plot(figures, figure):
            path.unlink(missing_ok=True)
            return False
        figure.axes[0].legend()
        for axes in figure.axes:
            axes.minorticks_off()  # a third of the file, on logarithmic axes
        figure.savefig(path, metadata={"Date": None})
        return True
    finally:
        pyplot.close(figure)


def _lines(
    axes: Any, figures: Figures, settings: Sequence[Setting], name: str, x: Callable[[Setting], float], style: str = "-"
) -> bool:
    """A line a way with its spread as bars."""
    some = False
    for way in figures.ways:
        found = [(x(each), spread) for each in settings if (spread := figures.spread(each, way, name)) is not None]
        some |= _line(axes, way, found, style)
    return some


def _line(axes: Any, way: str, found: Sequence[tuple[float, Spread]], style: str = "-") -> bool:
    """One way's line, if there is anything in it."""
    middle = [spread.median for _, spread in found]
    low = [spread.median - spread.least for _, spread in found]
    high = [spread.greatest - spread.median for _, spread in found]
    places = [place for place, _ in found]
    if found:
        axes.errorbar(
            places, middle, [low, high], fmt=f"o{style}", ms=3, lw=1.2, capsize=2, color=COLOURS[way], label=way
        )
    return bool(found)


def _ticks(axes: Any, values: Iterable[int]) -> None:
    """Marks on a logarithmic axis where something was measured."""
    known = sorted(set(values))
    axes.set_xticks(known, [str(value) for value in known])


def _sizes(figures: Figures, figure: Any) -> bool:
    left, right = figure.subplots(1, 2)
    some = _lines(left, figures, figures.settings("sizes", load=FULL), "fps", lambda each: each.size)
    _lines(right, figures, figures.settings("sizes", load=FULL), "gbps", lambda each: each.size)
    for axes, label in ((left, "delivered frames/s"), (right, "delivered Gbit/s")):
        axes.set(xscale="log", yscale="log", xlabel="bytes of a datagram", title=label)
        _ticks(axes, figures.options.sizes)
    return some


def _cpu(figures: Figures, figure: Any) -> bool:
    left, right = figure.subplots(1, 2)
    light = figures.settings("sizes", load=LIGHT)
    some = _lines(left, figures, light, "cpu_us_per_frame", lambda each: each.size)
    _lines(right, figures, light, "p50_ms", lambda each: each.size)
    _lines(right, figures, light, "p99_ms", lambda each: each.size, ":")
    left.set(xscale="log", yscale="log", xlabel="bytes of a datagram", title="engine's CPU, us a frame, light load")
    right.set(xscale="log", yscale="log", xlabel="bytes of a datagram", title="latency, ms (p50; dotted: p99)")
    for axes in (left, right):
        _ticks(axes, figures.options.sizes)
    return some


def _loads(figures: Figures, figure: Any) -> bool:
    sizes = sorted({each.size for each in figures.settings("loads")})
    if not sizes:
        return False
    size = sizes[0]
    left, right = figure.subplots(1, 2)
    settings = figures.settings("loads", size=size)
    some = _lines(left, figures, settings, "fps", lambda each: each.load)
    _lines(right, figures, settings, "p50_ms", lambda each: each.load)
    _lines(right, figures, settings, "p99_ms", lambda each: each.load, ":")
    load = "load, parts of copy's saturation"
    left.set(xlabel=load, title=f"delivered frames/s, {size} bytes")
    right.set(xlabel=load, yscale="log", title="latency, ms (p50; dotted: p99)")
    return some


def _guests(figures: Figures, figure: Any) -> bool:
    left, right = figure.subplots(1, 2)
    full = figures.settings("guests", stopped=False, load=FULL)
    stopped = figures.settings("guests", stopped=True)
    some = _lines(left, figures, full, "fps", lambda each: each.guests)
    left.set(xscale="log", xlabel="receivers, all prompt", title="delivered frames/s, as fast as it goes")
    _lines(right, figures, stopped, "heap_least", lambda each: each.guests)
    right.set(xscale="log", xlabel="receivers, most of them stopped", title="fewest pages in the default heap")
    _ticks(left, (each.guests for each in full))
    _ticks(right, (each.guests for each in stopped))
    right.set(ylim=(0, None))
    return some


def _heaps(figures: Figures, figure: Any) -> bool:
    settings = figures.settings("heaps")
    if not settings:
        return False
    left, right = figure.subplots(1, 2)
    places = {setting: place for place, setting in enumerate(settings)}
    for way in figures.ways:
        found = [(place, figures.phases(each, way)["meanwhile"]) for each, place in places.items()]
        _line(left, way, [(place, spread) for place, spread in found if spread is not None])
    _lines(right, figures, settings, "console", places.__getitem__)
    left.set(title="frames/s of prompt guests, the others stopped")
    right.set(title="console messages")
    for axes in (left, right):
        axes.set_xticks(range(len(settings)), [heap_text(each.heap) for each in settings])
        axes.set(xlabel="heap", ylim=(0, None))
    return True


def _story(figures: Figures, figure: Any) -> bool:
    """One round over time: flip with the default heap and with the least one, and copy with that one."""
    settings = figures.settings("heaps")
    chosen = [(each, "flip") for each in (settings[:1] + settings[-1:])] + [(each, "copy") for each in settings[-1:]]
    chosen = [(each, way) for each, way in chosen if figures.rounds(each, way)]
    if not chosen:
        return False
    left, right = figure.subplots(1, 2)
    seconds = figures.options.heap_seconds
    for setting, way in chosen:
        rounds = figures.rounds(setting, way)
        found = sorted(rounds, key=lambda each: each["delivered"])[len(rounds) // 2]
        style = "--" if setting.heap == DEFAULT_HEAP else "-"
        label = f"{way}, heap {heap_text(setting.heap)}"
        counts = dict(found["bins"])
        bins = range(0, round(seconds / BIN_S), SMOOTHED_BINS)
        rates = [sum(counts.get(at + i, 0) for i in range(SMOOTHED_BINS)) / (SMOOTHED_BINS * BIN_S) for at in bins]
        left.plot([at * BIN_S for at in bins], rates, style, lw=1.2, color=COLOURS[way], label=label)
        free = [(at, pages) for at, pages in found["heap"] if 0 <= at <= seconds]
        right.plot([at for at, _ in free], [n for _, n in free], style, lw=1.2, color=COLOURS[way], label=label)
    for axes, title in ((left, "delivered frames/s"), (right, "pages the heap can lend")):
        axes.axvspan(seconds / 4, seconds * 3 / 4, color="grey", alpha=0.15)
        axes.set(xlabel="seconds (grey: most guests are stopped)", title=title, ylim=(0, None))
    return True
