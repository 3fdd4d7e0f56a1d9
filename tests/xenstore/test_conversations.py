"""The store's behaviour as conversations: who asks what, in which transaction, and what comes back.

A line is ``who[.transaction] REQUEST words... -> reply``. ``START`` names the transaction it makes. A reply is the
payload with its NULs as spaces, or an error's name. ``EVENTS`` asks for the watch events that wait, as path:token.
``_`` stands for an empty string.
"""

from __future__ import annotations

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.xenstore import Server
from xnet.xenstore.connection import Connection
from xnet.xenstore.wire import Parser, encode

TYPES = {name.removeprefix("XS_"): value for name, value in vars(xs).items() if name.startswith("XS_")}

CONVERSATIONS = {
    "a value is written, read and written again": """
        dom0 WRITE /a/b hello -> OK
        dom0 READ /a/b -> hello
        dom0 READ /a -> _
        dom0 WRITE /a/b -> OK
        dom0 READ /a/b -> _
        dom0 DIRECTORY / -> a
        dom0 DIRECTORY /a -> b
        dom0 DIRECTORY /a/b -> _
    """,
    "what is missing is ENOENT": """
        dom0 READ /a -> ENOENT
        dom0 DIRECTORY /a -> ENOENT
        dom0 GET_PERMS /a -> ENOENT
        dom0 SET_PERMS /a n0 -> ENOENT
    """,
    "mkdir makes what is missing and touches nothing that is there": """
        dom0 MKDIR /a/b/c -> OK
        dom0 WRITE /a/b kept -> OK
        dom0 MKDIR /a/b -> OK
        dom0 READ /a/b -> kept
        dom0 DIRECTORY /a/b -> c
    """,
    "children are listed in the order they were made": """
        dom0 MKDIR /a/z -> OK
        dom0 MKDIR /a/b -> OK
        dom0 MKDIR /a/m -> OK
        dom0 RM /a/z -> OK
        dom0 MKDIR /a/z -> OK
        dom0 DIRECTORY /a -> b m z
    """,
    "rm takes all below; a missing node is fine if its parent is there": """
        dom0 WRITE /a/b/c/d 1 -> OK
        dom0 RM /a/b -> OK
        dom0 READ /a/b/c/d -> ENOENT
        dom0 READ /a/b -> ENOENT
        dom0 RM /a/b -> OK
        dom0 RM /a/b/c -> ENOENT
        dom0 RM / -> EINVAL
        dom0 DIRECTORY / -> a
    """,
    "paths are checked": """
        dom0 READ a//b -> EINVAL
        dom0 READ /a/ -> EINVAL
        dom0 READ // -> EINVAL
        dom0 READ _ -> EINVAL
        dom0 READ /a.b -> EINVAL
        dom0 READ /ä -> EINVAL
        dom0 WRITE @introduceDomain 1 -> EINVAL
        dom0 RM @releaseDomain -> EINVAL
        dom0 WATCH @else t -> EINVAL
    """,
    "relative paths are below the caller's home": """
        dom0 WRITE name Domain-0 -> OK
        dom0 READ /local/domain/0/name -> Domain-0
        dom0 MKDIR /local/domain/1 -> OK
        dom0 SET_PERMS /local/domain/1 n1 -> OK
        d1 WRITE data/x 7 -> OK
        dom0 READ /local/domain/1/data/x -> 7
        dom0 GET_PERMS /local/domain/1/data/x -> n1
    """,
    "a guest sees and changes only what it may": """
        dom0 WRITE /secret/x 1 -> OK
        dom0 WRITE /shared/x 1 -> OK
        dom0 SET_PERMS /shared/x n0 r1 -> OK
        d1 READ /secret/x -> EACCES
        d1 READ /secret/missing -> EACCES
        d1 DIRECTORY / -> EACCES
        d1 READ /shared/x -> 1
        d1 WRITE /shared/x 2 -> EACCES
        d1 RM /shared/x -> EACCES
        d1 MKDIR /shared/x -> EACCES
        d1 WRITE /shared/x/y 2 -> EACCES
        d1 READ /shared/x/y -> ENOENT
        d2 READ /shared/x -> EACCES
        dom0 SET_PERMS /shared/x b0 -> OK
        d2 WRITE /shared/x 3 -> OK
        d2 WRITE /shared/x/mine 4 -> OK
        dom0 GET_PERMS /shared/x/mine -> b2
        dom0 SET_PERMS /shared/x/mine n2 -> OK
        d1 READ /shared/x/mine -> EACCES
        d1 RM /shared/x -> OK
        dom0 READ /shared/x/mine -> ENOENT
    """,
    "only the owner changes permissions, and an unprivileged one cannot give a node away": """
        dom0 MKDIR /a -> OK
        dom0 SET_PERMS /a n1 b2 -> OK
        d2 SET_PERMS /a n2 -> EACCES
        d1 SET_PERMS /a n2 -> EPERM
        d1 SET_PERMS /a r1 r2 r3 -> OK
        d1 GET_PERMS /a -> r1 r2 r3
        d1 SET_PERMS /a x1 -> EINVAL
        d1 SET_PERMS /a -> EINVAL
        dom0 SET_PERMS /a n2 -> OK
        d1 READ /a -> EACCES
    """,
    "a transaction is a world of its own until it ends": """
        dom0 WRITE /a 1 -> OK
        dom0.t START -> id
        dom0.t WRITE /a 2 -> OK
        dom0.t WRITE /b/c 3 -> OK
        dom0.t READ /a -> 2
        dom0.t DIRECTORY / -> tool a b
        dom0 READ /a -> 1
        dom0 READ /b -> ENOENT
        dom0.t TRANSACTION_END T -> OK
        dom0 READ /a -> 2
        dom0 READ /b/c -> 3
        dom0.t READ /a -> ENOENT
        dom0.t TRANSACTION_END T -> ENOENT
    """,
    "an aborted transaction never was": """
        dom0.t START -> id
        dom0.t WRITE /a 2 -> OK
        dom0.t TRANSACTION_END F -> OK
        dom0 READ /a -> ENOENT
    """,
    "what was read must not have changed": """
        dom0 WRITE /a 1 -> OK
        dom0.t START -> id
        dom0.t READ /a -> 1
        dom0.t WRITE /b 1 -> OK
        dom0 WRITE /a 1 -> OK
        dom0.t TRANSACTION_END T -> EAGAIN
        dom0 READ /b -> ENOENT
    """,
    "what was seen missing must still be missing": """
        dom0 MKDIR /a -> OK
        dom0.t START -> id
        dom0.t READ /a/b -> ENOENT
        dom0 WRITE /a/b 1 -> OK
        dom0.t TRANSACTION_END T -> EAGAIN
    """,
    "a list of children is read like a value": """
        dom0 MKDIR /a -> OK
        dom0.t START -> id
        dom0.t DIRECTORY /a -> _
        dom0 WRITE /a/b 1 -> OK
        dom0.t TRANSACTION_END T -> EAGAIN
    """,
    "two transactions that write the same node: the second loses": """
        dom0 WRITE /a 0 -> OK
        dom0.t START -> id
        d1.u START -> id
        dom0 SET_PERMS /a b0 -> OK
        d1.v START -> id
        dom0.w START -> id
        d1.v WRITE /a v -> OK
        dom0.w WRITE /a w -> OK
        dom0.w TRANSACTION_END T -> OK
        d1.v TRANSACTION_END T -> EAGAIN
        dom0 READ /a -> w
    """,
    "changes elsewhere do not disturb": """
        dom0 WRITE /a/x 1 -> OK
        dom0 WRITE /b/x 1 -> OK
        dom0.t START -> id
        dom0.t READ /a/x -> 1
        dom0.t WRITE /a/x 2 -> OK
        dom0 WRITE /b/x 5 -> OK
        dom0 WRITE /b/y 5 -> OK
        dom0 WRITE /a/y 5 -> OK
        dom0.t TRANSACTION_END T -> OK
        dom0 READ /a/x -> 2
        dom0 DIRECTORY /a -> x y
    """,
    "removing a subtree conflicts with a child made below it": """
        dom0 WRITE /a/b/c 1 -> OK
        dom0.t START -> id
        dom0.t RM /a -> OK
        dom0 WRITE /a/b/new 1 -> OK
        dom0.t TRANSACTION_END T -> EAGAIN
        dom0 READ /a/b/new -> 1
    """,
    "transactions are used as they should be": """
        dom0.t START -> id
        dom0.t TRANSACTION_START _ -> EBUSY
        dom0.t TRANSACTION_END X -> EINVAL
        dom0.t TRANSACTION_END T -> OK
        dom0 TRANSACTION_END T -> ENOENT
        dom0.gone READ / -> ENOENT
        dom0.gone TRANSACTION_START _ -> ENOENT
    """,
    "a client cannot use another's transaction": """
        dom0.t START -> id
        d1.t TRANSACTION_END F -> ENOENT
        dom0.t TRANSACTION_END T -> OK
    """,
    "a watch fires at once, then for the node and all below it": """
        dom0 WATCH /a t -> OK
        dom0 EVENTS -> /a:t
        dom0 WRITE /a/b/c 1 -> OK
        dom0 EVENTS -> /a/b/c:t
        dom0 WRITE /a 1 -> OK
        dom0 EVENTS -> /a:t
        dom0 SET_PERMS /a/b n1 -> OK
        dom0 EVENTS -> /a/b:t
        dom0 MKDIR /a/b -> OK
        dom0 WRITE /ab 1 -> OK
        dom0 READ /a -> 1
        dom0 EVENTS -> _
    """,
    "removing a subtree tells those above of its top, those inside of themselves": """
        dom0 WRITE /a/b/c/d 1 -> OK
        dom0 WATCH /a above -> OK
        dom0 WATCH /a/b top -> OK
        dom0 WATCH /a/b/c inside -> OK
        dom0 WATCH /a/b/c/d leaf -> OK
        dom0 WATCH /a/b/x missing -> OK
        dom0 EVENTS -> /a:above /a/b:top /a/b/c:inside /a/b/c/d:leaf /a/b/x:missing
        dom0 RM /a/b -> OK
        dom0 EVENTS -> /a/b:top /a/b:above /a/b/c:inside /a/b/c/d:leaf
    """,
    "a relative watch reports relative paths": """
        dom0 MKDIR /local/domain/1 -> OK
        dom0 SET_PERMS /local/domain/1 n1 -> OK
        d1 WATCH device t -> OK
        d1 WATCH /local/domain/1/device abs -> OK
        d1 EVENTS -> device:t /local/domain/1/device:abs
        dom0 WRITE /local/domain/1/device/vif/0/state 1 -> OK
        d1 EVENTS -> device/vif/0/state:t /local/domain/1/device/vif/0/state:abs
    """,
    "depth limits how far below": """
        dom0 WATCH /a t0 0 -> OK
        dom0 WATCH /a t1 1 -> OK
        dom0 WATCH /a bad x -> EINVAL
        dom0 EVENTS -> /a:t0 /a:t1
        dom0 WRITE /a 1 -> OK
        dom0 WRITE /a/b 1 -> OK
        dom0 WRITE /a/b/c 1 -> OK
        dom0 EVENTS -> /a:t0 /a:t1 /a/b:t1
    """,
    "a watch is told apart by path and token": """
        dom0 WATCH /a t -> OK
        dom0 WATCH /a t -> EEXIST
        dom0 WATCH /a u -> OK
        dom0 WATCH /b t -> OK
        dom0 UNWATCH /a u -> OK
        dom0 UNWATCH /a u -> ENOENT
        dom0 UNWATCH /c t -> ENOENT
        dom0 EVENTS -> /a:t /a:u /b:t
        dom0 WRITE /a 1 -> OK
        dom0 EVENTS -> /a:t
        dom0 RESET_WATCHES _ -> OK
        dom0 WRITE /a 1 -> OK
        dom0 EVENTS -> _
    """,
    "an event that waits is not queued twice": """
        dom0 MKDIR /a -> OK
        dom0 SET_PERMS /a r0 -> OK
        d1 WATCH /a t -> OK
        dom0 WRITE /a/b 1 -> OK
        dom0 WRITE /a/c 2 -> OK
        dom0 WRITE /a/b 3 -> OK
        dom0 WRITE /a/b 4 -> OK
        d1 EVENTS -> /a:t /a/b:t /a/c:t
        dom0 WRITE /a/b 5 -> OK
        d1 EVENTS -> /a/b:t
    """,
    "a transaction's events come at its commit, one for a path": """
        dom0 WATCH /a t -> OK
        dom0 EVENTS -> /a:t
        dom0.t START -> id
        dom0.t WRITE /a/z 1 -> OK
        dom0.t WRITE /a/b 1 -> OK
        dom0.t WRITE /a/z 2 -> OK
        dom0 EVENTS -> _
        dom0.t TRANSACTION_END T -> OK
        dom0 EVENTS -> /a/z:t /a/b:t
        dom0.u START -> id
        dom0.u WRITE /a/b 1 -> OK
        dom0.u TRANSACTION_END F -> OK
        dom0 EVENTS -> _
    """,
    "what was changed and then removed with its parent in one transaction is told of both": """
        dom0 WRITE /a/b 1 -> OK
        dom0 WATCH / all -> OK
        dom0 WATCH /a/b self -> OK
        dom0 EVENTS -> /:all /a/b:self
        dom0.t START -> id
        dom0.t WRITE /a/b 2 -> OK
        dom0.t RM /a -> OK
        dom0.t TRANSACTION_END T -> OK
        dom0 EVENTS -> /a/b:self /a/b:all /a:all
        dom0 WRITE /a/b 1 -> OK
        dom0 EVENTS -> /a/b:self /a/b:all
        dom0.t START -> id
        dom0.t RM /a -> OK
        dom0.t WRITE /a/b 2 -> OK
        dom0.t TRANSACTION_END T -> OK
        dom0 EVENTS -> /a:all /a/b:self /a/b:all
    """,
    "who loses the right to read inside a transaction is told of it": """
        dom0 WRITE /a/b 1 -> OK
        dom0 SET_PERMS /a/b n0 r1 -> OK
        d1 WATCH /a t -> OK
        d1 EVENTS -> /a:t
        dom0.t START -> id
        dom0.t SET_PERMS /a/b n0 -> OK
        dom0.t WRITE /a/b 2 -> OK
        dom0.t TRANSACTION_END T -> OK
        d1 EVENTS -> /a/b:t
        dom0 WRITE /a/b 3 -> OK
        d1 EVENTS -> _
    """,
    "watchers are told only of what they may read": """
        dom0 WRITE /a/b/c 1 -> OK
        dom0 SET_PERMS /a/b n0 r1 -> OK
        dom0 SET_PERMS /a/b/c n0 -> OK
        d1 WATCH /a t -> OK
        d2 WATCH /a t -> OK
        d1 EVENTS -> /a:t
        d2 EVENTS -> /a:t
        dom0 WRITE /a 1 -> OK
        dom0 WRITE /a/b 1 -> OK
        dom0 WRITE /a/b/c 1 -> OK
        dom0 WRITE /a/x 1 -> OK
        d1 EVENTS -> /a/b:t /a/b/c:t
        d2 EVENTS -> _
        dom0 SET_PERMS /a/b n0 -> OK
        d1 EVENTS -> /a/b:t
        dom0 SET_PERMS /a/b n0 r2 -> OK
        d1 EVENTS -> _
        d2 EVENTS -> /a/b:t
        dom0 RM /a/b -> OK
        d1 EVENTS -> _
        d2 EVENTS -> /a/b:t
    """,
    "domains come and go": """
        dom0 WATCH @introduceDomain i -> OK
        dom0 WATCH @releaseDomain r -> OK
        d1 WATCH @releaseDomain r -> OK
        dom0 EVENTS -> @introduceDomain:i @releaseDomain:r
        d1 EVENTS -> @releaseDomain:r
        dom0 IS_DOMAIN_INTRODUCED 0 -> T
        dom0 IS_DOMAIN_INTRODUCED 7 -> F
        dom0 RELEASE 7 -> ENOENT
        dom0 RESUME 7 -> ENOENT
        dom0 INTRODUCE 7 123 4 -> OK
        dom0 EVENTS -> @introduceDomain:i
        dom0 IS_DOMAIN_INTRODUCED 7 -> T
        dom0 INTRODUCE 7 123 4 -> OK
        dom0 RESUME 7 -> OK
        dom0 EVENTS -> _
        dom0 RELEASE 7 -> OK
        dom0 EVENTS -> @releaseDomain:r
        d1 EVENTS -> _
        dom0 IS_DOMAIN_INTRODUCED 7 -> F
        dom0 SET_PERMS @releaseDomain n0 r1 -> OK
        dom0 GET_PERMS @releaseDomain -> n0 r1
        dom0 INTRODUCE 8 0 0 -> OK
        dom0 RELEASE 8 -> OK
        d1 EVENTS -> @releaseDomain:r
        dom0 RELEASE 0 -> EINVAL
        dom0 INTRODUCE 0 0 0 -> EINVAL
        dom0 GET_DOMAIN_PATH 12 -> /local/domain/12
        d1 GET_DOMAIN_PATH 12 -> /local/domain/12
        dom0 GET_DOMAIN_PATH -1 -> EINVAL
    """,
    "a domain's nodes and rights end with it": """
        dom0 INTRODUCE 7 0 0 -> OK
        dom0 WRITE /own/x 1 -> OK
        dom0 SET_PERMS /own n7 -> OK
        dom0 WRITE /see 1 -> OK
        dom0 SET_PERMS /see r0 n3 b7 -> OK
        dom0 WATCH /own t -> OK
        dom0 EVENTS -> /own:t
        dom0 RELEASE 7 -> OK
        dom0 READ /own/x -> ENOENT
        dom0 READ /own -> ENOENT
        dom0 GET_PERMS /see -> r0 n3
        dom0 EVENTS -> /own:t
    """,
    "a stub domain may what its target may": """
        dom0 INTRODUCE 1 0 0 -> OK
        dom0 INTRODUCE 2 0 0 -> OK
        dom0 WRITE /a 1 -> OK
        dom0 SET_PERMS /a n1 -> OK
        d2 READ /a -> EACCES
        dom0 SET_TARGET 2 1 -> OK
        d2 READ /a -> 1
        dom0 SET_TARGET 2 9 -> ENOENT
        d2 SET_TARGET 2 0 -> EACCES
    """,
    "only the privileged manage domains": """
        d1 INTRODUCE 7 0 0 -> EACCES
        d1 RELEASE 7 -> EACCES
        d1 RESUME 7 -> EACCES
        d1 IS_DOMAIN_INTRODUCED 7 -> EACCES
        d1 CONTROL check -> EACCES
    """,
    "what is not offered is refused as xenstored refuses it": """
        dom0 CONTROL live-update -> EINVAL
        dom0 WATCH_EVENT /a t -> ENOSYS
        dom0 ERROR EIO -> ENOSYS
        dom0 INVALID _ -> ENOSYS
        dom0 20 1 -> ENOSYS
        dom0 23 0 -> ENOSYS
    """,
}


class Stage:
    """A store with dom0 and as many guests as speak."""

    def __init__(self) -> None:
        self.server = Server()
        self.clients: dict[str, Connection] = {}
        self.events: dict[str, list[str]] = {}
        self.transactions: dict[str, int] = {}

    def ask(self, who: str, words: list[str]) -> str:
        name, _, transaction = who.partition(".")
        if name not in self.clients:
            domid = 0 if name == "dom0" else int(name[1:])
            self.clients[name] = self.server.connect(domid, privileged=name == "dom0")
            self.events[name] = []
        if words == ["EVENTS"]:
            self.collect(name)
            events, self.events[name] = self.events[name], []
            return " ".join(events) or "_"
        if words == ["START"]:
            answer = self.request(name, xs.XS_TRANSACTION_START, 0, b"\0")
            self.transactions[transaction] = int(answer)
            return "id"
        kind, *fields = words
        payload = b"".join(("" if field == "_" else field).encode() + b"\0" for field in fields)
        if kind == "WRITE":
            payload = payload[:-1] if len(fields) > 1 else payload
        tx_id = self.transactions.get(transaction, 999) if transaction else 0
        return self.request(name, TYPES[kind] if kind in TYPES else int(kind), tx_id, payload)

    def request(self, name: str, kind: int, tx_id: int, payload: bytes) -> str:
        self.clients[name].receive(encode(kind, 77, tx_id, payload))
        (reply,) = self.collect(name)
        return reply

    def collect(self, name: str) -> list[str]:
        """The replies that wait; events are put aside."""
        replies = []
        for message in Parser().feed(self.clients[name].take()):
            words = message.payload.decode().split("\0")
            if message.type == xs.XS_WATCH_EVENT:
                assert (message.req_id, message.tx_id) == (0, 0)
                self.events[name].append(f"{words[0]}:{words[1]}")
            else:
                assert message.req_id == 77
                replies.append(" ".join(words).strip() or "_")
        return replies


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_conversation(script: str) -> None:
    stage = Stage()
    if "-> tool" in script:
        stage.ask("dom0", ["MKDIR", "/tool"])
    for line in script.strip().splitlines():
        question, _, expected = line.strip().rpartition(" -> ")
        who, *words = question.split()
        assert stage.ask(who, words) == expected, line.strip()


RAW = {
    "a path without its NUL": (xs.XS_READ, b"/a"),
    "nothing at all": (xs.XS_READ, b""),
    "two strings where one belongs": (xs.XS_READ, b"/a\0/b\0"),
    "a write without a path": (xs.XS_WRITE, b"value"),
    "a watch without a token": (xs.XS_WATCH, b"/a\0"),
    "a watch with an endless token": (xs.XS_WATCH, b"/a\0" + b"t" * 1023 + b"\0"),
    "an absolute path that is too long": (xs.XS_READ, b"/a" * 1537 + b"\0"),
    "a relative path that is too long": (xs.XS_READ, b"a/" * 1024 + b"b\0"),
    "a domid that is no number": (xs.XS_RELEASE, b"one\0"),
    "a domid beyond all": (xs.XS_RELEASE, b"99999999999\0"),
    "permissions that are not text": (xs.XS_SET_PERMS, b"/\0\xff\xff\0"),
}


@pytest.mark.parametrize(("kind", "payload"), RAW.values(), ids=RAW.keys())
def test_a_malformed_request_is_invalid(kind: int, payload: bytes) -> None:
    stage = Stage()
    stage.ask("dom0", ["WRITE", "/a", "1"])
    assert stage.request("dom0", kind, 0, payload) == "EINVAL"
    assert stage.request("dom0", xs.XS_READ, 0, b"/a\0") == "1"


def test_values_are_bytes() -> None:
    stage = Stage()
    stage.ask("dom0", ["MKDIR", "/a"])
    dom0 = stage.clients["dom0"]
    dom0.receive(encode(xs.XS_WRITE, 1, 0, b"/a\0\xff\0\x80") + encode(xs.XS_READ, 2, 0, b"/a\0"))
    assert [message.payload for message in Parser().feed(dom0.take())] == [b"OK\0", b"\xff\0\x80"]


def test_a_list_too_long_for_a_payload_is_read_in_parts() -> None:
    stage = Stage()
    names = [f"child-{number:04}" for number in range(1000)]
    for name in names:
        stage.ask("dom0", ["MKDIR", f"/a/{name}"])
    assert stage.ask("dom0", ["DIRECTORY", "/a"]) == "E2BIG"
    found: list[str] = []
    generations = set()
    while not found or found[-1]:
        stage.clients["dom0"].receive(
            encode(xs.XS_DIRECTORY_PART, 1, 0, b"/a\0%d\0" % sum(len(name) + 1 for name in found))
        )
        (message,) = Parser().feed(stage.clients["dom0"].take())
        assert len(message.payload) <= 4096
        generation, *part = message.payload[:-1].decode().split("\0")
        generations.add(generation)
        found += part
    assert found == [*names, ""]
    assert len(generations) == 1
    stage.ask("dom0", ["MKDIR", "/a/more"])
    assert stage.ask("dom0", ["DIRECTORY_PART", "/a", "99999"]) not in generations
