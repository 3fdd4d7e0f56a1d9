"""The store against a model: transactions are serializable, watches tell everything and nothing else.

The model is a dict of paths. A transaction keeps a log of what it asked and was told. If it commits, the same
questions asked of the model as it is now must get the same answers (serializable), and if it is refused, something
must have changed since it began, and nothing of it may show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xnet.abi.xen import xs_wire as xs
from xnet.xenstore import Server
from xnet.xenstore.connection import Connection
from xnet.xenstore.wire import Parser, encode

pytestmark = pytest.mark.slow

PATHS = ["/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f", "/e/f/g"]
Tree = dict[str, bytes]
Events = set[tuple[str, str]]
"""(watch path, reported path)."""


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


@dataclass
class Ask:
    """One operation on the tree."""

    kind: int
    path: str
    value: bytes = b""

    def payload(self) -> bytes:
        return self.path.encode() + b"\0" + self.value

    def of(self, tree: Tree, changed: set[tuple[str, bool]]) -> bytes:
        """What the model answers; it changes, and `changed` gets (path, only those watching exactly it)."""
        path = self.path
        if self.kind in (xs.XS_READ, xs.XS_DIRECTORY):
            if path not in tree:
                return b"ENOENT\0"
            names = [other.rpartition("/")[2] for other in tree if parent(other) == path and other != "/"]
            return tree[path] if self.kind == xs.XS_READ else b"".join(name.encode() + b"\0" for name in names)
        if self.kind == xs.XS_RM:
            if path not in tree:
                return b"OK\0" if parent(path) in tree else b"ENOENT\0"
            gone = [other for other in tree if below(other, path)]
            changed |= {(other, other != path) for other in gone}
            for other in gone:
                del tree[other]
            return b"OK\0"
        if self.kind == xs.XS_WRITE or path not in tree:
            changed.add((path, False))
        missing = [path]
        while (up := parent(missing[-1])) not in tree:
            missing.append(up)
        for other in reversed(missing):
            tree.setdefault(other, b"")
        if self.kind == xs.XS_WRITE:
            tree[path] = self.value
        return b"OK\0"


asks = st.one_of(
    st.builds(Ask, st.sampled_from([xs.XS_READ, xs.XS_DIRECTORY, xs.XS_MKDIR, xs.XS_RM]), st.sampled_from(PATHS)),
    st.builds(Ask, st.just(xs.XS_WRITE), st.sampled_from(PATHS), st.sampled_from([b"", b"1", b"2"])),
)


@dataclass
class Open:
    """A transaction under way."""

    tx_id: int
    seen: Tree
    version: int
    log: list[tuple[Ask, bytes]] = field(default_factory=list)


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.writer = self.server.connect(0, privileged=True)
        self.watcher = self.server.connect(0, privileged=True)
        self.model: Tree = {"/": b""}
        self.version = 0
        self.open: list[Open] = []
        self.watches: set[str] = set()

    def ask(self, connection: Connection, kind: int, tx_id: int, payload: bytes) -> bytes:
        connection.receive(encode(kind, 9, tx_id, payload))
        replies = [message for message in Parser().feed(connection.take()) if message.type != xs.XS_WATCH_EVENT]
        assert [(reply.req_id, reply.tx_id) for reply in replies] == [(9, tx_id)]
        assert replies[0].type in (kind, xs.XS_ERROR)
        return replies[0].payload

    def expect_events(self, changed: set[tuple[str, bool]]) -> None:
        told: Events = set()
        for message in Parser().feed(self.watcher.take()):
            path, token = message.payload.decode().split("\0")[:2]
            assert (token, path) not in told, "the same event twice"
            told.add((token, path))
        loud = {path for path, exact in changed if not exact}
        expected = {(watch, path) for path in loud for watch in self.watches if below(path, watch)}
        expected |= {(path, path) for path, exact in changed if exact and path in self.watches}
        assert told == expected

    @rule(ask=asks)
    def outside(self, ask: Ask) -> None:
        changed: set[tuple[str, bool]] = set()
        expected = ask.of(self.model, changed)
        assert self.ask(self.writer, ask.kind, 0, ask.payload()) == expected
        self.version += bool(changed)
        self.expect_events(changed)

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def start(self) -> None:
        tx_id = int(self.ask(self.writer, xs.XS_TRANSACTION_START, 0, b"\0")[:-1])
        assert tx_id not in [other.tx_id for other in self.open]
        self.open.append(Open(tx_id, dict(self.model), self.version))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2), ask=asks)
    def inside(self, which: int, ask: Ask) -> None:
        """An answer inside is the model's, as long as nothing has changed outside."""
        transaction = self.open[which % len(self.open)]
        answer = self.ask(self.writer, ask.kind, transaction.tx_id, ask.payload())
        transaction.log.append((ask, answer))
        expected = ask.of(transaction.seen, set())
        if transaction.version == self.version:
            assert answer == expected
        self.expect_events(set())

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def commit(self, which: int) -> None:
        transaction = self.open.pop(which % len(self.open))
        answer = self.ask(self.writer, xs.XS_TRANSACTION_END, transaction.tx_id, b"T\0")
        changed: set[tuple[str, bool]] = set()
        if answer == b"OK\0":
            for ask, told in transaction.log:
                assert ask.of(self.model, changed) == told, "not serializable"
            self.version += bool(changed)
        else:
            assert answer == b"EAGAIN\0"
            assert transaction.version != self.version, "refused though nothing had changed"
        self.expect_events(changed)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def abort(self, which: int) -> None:
        transaction = self.open.pop(which % len(self.open))
        assert self.ask(self.writer, xs.XS_TRANSACTION_END, transaction.tx_id, b"F\0") == b"OK\0"
        self.expect_events(set())

    @rule(path=st.sampled_from(["/", *PATHS]))
    def watch_or_unwatch(self, path: str) -> None:
        payload = f"{path}\0{path}\0".encode()
        if path in self.watches:
            assert self.ask(self.watcher, xs.XS_UNWATCH, 0, payload) == b"OK\0"
            self.watches.discard(path)
        else:
            self.watcher.receive(encode(xs.XS_WATCH, 9, 0, payload))
            ok, event = Parser().feed(self.watcher.take())
            assert (ok.payload, event.type, event.payload) == (b"OK\0", xs.XS_WATCH_EVENT, payload)
            self.watches.add(path)

    @rule()
    def reset(self) -> None:
        assert self.ask(self.watcher, xs.XS_RESET_WATCHES, 0, b"\0") == b"OK\0"
        self.watches.clear()

    @invariant()
    def the_tree_is_the_model(self) -> None:
        nodes = {path: node for path, node in self.server.tree.nodes.items() if path[0] == "/"}
        assert {path: node.value for path, node in nodes.items()} == self.model
        for path, node in nodes.items():
            names = [other.rpartition("/")[2] for other in nodes if parent(other) == path and other != "/"]
            assert sorted(node.children) == sorted(names)

    @invariant()
    def the_books_balance(self) -> None:
        assert self.server.tree.owned(0) == len(self.server.tree.nodes)
        statistics = self.server.statistics()
        assert (statistics.watches, statistics.transactions) == (len(self.watches), len(self.open))

    def teardown(self) -> None:
        self.writer.close()
        self.watcher.close()
        assert (self.server.statistics().watches, self.server.statistics().connections) == (0, 0)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
