"""Tables as Solaris' libofmt prints them: for people, and parsable (``-p -o``).

People's columns have fixed widths, the last is never padded; what exceeds its width is followed by one space, and is
taken back from the columns after it. The header comes again after each terminal height of rows (24 where there is no
terminal). An empty value is ``--``, one that cannot be had ``?``. Parsable: no header, ``:`` between fields, ``:`` and
``\\`` in them escaped, but only where more than one was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
HEIGHT = 24


class OfmtError(Exception):
    """Fields cannot be as asked; the message is libofmt's."""


@dataclass(slots=True, frozen=True)
class Field:
    """A column. `get`: its text; "" is empty, None cannot be had."""

    name: str
    width: int
    get: Callable[[Row], str | None]
    wrap: bool = False
    """A list that is too long goes on in the next line."""


def choose(fields: Sequence[Field], wanted: str | None, *, parsable: bool) -> tuple[list[Field], list[str]]:
    """The columns to print, and warnings. OfmtError."""
    if wanted is None:
        if parsable:
            raise OfmtError("output fields must be specified in parsable mode")
        return list(fields), []
    if wanted.lower() == "all":
        if parsable:
            raise OfmtError("output field `all' invalid in parsable mode")
        return list(fields), []
    known = {field.name.lower(): field for field in fields}
    found, warnings = [], []
    for word in wanted.split(","):
        field = known.get(word.lower())
        if field is not None:
            found.append(field)
        elif parsable:
            raise OfmtError(f"unknown output field: `{word}'")
        else:
            warnings.append(f"ignoring unknown output field: `{word}'")
    if not found:
        raise OfmtError("no valid output fields")
    return found, warnings


def parsable_lines(fields: Sequence[Field], rows: Sequence[Row]) -> Iterator[str]:
    """A line for each row."""
    for row in rows:
        values = ["?" if value is None else value for value in (field.get(row) for field in fields)]
        if len(values) > 1:
            values = [value.replace("\\", "\\\\").replace(":", "\\:") for value in values]
        yield ":".join(values)


def height() -> int:
    """Rows before the header comes again."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines if sys.stdout.isatty() else HEIGHT
    except OSError:
        return HEIGHT


def human_lines(fields: Sequence[Field], rows: Sequence[Row], *, right: bool = False, before: int = 0) -> Iterator[str]:
    """Header and rows, behind so many printed `before`; `right`: flush right, as the statistics tools do."""
    widths = [field.width for field in fields]
    header = line([field.name for field in fields], widths, right)
    every = max(1, height())
    for number, row in enumerate(rows, before):
        if number % every == 0:
            yield header
        cells = [text(field.get(row)) for field in fields]
        yield from wrapped(fields, cells, widths, right)


def text(value: str | None) -> str:
    """What stands in a table."""
    return "?" if value is None else value or "--"


def line(cells: Sequence[str], widths: Sequence[int], right: bool) -> str:
    """One line."""
    if right:
        return " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    out, taken = "", 0
    for cell, width in zip(cells[:-1], widths[:-1], strict=True):
        room = width - taken
        out += cell.ljust(room) if len(cell) < room else cell + " "
        taken = max(0, len(cell) + 1 - room)
    return (out + cells[-1]).rstrip()


def wrapped(fields: Sequence[Field], cells: list[str], widths: Sequence[int], right: bool) -> Iterator[str]:
    """A row, and what of its long lists goes on below."""
    rest = list(cells)
    while True:
        now, later = [], []
        for field, cell in zip(fields, rest, strict=True):
            first, more = broken(cell, field.width) if field.wrap else (cell, "")
            now.append(first)
            later.append(more)
        yield line(now, widths, right)
        if not any(later):
            return
        rest = later


def broken(cell: str, width: int) -> tuple[str, str]:
    """A list that fits, and its rest."""
    if len(cell) < width or "," not in cell:
        return cell, ""
    cut = cell.rfind(",", 0, width - 1)
    cut = cell.find(",") if cut < 0 else cut
    return cell[: cut + 1], cell[cut + 1 :]
