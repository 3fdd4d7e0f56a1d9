"""The tree of nodes, and what may be asked of it.

Nodes are immutable and live in one dict by absolute path, so that a transaction can hold on to what it saw for free
and "has this node changed" is one comparison of generations. `Tree` is the store itself; a `Transaction` shows the
same four questions (`View`) over a private layer, and the operations below work on either.

The special nodes ``@introduceDomain`` and ``@releaseDomain`` stand beside the root: they have permissions, decide who
is told, and nothing else.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple, Protocol

from xnet.abi.xen.xs_wire import XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX
from xnet.errors import StoreError
from xnet.xenstore.perms import NONE, OWNER, READ, ROOT_PERMS, WRITE, Caller, Perm, Perms

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"
SPECIALS = (INTRODUCE_DOMAIN, RELEASE_DOMAIN)

VALID_PATH = re.compile(r"/|(?:/[A-Za-z0-9_@-]+)+").fullmatch
HOME = re.compile(r"/local/domain/\d{1,5}/").match


class Node(NamedTuple):
    """`children` are names, in the order they were made. No two writes anywhere make the same `generation`."""

    value: bytes
    perms: Perms
    children: tuple[str, ...]
    generation: int


class Change(NamedTuple):
    """A path whose watchers are to be told: with all that watch above it, or (`exact`) only those that watch it.

    `perms` are the lists under one of which a watcher must be able to read to be told.
    """

    path: str
    exact: bool
    perms: tuple[Perms, ...]


class View(Protocol):
    """What the operations need of the tree, or of a transaction's private layer over it."""

    def get(self, path: str) -> Node | None:
        """The node, None when there is none."""

    def put(self, path: str, value: bytes, perms: Perms, children: tuple[str, ...]) -> Node:
        """Make or replace one node."""

    def drop(self, path: str) -> None:
        """Remove one node; its parent's list of children is the caller's business."""

    def owned(self, domid: int) -> int:
        """Nodes `domid` owns."""


class Tree:
    """The store."""

    __slots__ = ("_generation", "_owned", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._generation = 0
        self._owned: dict[int, int] = {}
        for path in ("/", *SPECIALS):
            self.put(path, b"", ROOT_PERMS, ())

    def next_generation(self) -> int:
        self._generation += 1
        return self._generation

    def get(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def put(self, path: str, value: bytes, perms: Perms, children: tuple[str, ...]) -> Node:
        node = Node(value, perms, children, self.next_generation())
        self.place(path, node)
        return node

    def place(self, path: str, node: Node) -> None:
        """Put a node that has its generation (a commit's)."""
        owned, owner = self._owned, node.perms[0].domid
        before = self.nodes.get(path)
        if before is not None:
            owned[before.perms[0].domid] -= 1
        owned[owner] = owned.get(owner, 0) + 1
        self.nodes[path] = node

    def drop(self, path: str) -> None:
        self._owned[self.nodes.pop(path).perms[0].domid] -= 1

    def owned(self, domid: int) -> int:
        return self._owned.get(domid, 0)


def parent_of(path: str) -> str:
    """``/a/b`` → ``/a``; the root and the specials are their own parents."""
    if path[0] == "@":
        return path
    return path[: path.rfind("/")] or "/"


def child_of(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def canonical(raw: bytes, home: str, *, special: bool = False) -> str:
    """A request's path made absolute below `home`. StoreError EINVAL when it is malformed or too long."""
    try:
        path = raw.decode("ascii")
    except UnicodeDecodeError:
        raise StoreError("EINVAL") from None
    if path[:1] == "@":
        if special and path in SPECIALS:
            return path
        raise StoreError("EINVAL", path)
    if path[:1] != "/":
        path = f"{home}/{path}"
    elif len(path) > XENSTORE_ABS_PATH_MAX:
        raise StoreError("EINVAL", path)
    if not VALID_PATH(path):
        raise StoreError("EINVAL", path)
    if len(path) > XENSTORE_REL_PATH_MAX:
        inside = HOME(path)
        if len(path) - (inside.end() if inside else 0) > XENSTORE_REL_PATH_MAX:
            raise StoreError("EINVAL", path)
    return path


def nearest(view: View, path: str) -> tuple[str, Node]:
    """The node at `path` or the nearest one above it. A special that was never made cannot be asked for."""
    while True:
        node = view.get(path)
        if node is not None:
            return path, node
        path = parent_of(path)


def existing(view: View, who: Caller, path: str, wanted: int) -> Node:
    """The node, if `who` has all of the `wanted` access. StoreError ENOENT; EACCES also hides what is missing."""
    node = view.get(path)
    if node is not None:
        if who.access(node.perms) & wanted != wanted:
            raise StoreError("EACCES", path)
        return node
    _, above = nearest(view, parent_of(path))
    raise StoreError("ENOENT" if who.access(above.perms) & wanted == wanted else "EACCES", path)


def check_size(who: Caller, path: str, value: bytes, perms: Perms, children: tuple[str, ...]) -> None:
    """StoreError ENOSPC when an unprivileged domain's node grows past its quota."""
    if who.quota is None:
        return
    if len(value) + sum(map(len, children)) + len(children) + 4 * len(perms) > who.quota.node_size:
        raise StoreError("ENOSPC", path)


def read(view: View, who: Caller, path: str) -> bytes:
    """StoreError ENOENT, EACCES, as for all that follow."""
    return existing(view, who, path, READ).value


def directory(view: View, who: Caller, path: str) -> Node:
    """The node whose `children` were asked for."""
    return existing(view, who, path, READ)


def write(view: View, who: Caller, path: str, value: bytes) -> list[Change]:
    """Set a value, making what is missing on the way. StoreError ENOSPC over quota."""
    node = view.get(path)
    if node is None:
        node = create(view, who, path, value)
    else:
        if not who.access(node.perms) & WRITE:
            raise StoreError("EACCES", path)
        check_size(who, path, value, node.perms, node.children)
        view.put(path, value, node.perms, node.children)
    return [Change(path, False, (node.perms,))]


def mkdir(view: View, who: Caller, path: str) -> list[Change]:
    """Make an empty node, and what is missing above it; nothing happens if it is there."""
    node = view.get(path)
    if node is None:
        node = create(view, who, path, b"")
        return [Change(path, False, (node.perms,))]
    if not who.access(node.perms) & WRITE:
        raise StoreError("EACCES", path)
    return []


def create(view: View, who: Caller, path: str, value: bytes) -> Node:
    """Make `path` and its missing parents; all checks come before the first change."""
    top, above = nearest(view, parent_of(path))
    if not who.access(above.perms) & WRITE:
        raise StoreError("EACCES", path)
    names = path[len(top) :].lstrip("/").split("/")
    perms = who.inherit(above.perms)
    children = (*above.children, names[0])
    check_size(who, path, value, perms, ())
    check_size(who, top, above.value, above.perms, children)
    if who.quota is not None and view.owned(who.domid) + len(names) > who.quota.nodes:
        raise StoreError("ENOSPC", path)
    view.put(top, above.value, above.perms, children)
    for name, below in pairwise(names):
        top = child_of(top, name)
        view.put(top, b"", perms, (below,))
    return view.put(path, value, perms, ())


def rm(view: View, who: Caller, path: str) -> list[Change]:
    """Remove a node and all below it. Missing is fine if its parent exists. StoreError EINVAL for the root."""
    if path == "/":
        raise StoreError("EINVAL", path)
    try:
        node = existing(view, who, path, WRITE)
    except StoreError as error:
        if error.code == "ENOENT" and view.get(parent_of(path)) is not None:
            return []
        raise
    up = parent_of(path)
    parent = view.get(up)
    assert parent is not None, "a node's parent exists"
    doomed = [(path, node, parent), *_below(view, path, node)]  # all is looked at before anything is changed
    name = path[path.rfind("/") + 1 :]
    view.put(up, parent.value, parent.perms, tuple(child for child in parent.children if child != name))
    for gone, _, _ in doomed:
        view.drop(gone)
    return [Change(gone, gone is not path, (node.perms, above.perms)) for gone, node, above in doomed]


def _below(view: View, path: str, node: Node) -> list[tuple[str, Node, Node]]:
    """All descendants as (path, node, its parent), parents first, in the order of the lists of children."""
    found = []
    todo = [(path, node)]
    while todo:
        path, node = todo.pop()
        children = [(child_of(path, name), view.get(child_of(path, name))) for name in node.children]
        for below, child in reversed(children):
            assert child is not None, "a child that is listed exists"
            todo.append((below, child))
        found += [(below, child, node) for below, child in children if child is not None]
    return found


def get_perms(view: View, who: Caller, path: str) -> Perms:
    return existing(view, who, path, READ).perms


def set_perms(view: View, who: Caller, path: str, perms: Perms) -> list[Change]:
    """Replace the list. Only the owner may; StoreError EPERM when an unprivileged one gives the node away."""
    node = existing(view, who, path, WRITE | OWNER)
    if who.quota is not None:
        if len(perms) > who.quota.perms:
            raise StoreError("ENOSPC", path)
        if perms[0].domid != node.perms[0].domid:
            raise StoreError("EPERM", path)
        check_size(who, path, node.value, perms, node.children)
    view.put(path, node.value, perms, node.children)
    return [Change(path, False, (node.perms, perms))]


def forget_domain(tree: Tree, domid: int) -> list[Change]:
    """A domain is gone: remove the nodes it owned with all below them, and every right it was given.

    Its number may be used again, and the next to have it must inherit nothing (XSA-322, XSA-419).
    """
    changes: list[Change] = []
    everything = Caller(0)
    for path in list(tree.nodes):
        node = tree.get(path)
        if node is None:
            continue
        owner = node.perms[0].domid
        if owner == domid and path[0] == "/" and path != "/":
            changes += rm(tree, everything, path)
        elif any(perm.domid == domid for perm in node.perms):
            first = Perm(0, NONE) if owner == domid else node.perms[0]
            kept = tuple(perm for perm in node.perms[1:] if perm.domid != domid)
            tree.put(path, node.value, (first, *kept), node.children)
    return changes
