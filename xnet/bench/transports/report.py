"""The report: Markdown with its plots, and the data as CSV and JSON, all out of what was kept."""

from __future__ import annotations

import json
from pathlib import Path

from xnet.bench.transports import story
from xnet.bench.transports.figures import PHASES, Figures, Setting, heap_text, losses, variation
from xnet.bench.transports.keep import Kept, as_csv, rounded
from xnet.bench.transports.plan import FULL, LIGHT
from xnet.bench.transports.plots import draw
from xnet.bench.transports.text import number, percent, spread, table
from xnet.errors import HostError

REAL_XEN = Path(__file__).parent / "real-xen.md"
"""What a real Xen paid that xnet does not, and the reverse: facts with their sources."""
PLOTS = "plots"
WIDEST = 5
SUMMARISED = (
    *("sent", "offered_fps", "delivered", "fps", "gbps", "unexplained", "p50_ms", "p99_ms", "p999_ms", "prompt_fps"),
    *("prompt_p50_ms", "prompt_p99_ms", "cpu_us_per_frame", "cpu_s_per_gb", "faults", "remaps", "pages_remapped"),
    *("copies", "bytes_copied", "maps", "frames_given", "hypercalls", "deferred", "dry", "heap_least", "console"),
)
"""What data.json has of each setting."""
CAUSES_SHOWN = 6


def write(directory: Path, kept: Kept) -> str:
    """Write report, plots and data; a line that says where. HostError when there is nothing to tell, or no room."""
    figures = Figures(kept)
    if not figures.measured:
        raise HostError(f"{directory}: no finished point to report on")
    try:
        (directory / "data.csv").write_text(as_csv(figures.measured))
        data = {
            "plan": kept.options.fingerprint(),
            "environments": kept.environments,
            "settings": rounded(figures.aggregated(SUMMARISED)),
        }
        (directory / "data.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
        plots = draw(figures, directory / PLOTS)
        (directory / "report.md").write_text(markdown(figures, plots))
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}", errno=error.errno or 0) from None
    return f"{directory / 'report.md'}: {len(figures.measured)} points, {len(plots)} plots"


def markdown(figures: Figures, plots: list[str]) -> str:
    """The report itself."""
    parts = [
        ["# Flip, copy and map under the same traffic", "", *_what(figures), "", *story.summary(figures), ""],
        ["## By size", "", *_plot(plots, "sizes"), *_sizes(figures), "### Is there a crossover?", ""],
        [*story.crossover(figures), "", *_plot(plots, "cpu")],
        ["## By load", "", *_plot(plots, "loads"), *_loads(figures)],
        ["## By the number of receivers", "", *_plot(plots, "guests"), *_guests(figures)],
        ["## Where pages run out", "", *story.dryness(figures), "", *_plot(plots, "heaps"), *_heaps(figures)],
        ["### How throughput falls and comes back", "", *_plot(plots, "story"), *story.fall(figures), ""],
        ["### What the console shows", "", *story.console(figures), ""],
        ["## What each way costs", "", *_costs(figures)],
        ["## Where frames were lost", "", *_losses(figures)],
        [REAL_XEN.read_text()],
        ["## What varied between rounds", "", *_variation(figures)],
        ["## How this was measured", "", *_how(figures)],
    ]
    return "\n".join(line for part in parts for line in part)


def _what(figures: Figures) -> list[str]:
    options = figures.options
    return [
        f"Made by `xnet bench transports`: one guest sends UDP datagrams to others ({options.flavour}), through labs",
        "that differ only in how frames cross. *copy*: the hypervisor copies out of the sender and into the receiver.",
        "*flip*: the receiver gets the page itself and gives one back. *map*: netback maps the sender's pages.",
        f"All figures are measured here; rounds: {options.rounds}, of which the median counts (least-greatest).",
    ]


def _plot(plots: list[str], name: str) -> list[str]:
    return [f"![{name}]({PLOTS}/{name}.svg)", ""] if f"{name}.svg" in plots else []


def _rows(figures: Figures, settings: list[Setting], name: str) -> list[list[str]]:
    """For each setting its figure by every way."""
    return [[spread(figures.spread(each, way, name)) for way in figures.ways] for each in settings]


def _sizes(figures: Figures) -> list[str]:
    lines = []
    for load, name, title in (
        (FULL, "fps", "Delivered frames a second, sender as fast as it can"),
        (FULL, "gbps", "The same in Gbit/s of payload"),
        (LIGHT, "cpu_us_per_frame", "Engine's CPU, us a frame, at a light load"),
        (FULL, "cpu_s_per_gb", "Engine's CPU, s per GB (10^9 bytes), at saturation"),
        (LIGHT, "p50_ms", "Latency p50, ms, at a light load"),
        (LIGHT, "p99_ms", "Latency p99, ms, at a light load"),
        (LIGHT, "p999_ms", "Latency p99.9, ms, at a light load"),
    ):
        settings = figures.settings("sizes", load=load)
        rows = _rows(figures, settings, name)
        lines += [f"{title}:", "", *table(["bytes", *figures.ways], _labelled([s.size for s in settings], rows))]
    light = f"A light load is {LIGHT:g} of what copy delivered at saturation in this run, the same for all ways."
    return [*lines, light, ""]


def _labelled(labels: list[object] | list[int], rows: list[list[str]]) -> list[list[object]]:
    return [[label, *row] for label, row in zip(labels, rows, strict=True)]


def _loads(figures: Figures) -> list[str]:
    lines = []
    for size in sorted({each.size for each in figures.settings("loads")}):
        settings = figures.settings("loads", size=size)
        loads = [each.load for each in settings]
        for name, title in (
            ("fps", "delivered frames a second"),
            ("p50_ms", "latency p50, ms"),
            ("p99_ms", "latency p99, ms"),
            ("p999_ms", "latency p99.9, ms"),
        ):
            rows = [[f"{load:g}", *row] for load, row in zip(loads, _rows(figures, settings, name), strict=True)]
            lines += [f"{size} bytes, {title}:", "", *table(["load", *figures.ways], rows)]
    return [*lines, "Load 1 is what copy delivered at saturation in this run.", ""]


def _guests(figures: Figures) -> list[str]:
    lines = []
    for stopped, load, name, title in (
        (False, FULL, "fps", "All prompt, sender as fast as it can: delivered frames a second"),
        (False, 0.7, "p99_ms", "All prompt, load 0.7 of the way that is full first: latency p99, ms"),
        (True, 0.7, "prompt_fps", "Most of them stopped, the same load: frames a second that the prompt eighth got"),
        (True, 0.7, "prompt_p99_ms", "The same: latency p99 of the prompt eighth, ms"),
        (True, 0.7, "heap_least", "The same: fewest pages that the default heap could lend"),
        (True, 0.7, "dry", "The same: times that a netback found no pages to flip"),
    ):
        settings = figures.settings("guests", stopped=stopped, load=load)
        if not settings:
            continue
        rows = _labelled([each.guests for each in settings], _rows(figures, settings, name))
        sizes = ", ".join(str(size) for size in sorted({each.size for each in settings}))
        lines += [f"{title} ({sizes} bytes):", "", *table(["receivers", *figures.ways], rows)]
    return lines


def _heaps(figures: Figures) -> list[str]:
    settings = figures.settings("heaps")
    names = ("heap_pages", "heap_least", "dry", "deferred", "console", "cpu_us_per_frame", "delivered", "prompt_p99_ms")
    rows = []
    for setting in settings:
        for way in figures.ways:
            if figures.rounds(setting, way):
                phases = figures.phases(setting, way)
                cells = [number(figures.median(setting, way, name)) for name in names]
                cells += [spread(phases[phase]) for phase in PHASES]
                rows.append([f"{heap_text(setting.heap)}, {way}", *cells])
    head = [
        "heap, way",
        "pages",
        "fewest free",
        "dry",
        "rx_defer",
        "messages",
        "CPU us/frame",
        "delivered",
        "prompt p99 ms",
    ]
    head += [f"prompt/s {phase}" for phase in PHASES]
    options = figures.options
    return [
        f"{options.heap_guests} receivers of {options.heap_size} bytes, all but an eighth of them stopped in the",
        f"middle half of {options.heap_seconds:g} s; medians. *prompt/s* is what that eighth got, by phase.",
        "",
        *table(head, rows),
    ]


def _costs(figures: Figures) -> list[str]:
    """For a thousand delivered frames of each size at a light load: what the hypervisor did, and the machine for it."""
    names = {
        "copies": "grant copies",
        "bytes_copied": "bytes copied by grants",
        "maps": "pages mapped",
        "frames_given": "pages flipped",
        "remaps": "remaps (mmap)",
        "hypercalls": "hypercalls",
        "faults": "page faults",
    }
    rows = []
    for setting in figures.settings("sizes", load=LIGHT):
        for way in figures.ways:
            frames = figures.total(setting, way, "delivered")
            if frames:
                cells = [number(1000 * figures.total(setting, way, name) / frames) for name in names]
                rows.append(
                    [f"{setting.size}, {way}", *cells, number(figures.median(setting, way, "cpu_us_per_frame"))]
                )
    return [
        "For a thousand delivered frames at a light load; the last column is the engine's CPU, us a frame. A page that",
        "is flipped is remapped where it leaves and where it arrives, one that is mapped twice as well; pages in a row",
        "take one system call. Page faults are the whole engine's, as the kernel counts them.",
        "",
        *table(["bytes, way", *names.values(), "CPU"], rows),
    ]


def _losses(figures: Figures) -> list[str]:
    sweeps = list(dict.fromkeys(each.point.sweep for each in figures.measured))
    causes: dict[str, int] = losses(figures.measured)
    shown = list(causes)[:CAUSES_SHOWN]
    rows = []
    for sweep in sweeps:
        for way in figures.ways:
            points = [each for each in figures.measured if (each.point.sweep, each.point.way) == (sweep, way)]
            sent = sum(each.figures["sent"] for each in points)
            if not sent:
                continue
            found = losses(points)
            other = sum(count for cause, count in found.items() if cause not in [*shown, "unexplained"])
            cells = [percent(found.get(cause, 0), sent) for cause in shown if cause != "unexplained"]
            cells += [percent(other, sent), str(found.get("unexplained", 0))]
            rows.append([f"{sweep}, {way}", number(sent), percent(sum(found.values()), sent), *cells])
    named = [cause for cause in shown if cause != "unexplained"]
    damaged = sum(each.figures["damaged"] for each in figures.measured)
    return [
        "Of all datagrams sent, by the counter that owns up to it. *Unexplained* are frames that no counter does.",
        "",
        *table(["sweep, way", "sent", "lost", *named, "other causes", "unexplained"], rows),
        f"Datagrams that arrived damaged: {damaged}.",
        "",
    ]


def _variation(figures: Figures) -> list[str]:
    if figures.options.rounds < 2:
        return ["One round only: nothing is known of that. Take more with `--rounds`.", ""]
    lines = []
    for name, title in (
        ("fps", "delivered frames a second"),
        ("cpu_us_per_frame", "CPU a frame"),
        ("p50_ms", "latency p50"),
        ("p99_ms", "latency p99"),
    ):
        found = list(variation(figures, name))
        if not found:
            continue
        middle = found[len(found) // 2][0]
        lines.append(
            f"- {title}: rounds of one setting were {100 * middle:.0f} % apart (median over settings); widest:"
        )
        lines += [
            f"  - {100 * width:.0f} %: {setting.text()}, {way}: {spread(each)}"
            for width, setting, way, each in found[:WIDEST]
        ]
    return ["(greatest - least) / median over the rounds of a setting:", "", *lines, ""]


def _how(figures: Figures) -> list[str]:
    kept, options = figures.kept, figures.options
    failed = [each for each in kept.measured.values() if each.error]
    lines = [f"- plan: {name} = {value}" for name, value in options.fingerprint().items()]
    for number_, environment in enumerate(kept.environments, 1):
        lines.append(f"- environment {number_}: " + ", ".join(f"{key} {value}" for key, value in environment.items()))
    lines += [f"- failed: {each.point.key}: {each.error}" for each in failed]
    return [
        "The order of points is shuffled by the seed, the ways of a setting next to each other. Stopped guests are",
        "paused by the toolstack and go on later. Latency is one-way, from the sender's call to the receiver's, by the",
        "clock they share; the histogram's steps are 3 % wide. Throughput counts what arrived while the sender was",
        "sending. CPU is the engine's process, user and system. Raw points: [points.jsonl](points.jsonl); a table of",
        "them: [data.csv](data.csv); medians: [data.json](data.json).",
        "",
        *lines,
        "",
    ]
