"""Reading a lab file's tables: every key asked for by name and type, every mistake noted with its place, all of them
reported together. What nobody asked for is an unknown key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

from xnet.control.values import kind
from xnet.errors import ConfigError

T = TypeVar("T")


class LabError(ConfigError):
    """All that is wrong with one lab file; `str()` gives a line for each problem."""

    def __init__(self, source: str, problems: Iterable[ConfigError]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(self.problems[0].path, self.problems[0].message)

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {problem}" for problem in self.problems)


class Table:
    """One table of the file: `path` is its place (``domain[0].vif[1]``), `problems` the file's common list."""

    def __init__(self, data: dict[str, object], path: str, problems: list[ConfigError]) -> None:
        self.data = data
        self.path = path
        self.problems = problems
        self.asked: list[str] = []
        self.children: list[Table] = []

    def place(self, key: str) -> str:
        """A key's place, for messages."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, message: str) -> None:
        """Note a problem with a key (or, with "", the table itself)."""
        self.problems.append(ConfigError(self.place(key) if key else self.path, message))

    def has(self, key: str) -> bool:
        """Whether the file gives the key."""
        return key in self.data

    def get(self, key: str, convert: Callable[[object], T], default: T) -> T:
        """The key's value through `convert`; the default where it is absent or wrong (then noted)."""
        self.asked.append(key)
        if key not in self.data:
            return default
        try:
            return convert(self.data[key])
        except ValueError as error:
            self.wrong(key, str(error))
            return default

    def need(self, key: str, convert: Callable[[object], T], default: T) -> T:
        """As `get`, and the key must be there."""
        if key not in self.data:
            self.wrong("", f'{key} is missing: add {key} = "…"')
        return self.get(key, convert, default)

    def table(self, key: str) -> Table:
        """A sub-table, empty where absent."""
        self.asked.append(key)
        data = self.data.get(key, {})
        if not isinstance(data, dict):
            wanted = f"must be one table, not {kind(data)}"
            self.wrong(key, f"{wanted}: write [{key}]" if not self.path else wanted)
            data = {}
        return self.child(data, self.place(key))

    def tables(self, key: str) -> list[Table]:
        """A list of tables, empty where absent."""
        self.asked.append(key)
        rows = self.data.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.wrong(key, f"must be a list of tables: write [[{key}]] above each")
            return []
        return [self.child(row, f"{self.place(key)}[{index}]") for index, row in enumerate(rows)]

    def child(self, data: dict[str, object], path: str) -> Table:
        """A table below this one, finished with it."""
        made = Table(data, path, self.problems)
        self.children.append(made)
        return made

    def finish(self) -> None:
        """Note every key, here and below, that nobody asked for, with the nearest one that somebody did."""
        for key in self.data:
            if key not in self.asked:
                self.wrong(key, f"unknown key{nearest(key, self.asked)}")
        for child in self.children:
            child.finish()


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "name"?``, or the known words when none is near."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known here: {', '.join(names)}" if names else "; none is known here"
