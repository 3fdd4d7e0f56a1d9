"""Aggregations: streams stay on a port, go on by another when it fails, and nobody hears himself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mac.test_vswitch import BROADCAST, GROUP, STRANGER, A, B, C, D, Sink, Wire, burst, ether
from xnet.mac import LowerLink, Vnic
from xnet.mac.aggr import Aggregation, parse_policy
from xnet.testing.frames import changed, udp


class Trunk:
    """A link over wires, with vnics on it."""

    def __init__(self, wires: int, *macs: bytes, mode: str = "trunk", policy: tuple[str, ...] = ("L4",)) -> None:
        self.aggr = Aggregation("aggr0", policy, mode=mode)
        self.wires = [Wire() for _ in range(wires)]
        for i, wire in enumerate(self.wires):
            self.aggr.add(f"net{i}", wire)
        self.switch = LowerLink("aggr0").switch
        self.switch.connect(self.aggr)
        self.vnics = [Vnic(f"xvm{i}_0", self.switch, mac) for i, mac in enumerate(macs)]
        self.sinks = [Sink() for _ in macs]
        for vnic, sink in zip(self.vnics, self.sinks, strict=True):
            vnic.attach(sink)

    def sent(self) -> list[list[bytes]]:
        return [wire.far.frames for wire in self.wires]

    def come(self, wire: int, *frames: bytes) -> None:
        client = self.wires[wire].client
        assert client is not None
        client.rx(burst(*frames))


def streams(count: int) -> list[bytes]:
    """A frame of each."""
    return [stream(i) for i in range(count)]


def stream(number: int, payload: bytes = b"x") -> bytes:
    """A frame of one."""
    return changed(udp(payload), 34, (1000 + number).to_bytes(2, "big"))


@pytest.mark.parametrize(("text", "policy"), [("L4", ("L4",)), ("l4,L2", ("L2", "L4")), ("L3,L3", ("L3",))])
def test_a_policy_is_levels(text: str, policy: tuple[str, ...]) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize("text", ["", "L1", "L2 L3", "L2,"])
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match="policy"):
        parse_policy(text)


@given(order=st.lists(st.integers(0, 30), min_size=1, max_size=60), wires=st.integers(1, 4))
def test_each_stream_is_whole_and_in_order_on_one_port(order: list[int], wires: int) -> None:
    trunk = Trunk(wires, A)
    frames = [stream(each, bytes([i])) for i, each in enumerate(order)]
    trunk.vnics[0].tx(burst(*frames))
    assert sorted(frame for frames in trunk.sent() for frame in frames) == sorted(frames)
    for number in set(order):
        mine = [frame for frame, each in zip(frames, order, strict=True) if each == number]
        assert sum(mine == [frame for frame in sent if frame in mine] for sent in trunk.sent()) == 1


@pytest.mark.parametrize(("wires", "step"), [(2, 1), (2, 2), (3, 1), (3, 2), (4, 4)])
def test_many_streams_are_spread(wires: int, step: int) -> None:
    trunk = Trunk(wires, A)
    trunk.vnics[0].tx(burst(*streams(300 * step)[::step]))
    assert all(200 / wires < len(sent) < 400 / wires for sent in trunk.sent())


@pytest.mark.parametrize(("policy", "ports"), [(("L2",), 1), (("L3",), 1), (("L4",), 4), (("L2", "L4"), 4)])
def test_a_policy_says_what_a_stream_is(policy: tuple[str, ...], ports: int) -> None:
    trunk = Trunk(4, A, policy=policy)
    trunk.vnics[0].tx(burst(*streams(64)))
    assert sum(bool(sent) for sent in trunk.sent()) == ports


@pytest.mark.parametrize("frame", [b"", b"\0" * 13, ether(STRANGER), BROADCAST + A + b"\x81\x00", streams(1)[0][:30]])
def test_any_bytes_have_a_port(frame: bytes) -> None:
    trunk = Trunk(3)
    trunk.aggr.tx(burst(frame.ljust(1, b"\0")))
    assert sum(len(sent) for sent in trunk.sent()) == 1


def test_streams_of_a_failed_port_go_on_by_another_and_come_back() -> None:
    trunk = Trunk(2, A)
    frames = streams(20)
    trunk.vnics[0].tx(burst(*frames))
    before = [list(sent) for sent in trunk.sent()]
    assert all(before)
    trunk.aggr.set_up(trunk.aggr.ports[0], False)
    trunk.vnics[0].tx(burst(*frames))
    assert trunk.sent() == [before[0], before[1] + frames]
    trunk.aggr.set_up(trunk.aggr.ports[0], True)
    trunk.vnics[0].tx(burst(*frames))
    assert trunk.sent() == [before[0] * 2, before[1] + frames + before[1]]


def test_without_a_port_frames_are_dropped_and_counted() -> None:
    trunk = Trunk(1, A)
    trunk.aggr.set_up(trunk.aggr.ports[0], False)
    trunk.vnics[0].tx(burst(*streams(3)))
    assert trunk.aggr.dropped == 3
    assert trunk.sent() == [[]]


def test_a_port_comes_and_goes_with_its_wire_and_mtu() -> None:
    trunk = Trunk(1, A, B)
    small = Wire()
    small.mtu = 1000
    trunk.aggr.add("small", small)
    assert trunk.aggr.mtu == 1000
    assert small.client is not None
    small.client.rx(burst(ether(A, sender=C)))
    assert trunk.sinks[0].frames == [ether(A, sender=C)]
    assert trunk.aggr.ports[1].counters == {"ipackets": 1, "rbytes": 60, "opackets": 0, "obytes": 0}
    assert trunk.aggr.remove("small") is small
    assert small.client is None
    trunk.switch.connect(None)
    assert trunk.wires[0].client is None


@pytest.mark.parametrize("mode", ["trunk", "dlmp"])
def test_nobody_hears_his_own_group_frame_come_back(mode: str) -> None:
    trunk = Trunk(2, A, B, mode=mode)
    for wire in (0, 1):
        trunk.come(wire, ether(BROADCAST, sender=A), ether(GROUP, sender=B), ether(A, sender=C))
    assert not any(frame[0] & 1 for sink in trunk.sinks for frame in sink.frames)
    assert trunk.sinks[0].frames.count(ether(A, sender=C)) == (2 if mode == "trunk" else 1)


def test_dlmp_takes_what_every_port_brings_once_and_sends_an_address_by_one_port() -> None:
    trunk = Trunk(2, A, B, C, mode="dlmp")
    trunk.vnics[0].tx(burst(*[ether(STRANGER, i, sender=A) for i in range(9)]))
    assert sorted(len(sent) for sent in trunk.sent()) == [0, 9]
    for wire in (0, 1):
        trunk.come(wire, ether(BROADCAST, sender=D), ether(A, sender=D), ether(B, sender=D))
    assert [sorted(sink.frames) for sink in trunk.sinks] == [
        sorted([ether(BROADCAST, sender=D), ether(A, sender=D)]),
        sorted([ether(BROADCAST, sender=D), ether(B, sender=D)]),
        [ether(BROADCAST, sender=D)],
    ]


def test_dlmp_says_where_an_address_has_moved() -> None:
    trunk = Trunk(2, A, B, C, D, mode="dlmp")
    homes = trunk.aggr.places()
    first = trunk.aggr.ports[0]
    moved = sorted(mac for mac, port in homes.items() if port is first)
    assert moved, "some live there"
    trunk.aggr.set_up(first, False)
    said = trunk.wires[1].far.frames
    assert sorted(frame[6:12] for frame in said) == moved
    assert all(frame[:6] == BROADCAST and frame[12:14] == b"\x80\x35" for frame in said)
    assert trunk.wires[0].far.frames == []
    trunk.aggr.set_up(first, True)
    assert sorted(frame[6:12] for frame in trunk.wires[0].far.frames) == moved
    trunk.aggr.set_up(first, True)
    assert len(trunk.wires[0].far.frames) == len(moved), "said once"
