"""Conversations: replies at once, later, in any order; transactions that start over; callbacks never nested."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.errors import StoreError
from xnet.xenstore import (
    Conversation,
    DomainPath,
    GetPerms,
    Introduce,
    IsIntroduced,
    Ls,
    Mkdir,
    Perm,
    Read,
    Release,
    ResetWatches,
    Rm,
    Server,
    Session,
    SetPerms,
    WireError,
    Write,
    in_transaction,
    listing,
    local_session,
)
from xnet.xenstore.wire import Parser, encode


class Delayed:
    """A session whose requests and replies wait until they are moved by hand."""

    def __init__(self, server: Server, domid: int = 0) -> None:
        self.requests: list[bytes] = []
        self.session = Session(self.requests.append)
        self.connection = server.connect(domid, privileged=True)

    def move(self) -> None:
        """Answer what was asked, then hear the answers, in the store's order."""
        while self.requests:
            self.connection.receive(self.requests.pop(0))
        self.session.receive(self.connection.take())

    def move_all(self) -> None:
        while self.requests or self.connection.waiting():
            self.move()


def local(server: Server) -> tuple[Session, Callable[[], None]]:
    return local_session(server), lambda: None


def delayed(server: Server) -> tuple[Session, Callable[[], None]]:
    wire = Delayed(server)
    return wire.session, wire.move_all


@pytest.mark.parametrize("make", [local, delayed])
def test_every_question_has_its_kind_of_answer(make: Callable[[Server], tuple[Session, Callable[[], None]]]) -> None:
    session, settle = make(Server())
    told: list[object] = []

    def talk() -> Conversation[str]:
        told.append((yield Read("/a/b")))
        told.append((yield Ls("/a")))
        told.append((yield Write("/a/b", "grüß")))
        told.append((yield Write("/a/n", 7)))
        told.append((yield Read("/a/b")))
        told.append((yield Ls("/a")))
        told.append((yield Mkdir("/a/b")))
        told.append((yield SetPerms("/a/b", ["n1", Perm(2, 1)])))
        told.append((yield GetPerms("/a/b")))
        told.append((yield Rm("/a/b")))
        told.append((yield Introduce(3, 0, 0)))
        told.append((yield IsIntroduced(3)))
        told.append((yield Release(3)))
        told.append((yield IsIntroduced(3)))
        told.append((yield DomainPath(3)))
        told.append((yield ResetWatches()))
        return "the end"

    done: list[object] = []
    session.run(talk(), done.append)
    settle()
    assert done == ["the end"]
    expected: list[object] = [None, None, None, None, "grüß", ["b", "n"], None, None, ((1, 0), (2, 1)), None]
    assert told == [*expected, None, True, None, False, "/local/domain/3", None]
    assert session.outstanding() == 0


def test_other_errors_are_raised_inside_the_conversation() -> None:
    session = local_session(Server())
    caught: list[tuple[str, str]] = []

    def careful() -> Conversation[str]:
        for request in (Read("//"), Rm("/a/b"), GetPerms("/a"), Write("/x", "v" * 5000)):
            try:
                yield request
            except StoreError as error:
                caught.append((error.code, error.path))
        return "survived"

    done: list[object] = []
    session.run(careful(), done.append)
    assert caught == [("EINVAL", "//"), ("ENOENT", "/a/b"), ("ENOENT", "/a"), ("E2BIG", "/x")]
    assert done == ["survived"]


def careless() -> Conversation[None]:
    yield Rm("/a/b")


def test_what_a_conversation_does_not_catch_is_its_result() -> None:
    session = local_session(Server())
    done: list[object] = []
    session.run(careless(), done.append)
    (error,) = done
    assert isinstance(error, StoreError)
    assert error.code == "ENOENT"


def test_a_failure_nobody_waits_for_is_raised_and_the_others_go_on() -> None:
    server = Server()
    wire = Delayed(server)
    done: list[object] = []

    def good() -> Conversation[str]:
        yield Write("/good", "1")
        return (yield Read("/good"))

    wire.session.run(careless())
    wire.session.run(good(), done.append)
    with pytest.raises(StoreError):
        wire.move()
    wire.move_all()
    assert done == ["1"]


def count_up(path: str, times: int) -> Conversation[int]:
    def body() -> Conversation[int]:
        value = int((yield Read(path)) or 0) + 1
        yield Write(path, value)
        return value

    last = 0
    for _ in range(times):
        last = yield from in_transaction(body)
    return last


def test_interleaved_transactions_lose_no_update() -> None:
    """Many clients count the same node up, their messages shuffled; whoever conflicts starts over."""
    chance = random.Random(4)
    server = Server()
    wires = [Delayed(server) for _ in range(4)]
    done: list[object] = []
    for wire in wires:
        for _ in range(2):
            wire.session.run(count_up("/count", 3), done.append)
    while any(wire.requests or wire.connection.waiting() for wire in wires):
        wire = chance.choice(wires)
        if wire.requests and chance.random() < 0.6:
            wire.connection.receive(wire.requests.pop(chance.randrange(len(wire.requests))))
        else:
            wire.session.receive(wire.connection.take(chance.randrange(1, 40)))
    assert len(done) == 8
    assert max(done) == 24  # type: ignore[type-var]
    assert server.tree.nodes["/count"].value == b"24"
    assert server.statistics().transactions == 0


def test_a_body_that_fails_aborts_its_transaction() -> None:
    server = Server()
    session = local_session(server)

    def body() -> Conversation[None]:
        yield Write("/a", "1")
        yield Rm("/x/y")

    done: list[object] = []
    session.run(in_transaction(body), done.append)
    (error,) = done
    assert isinstance(error, StoreError)
    assert (error.code, error.path) == ("ENOENT", "/x/y")
    assert "/a" not in server.tree.nodes
    assert server.statistics().transactions == 0


def test_errors_inside_a_transaction_can_be_caught_inside() -> None:
    server = Server()
    session = local_session(server)

    def body() -> Conversation[str]:
        try:
            yield Rm("/x/y")
        except StoreError as error:
            yield Write("/a", error.code)
        return "fine"

    done: list[object] = []
    session.run(in_transaction(body), done.append)
    assert done == ["fine"]
    assert server.tree.nodes["/a"].value == b"ENOENT"


def test_replies_find_their_conversation_in_any_order() -> None:
    sent: list[bytes] = []
    session = Session(sent.append)
    done: list[object] = []

    def ask(path: str) -> Conversation[tuple[str, str]]:
        return path, (yield Read(path))

    for path in ("/a", "/b", "/c"):
        session.run(ask(path), done.append)
    requests = [message for data in sent for message in Parser().feed(data)]
    assert len({request.req_id for request in requests}) == 3
    for request in reversed(requests):
        answer = b"value of " + request.payload[:-1]
        session.receive(encode(xs.XS_READ, request.req_id, 0, answer))
    assert done == [("/c", "value of /c"), ("/b", "value of /b"), ("/a", "value of /a")]
    session.receive(encode(xs.XS_READ, requests[0].req_id, 0, b"again"))
    assert len(done) == 3


def test_a_watch_calls_back_at_once_and_at_changes_until_unwatched() -> None:
    server = Server()
    session, other = local_session(server), local_session(server)
    seen: list[tuple[str, str]] = []
    token = session.watch("/a", lambda path, token: seen.append((path, token)))
    other.run(count_up("/a/n", 1))
    assert seen == [("/a", token), ("/a/n", token)]
    session.unwatch(token)
    session.unwatch(token)
    other.run(count_up("/a/n", 1))
    assert len(seen) == 2
    assert server.statistics().watches == 0


def test_no_call_comes_after_unwatch_even_for_an_event_on_its_way() -> None:
    wire = Delayed(Server())
    seen: list[str] = []
    token = wire.session.watch("/a", lambda path, token: seen.append(path))
    wire.connection.receive(wire.requests.pop(0))
    wire.session.unwatch(token)
    wire.move_all()
    assert seen == []


def test_a_refused_watch_reports_and_is_forgotten() -> None:
    session = local_session(Server())
    done: list[object] = []
    session.watch("//", lambda path, token: pytest.fail("called"), done=done.append)
    assert isinstance(done[0], StoreError)


def test_neither_generators_nor_callbacks_are_entered_twice() -> None:
    """A watch callback that writes what it watches, while a conversation of the same session writes too."""
    server = Server()
    session = local_session(server)
    depth = 0
    seen: list[str] = []

    def careful(path: str, token: str) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1
        seen.append(path)
        if len(seen) < 10:
            session.run(count_up("/a/n", 1))
        depth -= 1

    session.watch("/a", careful)
    session.run(count_up("/a/m", 3))
    assert server.tree.nodes["/a/m"].value == b"3"
    assert int(server.tree.nodes["/a/n"].value) == 9
    assert set(seen) == {"/a", "/a/n", "/a/m"}


def test_two_sessions_that_answer_each_other_do_not_pile_up_the_stack() -> None:
    server = Server()
    ping, pong = local_session(server), local_session(server)
    last = 1500  # more than the interpreter has frames

    def bounce(session: Session, mine: str, other: str) -> Callable[[str, str], None]:
        def talk() -> Conversation[None]:
            value = int((yield Read(other)) or 0)
            if value < last:
                yield Write(mine, value + 1)

        return lambda path, token: session.run(talk())

    ping.watch("/b", bounce(ping, "/a", "/b"))
    pong.watch("/a", bounce(pong, "/b", "/a"))
    values = [int(server.tree.nodes[path].value) for path in ("/a", "/b")]
    assert max(values) == last


def test_a_long_conversation_needs_no_deep_stack() -> None:
    session = local_session(Server())

    def talk() -> Conversation[int]:
        for number in range(2000):
            yield Write("/n", number)
        return int((yield Read("/n")))

    done: list[object] = []
    session.run(talk(), done.append)
    assert done == [1999]


def test_a_listing_may_be_longer_than_a_payload() -> None:
    server = Server()
    wire = Delayed(server)
    names = [f"name-{number:05}" for number in range(1200)]

    def fill() -> Conversation[None]:
        for name in names:
            yield Mkdir(f"/a/{name}")

    done: list[object] = []
    local_session(server).run(fill())
    wire.session.run(listing("/a"), done.append)
    for _ in range(3):
        wire.move()
    local_session(server).run(iter_rm(f"/a/{names[0]}"))  # changes under the reader's feet: it starts over
    wire.move_all()
    assert done == [names[1:]]
    wire.session.run(listing("/missing"), done.append)
    wire.move_all()
    assert done[1:] == [None]


def iter_rm(path: str) -> Conversation[None]:
    yield Rm(path)


def test_closing_ends_conversations_where_they_stand() -> None:
    wire = Delayed(Server())
    ended: list[str] = []

    def talk() -> Conversation[None]:
        try:
            yield Read("/a")
        finally:
            ended.append("cleaned up")

    wire.session.run(in_transaction(talk))
    wire.move()
    wire.session.close()
    assert ended == ["cleaned up"]
    assert wire.session.outstanding() == 0
    wire.move_all()
    assert wire.session.outstanding() == 0


def test_rubbish_from_the_store_is_an_error() -> None:
    session = Session(lambda data: None)
    with pytest.raises(WireError):
        session.receive(encode(xs.XS_WATCH_EVENT, 0, 0, b"no token"))
