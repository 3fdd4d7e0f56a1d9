"""A toolstack that is killed after any of its requests: what is in the store is whole, can be taken away, and the same
can be done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from xnet.errors import StoreError
from xnet.xenstore import Conversation, Server, Session, Write, local_session
from xnet.xenstore.connection import Connection
from xnet.xenstore.toolstack import (
    add_vif,
    destroy_vif,
    introduce_dom0,
    introduce_domain,
    remove_domain,
    remove_vif,
    vif_paths,
)
from xnet.xenstore.wire import Parser

Nodes = dict[str, tuple[bytes, tuple[object, ...]]]
MAC = "00:16:3e:00:00:01"


def nodes(server: Server) -> Nodes:
    """All there is, but for the directories in which all domains have theirs, which stay."""
    found = {path: (node.value, tuple(node.perms)) for path, node in server.tree.nodes.items()}
    return {path: node for path, node in found.items() if path not in ("/vm", "/libxl", "/local/domain/0/backend")}


def whole(server: Server, conversation: Conversation[object]) -> object:
    """Nobody is killed."""
    done: list[object] = []
    local_session(server).run(conversation, done.append)
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


def cut(server: Server, conversation: Conversation[object], after: int) -> bool:
    """Carry out so many requests, then die, connection and all; whether it came to its end before."""
    sent, done, parser = 0, list[object](), Parser()
    connection: Connection

    def send(data: bytes) -> None:
        nonlocal sent
        for _ in parser.feed(data):
            sent += 1
            if sent <= after:
                connection.receive(data)

    session = Session(send)
    connection = server.connect(0, privileged=True, wake=lambda: session.receive(connection.take()))
    session.run(conversation, done.append)
    session.close()
    connection.close()
    return bool(done)


def cuts(make: Callable[[], tuple[Server, Conversation[object]]]) -> Iterator[tuple[Server, int]]:
    """The server after each place where the conversation can be cut, up to none."""
    for after in range(1000):
        server, conversation = make()
        finished = cut(server, conversation, after)
        yield server, after
        if finished:
            return
    raise AssertionError("it never ended")


def fresh() -> Server:
    server = Server()
    whole(server, introduce_dom0())
    return server


def domain(server: Server) -> None:
    whole(server, introduce_domain(1, name="a", uuid="1-2-3", memory_kib=4096, store_frame=7, store_port=1))


def vif(server: Server) -> None:
    domain(server)
    whole(server, add_vif(1, 0, mac=MAC, bridge="xenbr0"))


def starting(make: Callable[[Server], None], order: Callable[[], Conversation[object]]) -> Iterator[tuple[Server, int]]:
    def begin() -> tuple[Server, Conversation[object]]:
        server = fresh()
        make(server)
        return server, order()

    return cuts(begin)


def nothing(_: Server) -> None:
    """A store with dom0 only."""


def test_a_domain_that_was_half_made_is_taken_away_and_made_again() -> None:
    def make() -> Conversation[object]:
        return introduce_domain(1, name="a", uuid="1-2-3", memory_kib=4096, store_frame=7, store_port=1)

    empty, wanted = fresh(), fresh()
    domain(wanted)
    seen = set()
    for server, after in starting(nothing, make):
        seen.add(len(server.tree.nodes))
        whole(server, remove_domain(1))
        assert nodes(server) == nodes(empty), f"after {after} requests"
        domain(server)
        assert nodes(server) == nodes(wanted)
    assert len(seen) >= 3, "nothing, its directories, all of it"


def test_a_vif_is_there_as_a_whole_or_not_at_all() -> None:
    without, wanted = fresh(), fresh()
    domain(without)
    vif(wanted)
    ends = []
    for server, after in starting(domain, lambda: add_vif(1, 0, mac=MAC, bridge="xenbr0")):
        there = nodes(server) == nodes(wanted)
        assert there or nodes(server) == nodes(without), f"after {after} requests"
        ends.append(there)
        if there:
            with pytest.raises(StoreError, match="EEXIST"):
                whole(server, add_vif(1, 0, mac=MAC, bridge="xenbr0"))
        else:
            whole(server, add_vif(1, 0, mac=MAC, bridge="xenbr0"))
        assert nodes(server) == nodes(wanted)
        whole(server, destroy_vif(1, 0))
        assert {path for path in nodes(server) if "vif" in path} == set()
    assert (ends[0], ends[-1]) == (False, True)
    assert len(ends) > 20


@pytest.mark.parametrize("order", [lambda: remove_vif(1, 0), lambda: destroy_vif(1, 0)], ids=["ask", "forget"])
def test_a_vif_whose_end_was_cut_short_is_ended_by_who_comes_next(order: Callable[[], Conversation[object]]) -> None:
    gone = fresh()
    vif(gone)
    whole(gone, destroy_vif(1, 0))
    back = vif_paths(1, 0).back
    for server, _ in starting(vif, order):
        asked = whole(server, remove_vif(1, 0))
        if asked:
            assert server.tree.nodes[f"{back}/state"].value == b"5"
            whole(server, closed(back))
        assert whole(server, remove_vif(1, 0)) is False
        whole(server, destroy_vif(1, 0))
        assert nodes(server) == nodes(gone)


def closed(back: str) -> Conversation[None]:
    """The backend's answer."""
    yield Write(f"{back}/state", 6)


def test_a_domain_whose_end_was_cut_short_is_ended_by_who_comes_next() -> None:
    empty = fresh()
    for server, after in starting(vif, lambda: remove_domain(1)):
        whole(server, remove_domain(1))
        assert nodes(server) == nodes(empty), f"after {after} requests"
        vif(server)
