"""What the four tools have in common: finding the subcommand, asking the engine, printing, complaining."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xnet.control.dl.options import DlError, Options, Usage, number, parse
from xnet.control.ofmt import Field, OfmtError, Row, choose, human_lines, parsable_lines
from xnet.errors import XnetError

Call = Callable[..., Any]
NO_ACCOUNTING = "no extended accounting is kept here, so there is no log to read: -i shows what happens now"
ROOTED = ("dladm", "flowadm")
ROOT = "R:"
"""Their option for another root directory."""
LONGS = {
    "temporary": "t",
    "link": "l",
    "mac-address": "m",
    "slot": "n",
    "mac-prefix": "r",
    "vlan-id": "v",
    "force": "f",
    "vrid": "V",
    "addr-family": "A",
    "statistics": "s",
    "interval": "i",
    "output": "o",
    "prop": "p",
    "attr": "a",
    "policy": "P",
    "root-dir": "R",
    "extended": "x",
}
"""Long options of the manuals, by letter."""
LONGS_SHOW = {**LONGS, "parsable": "p", "parseable": "c", "persistent": "P"}


@dataclass(slots=True)
class Tool:
    """One run of a tool. `call` asks the engine."""

    name: str
    call: Call
    want_json: bool = False
    rows: int = 0
    """Printed so far."""
    warned: set[str] = field(default_factory=set)

    def snapshot(self) -> dict[str, Any]:
        """All links and flows."""
        return dict(self.call(do="show"))

    def say(self, line: str) -> None:
        """A line on stdout."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def warn(self, line: str) -> None:
        """A line on stderr, once."""
        if line not in self.warned:
            self.warned.add(line)
            sys.stderr.write(f"{self.name}: {line}\n")

    def table(
        self,
        fields: Sequence[Field],
        rows: Sequence[Row],
        options: Options,
        *,
        parsable: str = "p",
        right: bool = False,
    ) -> None:
        """Print rows as asked: -o, the parsable mode's letter, --json."""
        try:
            chosen, warnings = choose(fields, options.value("o"), parsable=options.has(parsable))
        except OfmtError as error:
            raise DlError(str(error)) from None
        for warning in warnings:
            self.warn(warning)
        if self.want_json:
            self.say(json.dumps([dict(row) for row in rows], indent=2))
            return
        lines = parsable_lines(chosen, rows)
        if not options.has(parsable):
            lines = human_lines(chosen, rows, right=right, before=self.rows)
        for line in lines:
            self.say(line)
        self.rows += len(rows)


@dataclass(slots=True, frozen=True)
class Sub:
    """A subcommand: its usage line, its options as getopt has them, and what it does."""

    usage: str
    letters: str
    run: Callable[[Tool, Options], None]
    longs: Mapping[str, str] = field(default_factory=lambda: LONGS)
    many: str = "p"
    """Options that may come more than once."""


def ordering(do: str) -> Any:
    """A subcommand that takes a name and -t."""

    def run(tool: Tool, options: Options) -> None:
        [name] = options.need()
        tool.call(do=do, name=name, temporary=options.has("t"))

    return run


def listing(name: str, subs: Mapping[str, Sub]) -> str:
    """The whole usage."""
    rows = [f"usage:\t{name} <subcommand> <args> ...", *(f"\t{word:<20}{sub.usage}" for word, sub in subs.items())]
    return "\n".join(rows)


def run(tool: Tool, subs: Mapping[str, Sub], words: Sequence[str], default: Sub | None = None) -> int:
    """Do what the words say; the exit status."""
    usage = listing(tool.name, subs)
    name, rest = (words[0], words[1:]) if words else ("", ())
    sub = subs.get(name)
    if sub is None and default is not None:
        sub, rest = default, words
    try:
        if sub is None:
            if name:
                tool.warn(f"unknown subcommand '{name}'")
            raise Usage
        letters = sub.letters + (ROOT if tool.name in ROOTED else "")
        found = parse(list(rest), letters, sub.longs, f"usage: {name} {sub.usage}".replace("  ", " "), sub.many)
        if ROOT[0] in found.given:
            raise DlError("-R: a lab has no other root whose links could be changed: leave it out")
        sub.run(tool, found)
    except Usage:
        sys.stderr.write(usage + "\n")
        return 1
    except DlError as error:
        tool.warn(str(error))
        if error.usage:
            sys.stderr.write(error.usage + "\n")
        return 1
    except XnetError as error:
        tool.warn(str(error))
        return 1
    return 0


def in_intervals(
    options: Options,
    rows: Callable[[], list[Row]],
    key: Callable[[Row], object],
    since: Callable[[Row, Row], Row],
    show: Callable[[list[Row]], None],
) -> None:
    """Show the rows; with -i again and again, what each did since the last time."""
    every, before = interval(options), dict[object, Row]()
    while True:
        found = rows()
        show([since(row, before[key(row)]) if key(row) in before else row for row in found])
        if every is None:
            return
        before = {key(row): row for row in found}
        time.sleep(every)


def interval(options: Options) -> float | None:
    """Seconds of ``-i``. DlError."""
    text = options.value("i")
    if text is None:
        return None
    seconds = number(text)
    if not seconds:
        raise DlError(f"invalid interval value '{text}'")
    return seconds
