"""Options as illumos' getopt takes them: short ones in groups, values attached or apart, operands anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class DlError(Exception):
    """What goes to stderr behind ``dladm: ``; the exit status is 1. `usage`: lines that follow."""

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class Usage(Exception):
    """The whole listing is the answer."""


@dataclass(slots=True)
class Options:
    """What was given: option letter -> its values (an empty string for a flag)."""

    given: dict[str, list[str]]
    operands: list[str]

    def has(self, letter: str) -> bool:
        return letter in self.given

    def value(self, letter: str) -> str | None:
        """The one value."""
        return self.given[letter][-1] if letter in self.given else None

    def words(self, letter: str) -> list[str]:
        """The words of comma-separated lists."""
        return [word for value in self.given.get(letter, []) for word in value.split(",")]

    def operand(self) -> str | None:
        """The one operand there may be. Usage."""
        if len(self.operands) > 1:
            raise Usage
        return self.operands[0] if self.operands else None

    def need(self, count: int = 1) -> list[str]:
        """So many operands. Usage."""
        if len(self.operands) != count:
            raise Usage
        return self.operands


def number(text: str) -> int | None:
    """A decimal of a sensible length; None if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def parse(words: Sequence[str], letters: str, longs: Mapping[str, str], usage: str, many: str = "p") -> Options:
    """`letters` as for getopt(3): ``tl:p:``; `longs`: name -> letter; `many`: those that may come more than once where
    they take a value. DlError."""
    takes = {letter: letters[at + 1 : at + 2] == ":" for at, letter in enumerate(letters) if letter != ":"}
    found = Options({}, [])
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.operands += rest
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in longs or longs[name] not in takes:
                raise DlError(f"unrecognized option '--{name}'", usage)
            letter = longs[name]
            if takes[letter] and not equals:
                value = following(rest, f"--{name}", usage)
            note(found, letter, value, takes[letter] and letter in many)
        elif word.startswith("-") and len(word) > 1:
            group = word[1:]
            while group:
                letter, group = group[0], group[1:]
                if letter not in takes:
                    raise DlError(f"unrecognized option '-{letter}'", usage)
                value = ""
                if takes[letter]:
                    value, group = group or following(rest, f"-{letter}", usage), ""
                note(found, letter, value, takes[letter] and letter in many)
        else:
            found.operands.append(word)
    return found


def following(rest: list[str], option: str, usage: str) -> str:
    """An option's value in the next word. DlError."""
    if not rest:
        raise DlError(f"option '{option}' requires a value", usage)
    return rest.pop(0)


def note(found: Options, letter: str, value: str, again: bool) -> None:
    """One more option. DlError."""
    if letter in found.given and not again:
        if letter == "m":
            raise DlError("cannot specify -m option twice")
        raise DlError(f"the option -{letter} cannot be specified more than once")
    found.given.setdefault(letter, []).append(value)


def properties(values: Sequence[str] | None) -> dict[str, list[str]]:
    """``maxbw=100M,protection=mac-nospoof,restricted``: a word without = is one more value of the property before.
    DlError."""
    found: dict[str, list[str]] = {}
    for value in values or ():
        name = ""
        for word in value.split(","):
            key, equals, first = word.partition("=")
            if equals:
                name = key
                found[name] = [first] if first else []
            elif name:
                found[name].append(word)
            else:
                raise DlError(f"invalid link property '{value}'" if word else "link property must be specified")
    return found
