"""What an unprivileged domain is held to, and that a flood of events stays bounded."""

from __future__ import annotations

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.errors import StoreError
from xnet.xenstore import Quota, Server, local_session
from xnet.xenstore.client import Conversation, Session
from xnet.xenstore.connection import Connection
from xnet.xenstore.ops import Mkdir, Op, Read, SetPerms, TransactionEnd, TransactionStart, Unwatch, Watch, Within, Write
from xnet.xenstore.wire import Parser, encode

SMALL = Quota(nodes=5, watches=3, outstanding=4, events=6, transactions=2, transaction_nodes=8, perms=3, node_size=40)


class Guest:
    """A store where domain 1 owns /mine, and a session for it, and one for dom0."""

    def __init__(self) -> None:
        self.server = Server(SMALL)
        self.dom0 = local_session(self.server)
        self.one = local_session(self.server, 1, privileged=False)
        assert ask(self.dom0, Mkdir("/mine")) is None
        assert ask(self.dom0, SetPerms("/mine", ["n1"])) is None


@pytest.fixture
def guest() -> Guest:
    return Guest()


def ask(session: Session, request: Op | Within) -> object:
    """The reply, or the error's name."""

    def talk() -> Conversation[object]:
        return (yield request)

    answers: list[object] = []
    session.run(talk(), answers.append)
    (answer,) = answers
    return answer.code if isinstance(answer, StoreError) else answer


def test_nodes_are_counted_by_owner(guest: Guest) -> None:
    for name in "abcd":
        assert ask(guest.one, Write(f"/mine/{name}", "")) is None
    assert ask(guest.one, Write("/mine/e", "")) == "ENOSPC"
    assert ask(guest.one, Write("/mine/a", "again")) is None
    assert ask(guest.dom0, Write("/mine/e", "")) is None


def test_a_path_that_does_not_fit_as_a_whole_is_not_made_in_part(guest: Guest) -> None:
    assert ask(guest.one, Write("/mine/a/b/c/d/e", "")) == "ENOSPC"
    assert ask(guest.one, Read("/mine/a")) is None


def test_transactions_together_do_not_go_over_the_node_quota(guest: Guest) -> None:
    """Each alone fits, and they do not conflict."""
    assert ask(guest.dom0, Mkdir("/other")) is None
    assert ask(guest.dom0, SetPerms("/other", ["b0"])) is None
    first, second = ask(guest.one, TransactionStart()), ask(guest.one, TransactionStart())
    assert isinstance(first, int)
    assert isinstance(second, int)
    for tx_id, top in ((first, "/mine"), (second, "/other")):
        for name in ("x", "y", "z"):
            assert ask(guest.one, Within(tx_id, Write(f"{top}/{name}", ""))) is None
    assert ask(guest.one, Within(first, TransactionEnd(commit=True))) is None
    assert ask(guest.one, Within(second, TransactionEnd(commit=True))) == "ENOSPC"
    assert ask(guest.dom0, Read("/other/x")) is None


def test_transactions_are_counted(guest: Guest) -> None:
    assert [ask(guest.one, TransactionStart()) for _ in range(3)] == [1, 2, "ENOSPC"]


def test_a_transaction_that_looks_at_too_much_is_stopped_whole(guest: Guest) -> None:
    tx_id = ask(guest.one, TransactionStart())
    assert isinstance(tx_id, int)
    answers = [ask(guest.one, Within(tx_id, Read(f"/mine/{number}"))) for number in range(10)]
    assert answers == [None] * 7 + ["ENOSPC"] * 3  # and /mine itself makes eight


def test_a_node_is_limited_in_size_with_its_children_and_permissions(guest: Guest) -> None:
    assert ask(guest.one, Write("/mine/a", "x" * 36)) is None
    assert ask(guest.one, Write("/mine/a", "x" * 37)) == "ENOSPC"
    assert ask(guest.one, SetPerms("/mine/a", ["n1", "r2"])) == "ENOSPC"
    assert ask(guest.one, Write("/mine/a/b", "")) == "ENOSPC"
    assert ask(guest.one, Mkdir("/mine/" + "n" * 40)) == "ENOSPC"
    assert ask(guest.dom0, Write("/mine/a", "x" * 4000)) is None


def test_permission_entries_are_counted(guest: Guest) -> None:
    assert ask(guest.one, SetPerms("/mine", ["n1", "r2", "r3"])) is None
    assert ask(guest.one, SetPerms("/mine", ["n1", "r2", "r3", "r4"])) == "ENOSPC"


def test_watches_are_counted(guest: Guest) -> None:
    assert [ask(guest.one, Watch("/mine", str(token))) for token in range(4)] == [None, None, None, "E2BIG"]
    assert ask(guest.one, Unwatch("/mine", "1")) is None
    assert ask(guest.one, Watch("/mine", "3")) is None


def silent(server: Server) -> Connection:
    """Domain 1 watching /mine, and taking nothing."""
    connection = server.connect(1)
    connection.receive(encode(xs.XS_WATCH, 1, 0, b"/mine\0t\0"))
    assert connection.waiting() == 2  # OK and the first event
    return connection


def test_a_flood_of_events_becomes_one_for_the_watch_itself(guest: Guest) -> None:
    connection = silent(guest.server)
    connection.take()
    for number in range(50):
        ask(guest.dom0, Write(f"/mine/{number}", ""))
    paths = [message.payload.split(b"\0")[0].decode() for message in Parser().feed(connection.take())]
    assert paths == [f"/mine/{number}" for number in range(6)] + ["/mine"]
    ask(guest.dom0, Write("/mine/50", ""))
    assert b"/mine/50\0t" in connection.take()


def test_who_does_not_take_its_output_is_congested_and_dom0_never_is(guest: Guest) -> None:
    connection = silent(guest.server)
    assert not connection.congested()
    connection.receive(encode(xs.XS_READ, 2, 0, b"/mine\0") * 2)
    assert connection.congested()
    connection.take(1)
    assert connection.congested()  # half a message still waits
    connection.take()
    assert not connection.congested()
    dom0 = guest.server.connect(0, privileged=True)
    dom0.receive(encode(xs.XS_READ, 2, 0, b"/mine\0") * 100)
    assert not dom0.congested()


def test_output_is_taken_in_any_portions(guest: Guest) -> None:
    whole, portions = silent(guest.server), silent(guest.server)
    assert whole.take(0) == b""
    expected = whole.take()
    assert b"".join(portions.take(3) for _ in range(len(expected) // 3 + 1)) == expected
    assert (whole.waiting(), portions.waiting()) == (0, 0)
