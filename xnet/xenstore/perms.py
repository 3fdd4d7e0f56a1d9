"""Permissions of a node: a list of (domain, access), the first of which names the owner.

The first entry's letter is what everybody not listed may do; the owner, and every privileged caller, may do all. A
permission's text is a letter and a domid: n none, r read, w write, b both. Source: docs/misc/xenstore.txt, SET_PERMS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xnet.errors import StoreError
from xnet.xenstore.quota import Quota

NONE, READ, WRITE, OWNER = 0, 1, 2, 4
"""Access bits; OWNER is what it takes to change permissions."""

LETTERS = "nrwb"
"""Indexed by READ | WRITE."""


class Perm(NamedTuple):
    """One entry: what domain `domid` may do."""

    domid: int
    access: int

    @classmethod
    def parse(cls, text: str) -> Perm:
        """``b7`` as Perm(7, READ | WRITE). StoreError EINVAL for anything else than a letter and a domid."""
        letter, number = text[:1], text[1:]
        if letter not in LETTERS or not letter or not number.isdecimal() or not number.isascii():
            raise StoreError("EINVAL")
        domid = int(number)
        if domid > 0xFFFF:
            raise StoreError("EINVAL")
        return cls(domid, LETTERS.index(letter))

    def __str__(self) -> str:
        return f"{LETTERS[self.access]}{self.domid}"


Perms = tuple[Perm, ...]

ROOT_PERMS: Perms = (Perm(0, NONE),)


def parse_perms(texts: Sequence[str]) -> Perms:
    """A SET_PERMS list. StoreError EINVAL when it is empty or one is malformed."""
    if not texts:
        raise StoreError("EINVAL")
    return tuple(Perm.parse(text) for text in texts)


@dataclass(slots=True, frozen=True)
class Caller:
    """On whose behalf the tree is asked. `quota` is None for the privileged; `target`: SET_TARGET's domain, or -1."""

    domid: int
    quota: Quota | None = None
    target: int = -1

    @property
    def privileged(self) -> bool:
        return self.quota is None

    def access(self, perms: Perms) -> int:
        """The access bits this caller has under `perms`; the first entry that names it counts."""
        domid, target = self.domid, self.target
        if self.quota is None or perms[0].domid in (domid, target):
            return READ | WRITE | OWNER
        for perm in perms[1:]:
            if perm.domid in (domid, target):
                return perm.access
        return perms[0].access

    def inherit(self, perms: Perms) -> Perms:
        """What a node created below one with `perms` gets: the same, but an unprivileged creator owns it."""
        if self.quota is None or perms[0].domid == self.domid:
            return perms
        return (Perm(self.domid, perms[0].access), *perms[1:])
