"""Watches: who is told of which change, and by what name.

A change is announced to those who watch the path or anything above it. When a subtree is removed, those above and at
its top are told of the top, and each node below tells those who watch exactly that node. A watch given as a relative
path reports relative paths. Whoever can read neither the node nor its parent is told nothing (XSA-115).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from xnet.xenstore.perms import READ, Caller
from xnet.xenstore.tree import Change, Tree, parent_of


class Watcher(Protocol):
    """Who watches: a connection."""

    caller: Caller

    def event(self, watch: Watch, path: str) -> None:
        """`watch` saw a change at absolute `path`."""


class Watch:
    """One registration. `prefix` characters are cut from reported paths; `depth`: levels below, None for all."""

    __slots__ = ("depth", "path", "prefix", "token", "watcher")

    def __init__(self, watcher: Watcher, path: str, token: bytes, prefix: int, depth: int | None) -> None:
        self.watcher = watcher
        self.path = path
        self.token = token
        self.prefix = prefix
        self.depth = depth


class Watches:
    """All watches of a store, found by path."""

    __slots__ = ("_by_path",)

    def __init__(self) -> None:
        self._by_path: dict[str, list[Watch]] = {}

    def add(self, watch: Watch) -> None:
        self._by_path.setdefault(watch.path, []).append(watch)

    def remove(self, watch: Watch) -> None:
        here = self._by_path[watch.path]
        here.remove(watch)
        if not here:
            del self._by_path[watch.path]

    def concerned(self, change: Change) -> Iterator[Watch]:
        """The watches `change` is announced to, if their owners may read it."""
        path, level = change.path, 0
        while True:
            for watch in self._by_path.get(path, ()):
                if watch.depth is None or level <= watch.depth:
                    yield watch
            if change.exact or (above := parent_of(path)) == path:
                return
            path, level = above, level + 1

    def fire(self, tree: Tree, changes: list[Change]) -> None:
        """Tell everybody concerned, change by change."""
        for change in changes:
            for watch in self.concerned(change):
                if may_know(tree, watch.watcher.caller, change):
                    watch.watcher.event(watch, change.path)


def may_know(tree: Tree, who: Caller, change: Change) -> bool:
    """Whether `who` can read the node, as it was or is, or its parent."""
    if who.privileged:
        return True
    if any(who.access(perms) & READ for perms in change.perms):
        return True
    parent = tree.get(parent_of(change.path))
    return parent is not None and bool(who.access(parent.perms) & READ)
