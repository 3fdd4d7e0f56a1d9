"""The state table, and what the helpers write."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest

from xnet.abi.xen.xenbus import XenbusState
from xnet.xenstore import Conversation, Mkdir, Rm, Server, SetPerms, local_session
from xnet.xenstore import xenbus as bus
from xnet.xenstore.client import Session

S = XenbusState
EDGES = {
    (S.Initialising, S.InitWait),
    (S.Initialising, S.Closed),
    (S.InitWait, S.Connected),
    (S.InitWait, S.Closing),
    (S.Connected, S.Closing),
    (S.Closing, S.Closed),
    (S.Closed, S.InitWait),
    (S.Closed, S.Closing),
}
"""The steps Linux's netback takes."""
BACKEND_STATES = [S.Initialising, S.InitWait, S.Connected, S.Closing, S.Closed]


def shortest(current: XenbusState, wanted: XenbusState) -> int | None:
    """Steps from one to the other, found by search."""
    todo = deque([(current, 0)])
    seen = {current}
    while todo:
        at, steps = todo.popleft()
        if at is wanted:
            return steps
        for start, end in EDGES:
            if start is at and end not in seen:
                seen.add(end)
                todo.append((end, steps + 1))
    return None


@pytest.mark.parametrize("current", BACKEND_STATES)
@pytest.mark.parametrize("wanted", BACKEND_STATES)
def test_every_way_uses_netbacks_steps_and_is_the_shortest(current: XenbusState, wanted: XenbusState) -> None:
    steps = shortest(current, wanted)
    if steps is None:
        with pytest.raises(bus.NoTransition) as error:
            bus.path_to(current, wanted)
        assert wanted.name in str(error.value)
        return
    way = [current, *bus.path_to(current, wanted)]
    assert way[-1] is wanted
    assert set(pairwise(way)) <= EDGES
    assert len(way) - 1 == steps


@pytest.mark.parametrize("state", [S.Unknown, S.Initialised, S.Reconfiguring, S.Reconfigured])
def test_states_no_backend_has_are_refused(state: XenbusState) -> None:
    with pytest.raises(bus.NoTransition):
        bus.path_to(S.Connected, state)
    with pytest.raises(bus.NoTransition):
        bus.path_to(state, S.Connected)


@pytest.mark.parametrize(
    ("text", "state"),
    [(None, S.Unknown), ("0", S.Unknown), ("4", S.Connected), ("8", S.Reconfigured), ("9", None), ("", None)]
    + [(text, None) for text in ("-1", "four", "4\n", "1e0", "\u0664x")],
)
def test_a_state_node_is_a_state_missing_or_nonsense(text: str | None, state: XenbusState | None) -> None:
    assert bus.parse_state(text) is state


def guest() -> tuple[Server, Session]:
    """A store where domain 1 has a home with a device in state 1."""
    server = Server()

    def home() -> Conversation[None]:
        yield Mkdir("/local/domain/1/device/vif/0/state")
        yield SetPerms("/local/domain/1/device/vif/0", ["n1"])
        yield SetPerms("/local/domain/1/device/vif/0/state", ["n1"])
        yield Mkdir("/local/domain/1/error")
        yield SetPerms("/local/domain/1/error", ["n1"])

    local_session(server).run(home())
    return server, local_session(server, 1, privileged=False)


def value(server: Server, path: str) -> bytes | None:
    node = server.tree.get(path)
    return node and node.value


def test_a_state_is_written_only_where_one_stands() -> None:
    server, session = guest()
    done: list[object] = []
    session.run(bus.switch_state("device/vif/0", S.Connected), done.append)
    session.run(bus.read_state("device/vif/0"), done.append)
    assert value(server, "/local/domain/1/device/vif/0/state") == b"4"

    def gone() -> Conversation[None]:
        yield Rm("/local/domain/1/device/vif/0")

    local_session(server).run(gone())
    session.run(bus.switch_state("device/vif/0", S.Closed), done.append)
    session.run(bus.read_state("device/vif/0"), done.append)
    assert done[:3] == [True, S.Connected, False]
    assert value(server, "/local/domain/1/device/vif/0") is None


def test_a_fatal_error_leaves_a_message_and_closes() -> None:
    server, session = guest()
    session.run(bus.dev_fatal("device/vif/0", 22, "ring of no size"))
    assert value(server, "/local/domain/1/error/device/vif/0/error") == b"22 ring of no size"
    assert value(server, "/local/domain/1/device/vif/0/state") == b"5"
