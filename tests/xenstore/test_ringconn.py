"""A domain and the store over the shared page, with an event channel that is pulled by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.xenstore import (
    Conversation,
    Ls,
    Mkdir,
    Read,
    RingClient,
    RingConnection,
    Server,
    SetPerms,
    Write,
    in_transaction,
    local_session,
)
from xnet.xenstore.wire import encode

STARTS = [0, 0x7FFF_FFF0, 0xFFFF_FFF0]


class Channel:
    """Pending bits of both ends; `run` delivers until both are quiet."""

    def __init__(self) -> None:
        self.pending: dict[str, bool] = {"store": False, "domain": False}
        self.handlers: dict[str, Callable[[], None]] = {}
        self.sent = 0

    def send(self, to: str) -> Callable[[], None]:
        def notify() -> None:
            self.pending[to] = True
            self.sent += 1

        return notify

    def run(self) -> None:
        while any(self.pending.values()):
            for end, handler in self.handlers.items():
                if self.pending[end]:
                    self.pending[end] = False
                    handler()


class Hosted:
    """Domain 1 with its page, whose indices start at `start`."""

    def __init__(self, start: int = 0) -> None:
        self.server = Server()
        self.memory = bytearray(4096)
        self.page = memoryview(self.memory)
        for offset in (xs.REQ_CONS, xs.REQ_PROD, xs.RSP_CONS, xs.RSP_PROD):
            self.set_word(offset, start)
        self.channel = Channel()
        self.connection = RingConnection(self.server, 1, self.page, self.channel.send("domain"))
        self.client = RingClient(self.page, self.channel.send("store"))
        self.channel.handlers = {"store": self.connection.upcall, "domain": self.client.upcall}
        self.dom0 = local_session(self.server)
        self.dom0.run(home())

    def word(self, offset: int) -> int:
        return int.from_bytes(self.page[offset : offset + 4], "little")

    def set_word(self, offset: int, value: int) -> None:
        self.page[offset : offset + 4] = value.to_bytes(4, "little")


def home() -> Conversation[None]:
    yield Mkdir("/local/domain/1/data")
    yield SetPerms("/local/domain/1", ["n0", "r1"])
    yield SetPerms("/local/domain/1/data", ["n1"])


@pytest.fixture(params=STARTS, ids=hex)
def hosted(request: pytest.FixtureRequest) -> Hosted:
    return Hosted(request.param)


def test_the_store_announces_what_its_page_can() -> None:
    hosted = Hosted()
    assert [hosted.word(offset) for offset in (xs.SERVER_FEATURES, xs.CONNECTION, xs.ERROR)] == [2 | 4, 0, 0]


def test_conversations_cross_the_page(hosted: Hosted) -> None:
    def talk(number: int) -> Conversation[tuple[str, str]]:
        yield Write(f"data/{number}", "v" * 300)
        return (yield Read(f"data/{number}")), (yield Read("data"))

    done: list[object] = []
    for number in range(8):
        hosted.client.session.run(talk(number), done.append)
    hosted.channel.run()
    assert done == [("v" * 300, "")] * 8


def test_replies_larger_than_the_ring_come_in_pieces(hosted: Hosted) -> None:
    names = [f"child-{number:03}-{'x' * 6}" for number in range(220)]

    def fill() -> Conversation[None]:
        for name in names:
            yield Mkdir(f"/local/domain/1/data/{name}")

    def look() -> Conversation[list[str]]:
        return (yield Ls("data"))

    hosted.dom0.run(fill())
    done: list[object] = []
    hosted.client.session.run(look(), done.append)
    assert hosted.word(xs.REQ_PROD) != hosted.word(xs.REQ_CONS)
    hosted.channel.run()
    assert done == [names]


def test_requests_larger_than_the_ring_are_sent_in_pieces(hosted: Hosted) -> None:
    def talk() -> Conversation[str]:
        yield Write("data/x", "v" * 1900)
        return (yield Read("data/x"))

    done: list[object] = []
    for _ in range(3):
        hosted.client.session.run(talk(), done.append)
    hosted.channel.run()
    assert done == ["v" * 1900] * 3


def test_watches_reach_the_domain_when_others_write(hosted: Hosted) -> None:
    seen: list[str] = []
    hosted.client.session.watch("data", lambda path, token: seen.append(path))
    hosted.channel.run()

    def poke() -> Conversation[None]:
        yield Write("/local/domain/1/data/x", "1")
        yield Write("/local/domain/1/data/x", "2")

    hosted.dom0.run(poke())
    assert seen == ["data"]
    hosted.channel.run()
    assert seen == ["data", "data/x", "data/x"]


def test_a_domain_that_does_not_read_is_not_read_from_either() -> None:
    hosted = Hosted()

    def fill() -> Conversation[None]:
        yield Write("/local/domain/1/data", "v" * 100)

    hosted.dom0.run(fill())
    ask = encode(xs.XS_READ, 1, 0, b"data\0")
    hosted.page[: 40 * len(ask)] = ask * 40
    hosted.set_word(xs.REQ_PROD, 40 * len(ask))
    hosted.connection.upcall()
    assert (hosted.word(xs.REQ_CONS), hosted.word(xs.RSP_PROD)) == (40 * len(ask), 1024)
    answered = hosted.server.requests
    hosted.page[40 * len(ask) : 41 * len(ask)] = ask
    hosted.set_word(xs.REQ_PROD, 41 * len(ask))
    hosted.connection.upcall()
    assert (hosted.word(xs.REQ_CONS), hosted.server.requests) == (40 * len(ask), answered)
    while hosted.word(xs.RSP_CONS) != hosted.word(xs.RSP_PROD):
        hosted.set_word(xs.RSP_CONS, hosted.word(xs.RSP_PROD))
        hosted.connection.upcall()
    assert hosted.word(xs.RSP_PROD) == 41 * (16 + 100)
    assert hosted.server.requests == answered + 1


def test_nothing_to_do_notifies_nobody() -> None:
    hosted = Hosted()
    hosted.connection.upcall()
    hosted.client.upcall()
    assert hosted.channel.sent == 0


def test_a_transaction_is_done_again_after_a_conflict(hosted: Hosted) -> None:
    tries: list[str] = []

    def body() -> Conversation[None]:
        value = (yield Read("data/n")) or ""
        tries.append(value)
        if len(tries) == 1:
            hosted.dom0.run(interfere())
        yield Write("data/n", value + "x")

    def interfere() -> Conversation[None]:
        yield Write("/local/domain/1/data/n", "y")

    hosted.client.session.run(in_transaction(body))
    hosted.channel.run()
    assert tries == ["", "y"]
    assert hosted.server.tree.nodes["/local/domain/1/data/n"].value == b"yx"


LIES = {
    "a request producer past the ring": (xs.REQ_PROD, 1025, xs.XENSTORE_ERROR_RINGIDX),
    "a response consumer ahead of the store": (xs.RSP_CONS, 1, xs.XENSTORE_ERROR_RINGIDX),
}


@pytest.mark.parametrize(("offset", "ahead", "error"), LIES.values(), ids=LIES.keys())
def test_a_lying_index_costs_the_connection_and_nothing_else(
    hosted: Hosted, offset: int, ahead: int, error: int
) -> None:
    hosted.client.session.watch("data", lambda path, token: None)
    hosted.channel.run()
    hosted.set_word(offset, (hosted.word(offset) + ahead) & 0xFFFF_FFFF)
    hosted.connection.upcall()
    assert hosted.word(xs.ERROR) == error
    assert hosted.connection.closed
    assert hosted.server.statistics().watches == 0
    assert hosted.channel.pending["domain"]
    hosted.connection.upcall()
    hosted.dom0.run(home())


def test_an_oversize_payload_costs_the_connection() -> None:
    hosted = Hosted()
    hosted.page[:16] = xs.XSD_SOCKMSG.pack(xs.XS_WRITE, 1, 0, 4097)
    hosted.set_word(xs.REQ_PROD, 16)
    hosted.connection.upcall()
    assert hosted.word(xs.ERROR) == xs.XENSTORE_ERROR_PROTO
    assert hosted.connection.closed


def test_closed_ends_let_the_page_go() -> None:
    hosted = Hosted()
    hosted.client.session.watch("data", lambda path, token: None)
    hosted.channel.run()
    hosted.client.close()
    hosted.client.close()
    hosted.client.upcall()
    hosted.client.session.run(home())
    hosted.connection.close()
    hosted.connection.upcall()
    hosted.dom0.run(home())
    assert hosted.server.statistics().watches == 0
    hosted.page.release()
    hosted.memory.append(0)  # BufferError if a view were left
