"""A transaction: the tree as its owner sees it until the commit, and whether the commit may happen.

What it looks at for the first time is remembered; what it changes stays in its own layer. It may be committed if all
it looked at still has the generation it had then (a write looks at the node, and at its parent when that gains or
loses a child). Otherwise EAGAIN: the caller starts over, on the tree as it is now.
"""

from __future__ import annotations

from xnet.errors import StoreError
from xnet.xenstore.perms import Caller, Perms
from xnet.xenstore.tree import Change, Node, Tree


class Transaction:
    """A `View` over `tree` for `who`."""

    __slots__ = ("_changed", "_changes", "_owned", "_seen", "_tree", "_who")

    def __init__(self, tree: Tree, who: Caller) -> None:
        self._tree = tree
        self._who = who
        self._seen: dict[str, Node | None] = {}
        self._changed: dict[str, Node | None] = {}
        self._owned: dict[int, int] = {}
        self._changes: dict[str, Change] = {}

    def get(self, path: str) -> Node | None:
        if path in self._changed:
            return self._changed[path]
        if path in self._seen:
            return self._seen[path]
        if self._who.quota is not None and len(self._seen) >= self._who.quota.transaction_nodes:
            raise StoreError("ENOSPC", path)
        node = self._seen[path] = self._tree.get(path)
        return node

    def put(self, path: str, value: bytes, perms: Perms, children: tuple[str, ...]) -> Node:
        node = Node(value, perms, children, self._tree.next_generation())
        self._count(self.get(path), -1)
        self._count(node, +1)
        self._changed[path] = node
        return node

    def drop(self, path: str) -> None:
        self._count(self.get(path), -1)
        self._changed[path] = None

    def owned(self, domid: int) -> int:
        return self._tree.owned(domid) + self._owned.get(domid, 0)

    def _count(self, node: Node | None, by: int) -> None:
        if node is not None:
            owner = node.perms[0].domid
            self._owned[owner] = self._owned.get(owner, 0) + by

    def note(self, changes: list[Change]) -> None:
        """Keep watch events for the commit: one a path, in the order of the first change to it."""
        for change in changes:
            before = self._changes.get(change.path)
            if before is not None:
                perms = tuple(dict.fromkeys(before.perms + change.perms))
                change = Change(change.path, before.exact and change.exact, perms)
            self._changes[change.path] = change

    def commit(self) -> list[Change]:
        """Put all changes into the tree; who is to be told of what. StoreError EAGAIN (conflict), ENOSPC (quota)."""
        tree, who = self._tree, self._who
        for path, node in self._seen.items():
            now = tree.get(path)
            if (now and now.generation) != (node and node.generation):
                raise StoreError("EAGAIN")
        if who.quota is not None:
            more = self._owned.get(who.domid, 0)
            if more > 0 and tree.owned(who.domid) + more > who.quota.nodes:
                raise StoreError("ENOSPC")
        for path, node in self._changed.items():
            if node is not None:
                tree.place(path, node)
            elif tree.get(path) is not None:
                tree.drop(path)
        return list(self._changes.values())
