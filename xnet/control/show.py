"""How verbs print: tables for people, JSON for programs, colour only where it is seen (NO_COLOR, no-color.org)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click


def as_json(data: Any) -> None:
    """Data as JSON on stdout."""
    click.echo(json.dumps(data, indent=2))


def has_colour() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def strong(text: str) -> str:
    """Text that stands out on a terminal."""
    return click.style(text, bold=True) if has_colour() else text


def coloured(text: str, good: bool) -> str:
    """Green or red text on a terminal."""
    return click.style(text, fg="green" if good else "red") if has_colour() else text


def table(header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Columns as wide as they must be, two spaces apart; those named in `right` flush right, the last never padded."""
    cells = [list(header)] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, header, strict=True)
        ]
        line = "  ".join(padded).rstrip()
        click.echo(strong(line) if number == 0 else line)


class Progress:
    """One line on stderr that overwrites itself, on a terminal; nothing elsewhere. A context manager."""

    def __init__(self) -> None:
        self.visible = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")

    def say(self, text: str) -> None:
        """Replace the line."""
        if self.visible:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write(f"\r\033[K{text[: width - 1]}")
            sys.stderr.flush()
