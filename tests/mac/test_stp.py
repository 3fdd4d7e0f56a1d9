"""Spanning tree: any network of bridges comes to a tree that reaches all, and to another when one falls silent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnet.mac.stp import EDGE_S, FORWARD_DELAY_S, GROUP, LLC, MAX_AGE_S, PRIORITY, SpanningTree

Port = tuple[int, int]
"""A bridge, and the segment it is on by that port."""


class Network:
    """Bridges with ports on segments, each a wire that all on it hear."""

    def __init__(self, ports: list[Port]) -> None:
        self.now = 0.0
        self.silent: set[int] = set()
        self.flushed = 0
        self.ports = ports
        self.queue: list[tuple[Port, int, bytes]] = []
        self.trees = {
            bridge: SpanningTree(
                bytes((2, 0, 0, 0, 0, bridge)),
                0.0,
                lambda name, frame, bridge=bridge: self.sent(bridge, int(name), frame),  # type: ignore[misc]
                self.flush,
                PRIORITY,
            )
            for bridge in sorted({bridge for bridge, _ in ports})
        }
        for i, (bridge, _) in enumerate(ports):
            self.trees[bridge].add(str(i), 0.0)
        self.settle()

    def flush(self) -> None:
        self.flushed += 1

    def sent(self, bridge: int, index: int, frame: bytes) -> None:
        self.queue.append(((bridge, self.ports[index][1]), index, frame))

    def settle(self) -> None:
        """Messages arrive until none is under way."""
        while self.queue:
            (bridge, segment), index, frame = self.queue.pop(0)
            if bridge in self.silent:
                continue
            for i, (other, where) in enumerate(self.ports):
                if where == segment and i != index and other not in self.silent:
                    self.trees[other].receive(str(i), frame, self.now)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            for bridge, tree in self.trees.items():
                if bridge not in self.silent:
                    tree.tick(self.now)
            self.settle()

    def forwarding(self) -> list[Port]:
        return [
            port
            for i, port in enumerate(self.ports)
            if port[0] not in self.silent and self.trees[port[0]].ports[str(i)].state == "forwarding"
        ]

    def parts(self, ports: list[Port]) -> tuple[int, bool]:
        """How many pieces segments and bridges are in, joined by these ports; and whether there is a loop."""
        home: dict[tuple[str, int], tuple[str, int]] = {}

        def find(node: tuple[str, int]) -> tuple[str, int]:
            while home.setdefault(node, node) != node:
                node = home[node]
            return node

        loop = False
        for bridge, segment in self.ports:
            if bridge not in self.silent:
                find(("bridge", bridge)), find(("segment", segment))
        for bridge, segment in ports:
            one, other = find(("bridge", bridge)), find(("segment", segment))
            loop |= one == other
            home[one] = other
        return len({find(node) for node in list(home)}), loop


PORTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=12)


@settings(max_examples=60)
@given(ports=PORTS)
def test_any_network_comes_to_a_tree(ports: list[Port]) -> None:
    network = Network(ports)
    for _ in range(60):
        network.run(1)
        _, loop = network.parts(network.forwarding())
        assert not loop, "not for a moment"
    pieces, _ = network.parts(network.ports)
    assert network.parts(network.forwarding()) == (pieces, False), "all that can be reached is"


@settings(max_examples=30)
@given(ports=PORTS)
def test_when_a_bridge_falls_silent_the_others_make_a_tree_of_their_own(ports: list[Port]) -> None:
    network = Network(ports)
    network.run(60)
    network.silent.add(min(network.trees))
    network.run(4 * MAX_AGE_S + 2 * FORWARD_DELAY_S)
    pieces, _ = network.parts([port for port in network.ports if port[0] not in network.silent])
    assert network.parts(network.forwarding()) == (pieces, False)


def test_a_wire_without_bridges_forwards_after_three_seconds() -> None:
    network = Network([(1, 1), (1, 2)])
    network.run(EDGE_S - 1)
    assert network.forwarding() == []
    network.run(1)
    assert network.forwarding() == [(1, 1), (1, 2)]


def test_two_wires_in_one_segment_are_a_loop_and_the_second_is_blocked() -> None:
    network = Network([(1, 1), (1, 1), (1, 2)])
    tree = network.trees[1]
    assert [port.state for port in tree.ports.values()] == ["listening", "blocking", "listening"]
    network.run(2 * FORWARD_DELAY_S)
    assert [port.role for port in tree.ports.values()] == ["designated", "blocked", "designated"]
    assert network.parts(network.forwarding()) == (1, False)


def test_the_least_bridge_is_the_root_and_cost_is_added_on_the_way() -> None:
    network = Network([(2, 1), (1, 1), (2, 2), (3, 2)])
    assert {tree.root for tree in network.trees.values()} == {network.trees[1].id}
    assert [network.trees[i].cost for i in (1, 2, 3)] == [0, 2000, 4000]


def test_a_link_that_leaves_makes_way_for_another() -> None:
    network = Network([(1, 1), (1, 1)])
    tree = network.trees[1]
    tree.remove("0", network.now)
    tree.remove("0", network.now)
    network.run(MAX_AGE_S + 2 * FORWARD_DELAY_S + 1)
    assert tree.ports["1"].state == "forwarding"
    assert tree.add("0", network.now).id == b"\x80\x01"
    network.settle()
    assert network.forwarding() == []
    assert [tree.ports[name].state for name in "01"] == ["listening", "blocking"]


def test_addresses_are_forgotten_when_somebody_says_that_they_moved() -> None:
    network = Network([(1, 1)])
    tree = network.trees[1]
    head = GROUP + bytes(6) + b"\0\x07" + LLC
    tree.receive("0", head + b"\0\0\0\x80", 0.0)
    assert network.flushed == 1
    tree.receive("9", head + b"\0\0\0\x80", 0.0)
    assert network.flushed == 1


@given(data=st.binary(max_size=80), whole=st.booleans())
def test_no_bytes_harm(data: bytes, whole: bool) -> None:
    network = Network([(1, 1), (1, 2)])
    network.trees[1].receive("0", GROUP + bytes(6) + b"\0\x26" + LLC + data if whole else data, 0.0)
    network.run(3)


@pytest.mark.parametrize("age", [20 * 256, 21 * 256])
def test_a_message_that_is_too_old_says_nothing(age: int) -> None:
    network = Network([(2, 1), (2, 2)])
    tree = network.trees[2]
    other = Network([(1, 1)])
    sent: list[bytes] = []
    other.trees[1].send = lambda _, frame: sent.append(frame)
    other.trees[1].hello(0.0)
    old = bytearray(sent[0])
    old[17 + 27 : 17 + 29] = age.to_bytes(2, "big")
    tree.receive("0", bytes(old), 0.0)
    assert tree.root == tree.id
    tree.receive("0", sent[0], 0.0)
    assert tree.root == other.trees[1].id
