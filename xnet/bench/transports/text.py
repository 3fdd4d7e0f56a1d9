"""Bits of Markdown, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xnet.bench.report import Spread


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table; the first column is words, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def number(value: float | None) -> str:
    """Three significant digits, thousands as k; a dash for nothing."""
    if value is None:
        return "-"
    if abs(value) >= 10_000:
        return f"{value / 1000:.0f}k" if abs(value) >= 100_000 else f"{value / 1000:.1f}k"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def spread(found: Spread | None) -> str:
    """A median with its least and greatest."""
    if found is None:
        return "-"
    if found.rounds == 1 or found.least == found.greatest:
        return number(found.median)
    return f"{number(found.median)} ({number(found.least)}-{number(found.greatest)})"


def percent(part: float, whole: float) -> str:
    """A share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)


def times(part: float, whole: float) -> str:
    """How many times as much."""
    return f"{part / whole:.2g}x" if whole else "-"
