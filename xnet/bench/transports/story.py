"""The story the figures tell: sentences that are computed, for whichever way the figures came out."""

from __future__ import annotations

from xnet.bench.transports.figures import Figures, Setting, heap_text
from xnet.bench.transports.plan import DEFAULT_HEAP, FULL, LIGHT
from xnet.bench.transports.text import listed, number, percent, times

LINES_SHOWN = 10
FELL = 0.9
"""Below this part of what it was, throughput is said to have fallen; above it, to have come back."""


def crossover(figures: Figures) -> list[str]:
    """Whether flipping beats copying at some size, and where that changes: by throughput, CPU and latency."""
    lines = []
    for load, name, more, what in (
        (FULL, "fps", True, "delivered frames at saturation"),
        (LIGHT, "cpu_us_per_frame", False, "CPU time per frame at a light load"),
        (LIGHT, "p50_ms", False, "median latency at a light load"),
    ):
        ratios, alike = [], []
        for setting in figures.settings("sizes", load=load):
            flip, copy = figures.spread(setting, "flip", name), figures.spread(setting, "copy", name)
            if flip and copy and flip.median and copy.median:
                ratios.append((setting.size, flip.median / copy.median if more else copy.median / flip.median))
                if flip.least <= copy.greatest and copy.least <= flip.greatest:
                    alike.append(setting.size)
        if ratios:
            lines.append(f"- {what}: {_verdict(ratios, alike)}")
    return lines or ["Flip and copy were not both measured."]


def _verdict(ratios: list[tuple[int, float]], alike: list[int]) -> str:
    """Who is better where; a ratio above 1 says that flip is, and sizes are `alike` where their rounds overlap."""
    best, worst = max(ratios, key=lambda each: each[1]), min(ratios, key=lambda each: each[1])
    wins = [size for size, ratio in ratios if ratio > 1 and size not in alike]
    losses = [size for size, ratio in ratios if ratio <= 1 and size not in alike]
    reach = (
        f"flip is {number(worst[1])} times as good as copy at worst ({worst[0]} bytes), "
        f"{number(best[1])} at best ({best[0]} bytes)"
    )
    if alike:
        reach += f"; at {listed([str(size) for size in alike])} bytes the rounds of both overlap"
    if wins and losses:
        return f"flip is better at {listed([str(size) for size in wins])} bytes, copy at others; {reach}."
    who = "flip" if wins else "copy" if losses else "neither"
    where = "every size measured" if not alike else "any size where rounds do not overlap"
    return f"{who} is better at {where}: no crossover; {reach}."


def dry_settings(figures: Figures, way: str) -> list[Setting]:
    """Settings in which a way ran out of pages at least once, fewest guests first."""
    found = [setting for setting, of in figures.cells if of == way and figures.total(setting, way, "dry")]
    return sorted(found, key=lambda each: (each.heap != DEFAULT_HEAP, each.guests, each.size, each.load))


def dryness(figures: Figures) -> list[str]:
    """Where each way that flips runs dry, at the default heap and at others; that the others do not."""
    lines = []
    for way in figures.ways:
        dry = dry_settings(figures, way)
        least = _least(figures, way)
        if "flip" not in way:
            lines.append(
                f"- {way}: never ran dry; the heap lent {_lent(figures, way)} pages in all."
                if not dry
                else f"- {way}: ran dry in {len(dry)} settings, which it should not: {dry[0].text()}."
            )
            continue
        default = [each for each in dry if each.heap == DEFAULT_HEAP]
        scarce = sorted({each.heap for each in dry if each.heap != DEFAULT_HEAP}, key=lambda heap: int(heap[:-1]))
        found = figures.rounds(default[0], way) if default else []
        rounds = f"{sum(each['dry'] > 0 for each in found)} of {len(found)}"
        lines.append(_default_heap(way, default, least, rounds))
        measured = {each.heap for each, of in figures.cells if of == way and each.heap != DEFAULT_HEAP}
        if scarce:
            lines.append(f"- {way} with a scarce heap: ran dry at {listed([heap_text(heap) for heap in scarce])}.")
        elif measured:
            lines.append(f"- {way} with a scarce heap: did not run dry at any of {listed(sorted(measured))} either.")
    return lines


def _lent(figures: Figures, way: str) -> int:
    """Pages that the heap gave to domains while a way was measured."""
    return sum(each.figures["frames_increased"] for each in figures.measured if each.point.way == way)


def _default_heap(way: str, dry: list[Setting], least: tuple[int, int, Setting] | None, rounds: str) -> str:
    if dry:
        stopped = all(each.stopped for each in dry)
        where = "only where most guests were stopped" if stopped else "also where all guests were prompt"
        fewest = min(each.guests for each in dry)
        return (
            f"- {way} at the default heap: **ran dry**, {where}, from {fewest} guests on ({dry[0].text()}; in {rounds} "
            f"rounds)."
        )
    if least is None:
        return f"- {way} at the default heap: not measured."
    free, pages, setting = least
    return (
        f"- {way} at the default heap of {pages} pages: **did not run dry**; it never had fewer than {free} to lend, "
        f"what guests gave up for the buffers they post among them ({setting.text()})."
    )


def _least(figures: Figures, way: str) -> tuple[int, int, Setting] | None:
    """When a way left fewest pages in the default heap: how many, of how many, where."""
    found = [
        (each["heap_least"], each["heap_pages"], setting)
        for (setting, of), rounds in figures.cells.items()
        if of == way and setting.heap == DEFAULT_HEAP
        for each in rounds
    ]
    return min(found, key=lambda each: each[0]) if found else None


def console(figures: Figures) -> list[str]:
    """What the console said, by way; the lines of the point that had most to say."""
    lines = []
    for way in figures.ways:
        points = [each for each in figures.measured if each.point.way == way]
        total = sum(each.figures["console"] for each in points)
        hidden = sum(each.figures["console_suppressed"] for each in points)
        speaking = sum(bool(each.figures["console"]) for each in points)
        lines.append(
            f"- {way}: {total} messages in {speaking} of {len(points)} points"
            + (f", {hidden} of them suppressed by the rate limit." if hidden else ".")
        )
    most = max(figures.measured, key=lambda each: each.figures["console"], default=None)
    if most is None or not most.figures["console"]:
        return [*lines, "", "The console stayed silent in every point."]
    shown = most.figures["console_lines"][:LINES_SHOWN]
    where = f"{most.point.way}, {Setting.of(most.point).text()}, round {most.point.round}"
    return [*lines, "", f"The first lines of the point that had most to say ({where}):", "", "```", *shown, "```"]


def fall(figures: Figures) -> list[str]:
    """What stopped guests did to the prompt ones beside them, by heap and way: how throughput fell and came back."""
    lines = []
    for setting in figures.settings("heaps"):
        for way in figures.ways:
            found = figures.phases(setting, way)
            before, meanwhile, after = (found[phase] for phase in ("before", "meanwhile", "after"))
            if before is None or meanwhile is None or after is None or not before.median:
                continue
            fell = meanwhile.median < FELL * before.median
            back = after.median >= FELL * before.median
            what = f"fell to {times(meanwhile.median, before.median)}" if fell else "did not fall"
            if fell:
                what += " and came back with the others" if back else " and had not come back at the end"
            dry = figures.total(setting, way, "dry")
            why = f"out of pages {dry} times" if dry else "never out of pages"
            p99 = number(figures.median(setting, way, "prompt_p99_ms"))
            lines.append(
                f"- heap {heap_text(setting.heap)}, {way}: what the prompt guests got {what}; their latency p99 was "
                f"{p99} ms; {why}."
            )
    return [*lines, "", *shares(figures)]


def shares(figures: Figures) -> list[str]:
    """How much of the same load each way delivered to all guests together, heap by heap."""
    lines = []
    for way in figures.ways:
        parts = [
            f"{heap_text(setting.heap)} {percent(figures.total(setting, way, 'delivered'), sent)}"
            for setting in figures.settings("heaps")
            if (sent := figures.total(setting, way, "sent"))
        ]
        if parts:
            lines.append(f"- {way} delivered to all of them together, by heap: {listed(parts)} of what was sent.")
    return lines


def summary(figures: Figures) -> list[str]:
    """The whole in a few lines."""
    lines = []
    for setting in figures.settings("sizes", load=FULL):
        if setting.size in (1448, figures.options.sizes[0], figures.options.sizes[-1]):
            copy = figures.median(setting, "copy", "fps")
            others = [
                f"{way} {times(value, copy)}"
                for way in figures.ways
                if way != "copy" and copy and (value := figures.median(setting, way, "fps"))
            ]
            if copy and others:
                lines.append(
                    f"- {setting.size} bytes, one receiver, as fast as it goes: copy delivered {number(copy)} frames "
                    f"a second; of that, {listed(others)}."
                )
    return lines + dryness(figures)
