"""The learning bridge of links: against a naive bridge, frame by frame, and what a model does not say."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.mac.test_vswitch import BROADCAST, GROUP, Sink, Wire, burst, ether
from xnet.mac import Etherstub, LowerLink, Vnic
from xnet.mac.bridge import AGE_S, DECAY_S, Bridge
from xnet.testing.clock import HandClock

LOCAL = [bytes.fromhex(f"00163e0000{i:02x}") for i in range(6)]
FAR = [bytes.fromhex(f"020000000a{i:02x}") for i in range(4)]
LINKS = ("net0", "net1", "stub0")


class House:
    """Two wires and an etherstub in a bridge, with two vnics on each; net1's second is in VLAN 5, as stub0's."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.bridge = Bridge("br0", self.clock)
        self.wires = {name: Wire() for name in LINKS[:2]}
        self.switches = {name: LowerLink(name).switch for name in LINKS[:2]} | {
            "stub0": Etherstub("stub0", 1500).switch
        }
        self.vnics: dict[bytes, Vnic] = {}
        self.sinks: dict[bytes, Sink] = {}
        for name, wire in self.wires.items():
            self.switches[name].connect(wire)
        for i, mac in enumerate(LOCAL):
            name = LINKS[i // 2]
            vnic = Vnic(f"v{i}", self.switches[name], mac, vid=5 if i in (3, 5) else 0)
            self.vnics[mac], self.sinks[mac] = vnic, Sink()
            vnic.attach(self.sinks[mac])
        for name in LINKS:
            self.bridge.add(name, self.switches[name], self.wires.get(name))

    def home(self, mac: bytes) -> str:
        return LINKS[LOCAL.index(mac) // 2]

    def come(self, name: str, *frames: bytes) -> None:
        client = self.wires[name].client
        assert client is not None
        client.rx(burst(*frames))

    def taken(self) -> dict[str | bytes, list[bytes]]:
        """What each got since the last look."""
        places: dict[str | bytes, Sink] = {name: wire.far for name, wire in self.wires.items()}
        places |= dict(self.sinks.items())
        found = {name: list(place.frames) for name, place in places.items() if place.frames}
        for place in places.values():
            place.frames.clear()
        return found


def test_a_client_is_found_wherever_it_is_and_nobody_else_hears() -> None:
    house = House()
    frame = ether(LOCAL[4], sender=LOCAL[0])
    house.vnics[LOCAL[0]].tx(burst(frame))
    assert house.taken() == {LOCAL[4]: [frame]}
    house.come("net1", ether(LOCAL[0], sender=FAR[0]))
    assert house.taken() == {LOCAL[0]: [ether(LOCAL[0], sender=FAR[0])]}


def test_unknown_is_flooded_and_an_answer_is_learned_from() -> None:
    house = House()
    question, answer = ether(FAR[0], sender=LOCAL[0]), ether(LOCAL[0], sender=FAR[0])
    house.vnics[LOCAL[0]].tx(burst(question))
    assert set(house.taken()) == {"net0", "net1"}, "switches find nobody of that address"
    house.come("net1", answer)
    assert house.taken() == {LOCAL[0]: [answer]}
    house.vnics[LOCAL[0]].tx(burst(question))
    assert house.taken() == {"net1": [question]}
    house.come("net1", question)
    assert house.taken() == {}, "it was there already"
    assert house.bridge.members["net1"].counters["drops"] == 1


def test_groups_are_for_all_but_where_they_come_from() -> None:
    house = House()
    house.vnics[LOCAL[0]].tx(burst(frame := ether(BROADCAST, sender=LOCAL[0])))
    assert house.taken() == {place: [frame] for place in ("net0", "net1", LOCAL[1], LOCAL[2], LOCAL[4])}
    house.come("net0", frame := ether(GROUP, sender=FAR[0]))
    assert house.taken() == {place: [frame] for place in ("net1", *(LOCAL[i] for i in (0, 1, 2, 4)))}


def test_vlans_cross_only_links_that_have_them() -> None:
    house = House()
    house.vnics[LOCAL[3]].tx(burst(ether(BROADCAST, sender=LOCAL[3])))
    assert house.taken() == {
        "net1": [ether(BROADCAST, sender=LOCAL[3], vid=5, size=64)],
        LOCAL[5]: [ether(BROADCAST, sender=LOCAL[3])],
    }
    house.come("net0", ether(BROADCAST, sender=FAR[0], vid=5, size=64))
    assert house.taken() == {}


def test_the_default_vlan_of_a_link_is_what_comes_without_a_tag() -> None:
    house = House()
    house.bridge.members["net0"].default_tag = 5
    house.come("net0", ether(BROADCAST, sender=FAR[0]))
    assert house.taken() == {
        "net1": [ether(BROADCAST, sender=FAR[0], vid=5, size=64)],
        LOCAL[0]: [ether(BROADCAST, sender=FAR[0])],
        LOCAL[1]: [ether(BROADCAST, sender=FAR[0])],
        LOCAL[3]: [ether(BROADCAST, sender=FAR[0])],
        LOCAL[5]: [ether(BROADCAST, sender=FAR[0])],
    }
    house.vnics[LOCAL[3]].tx(burst(frame := ether(FAR[0], sender=LOCAL[3])))
    assert house.taken() == {"net0": [frame]}
    house.bridge.members["net0"].default_tag = 0
    house.come("net0", ether(BROADCAST, sender=FAR[1]))
    assert set(house.taken()) == {LOCAL[0], LOCAL[1]}, "no untagged frames are bridged"


def test_control_frames_stay_on_their_link() -> None:
    house = House()
    stp = bytes.fromhex("0180c2000000")
    house.come("net0", ether(stp, sender=FAR[0]))
    assert set(house.taken()) == {LOCAL[0], LOCAL[1]}
    house.vnics[LOCAL[0]].tx(burst(ether(stp, sender=LOCAL[0])))
    assert set(house.taken()) == {LOCAL[1], "net0"}


def test_a_link_that_does_not_forward_keeps_to_itself() -> None:
    house = House()
    house.bridge.members["net0"].forward = False
    house.come("net0", ether(BROADCAST, sender=FAR[0]))
    assert set(house.taken()) == {LOCAL[0], LOCAL[1]}
    house.vnics[LOCAL[0]].tx(burst(ether(LOCAL[4], sender=LOCAL[0])))
    assert house.taken() == {}


def test_what_is_not_heard_of_is_forgotten() -> None:
    house = House()
    house.come("net1", ether(BROADCAST, sender=FAR[0]))
    house.taken()
    house.clock.run_until(house.clock.now() + AGE_S)
    house.vnics[LOCAL[0]].tx(burst(ether(FAR[0], sender=LOCAL[0])))
    assert set(house.taken()) == {"net1"}
    house.clock.run_until(house.clock.now() + 1)
    house.vnics[LOCAL[0]].tx(burst(ether(FAR[0], sender=LOCAL[0])))
    assert set(house.taken()) == {"net0", "net1"}
    assert not any(age is not None for *_, age in house.bridge.entries())


def test_a_link_learns_no_more_than_its_limit_until_it_has_decayed() -> None:
    house = House()
    member = house.bridge.members["net0"]
    member.learn_limit, member.learn_decay = 3, 2
    many = [bytes.fromhex(f"0200000b00{i:02x}") for i in range(6)]
    house.come("net0", *(ether(BROADCAST, sender=mac) for mac in many))
    assert [mac for mac, _, _, age in house.bridge.entries() if age is not None] == many[:3]
    house.clock.run_until(house.clock.now() + DECAY_S)
    house.come("net0", *(ether(BROADCAST, sender=mac) for mac in many))
    assert [mac for mac, _, _, age in house.bridge.entries() if age is not None] == many[:5]


def test_a_members_own_address_is_not_learned_elsewhere() -> None:
    house = House()
    house.come("net1", ether(BROADCAST, sender=LOCAL[0]))
    house.taken()
    house.vnics[LOCAL[4]].tx(burst(frame := ether(LOCAL[0], sender=LOCAL[4])))
    assert house.taken() == {LOCAL[0]: [frame]}


def test_who_leaves_has_its_wire_again_and_is_forgotten() -> None:
    house = House()
    house.come("net0", ether(BROADCAST, sender=FAR[0]))
    house.taken()
    house.bridge.remove("net0")
    assert house.wires["net0"].client is house.switches["net0"]
    house.vnics[LOCAL[2]].tx(burst(ether(FAR[0], sender=LOCAL[2])))
    house.vnics[LOCAL[0]].tx(burst(ether(FAR[1], sender=LOCAL[0])))
    assert house.taken() == {"net1": [ether(FAR[0], sender=LOCAL[2])], "net0": [ether(FAR[1], sender=LOCAL[0])]}


@pytest.mark.parametrize("size", [1, 13, 14, 17])
def test_frames_that_are_cut_off_are_dropped_or_carried(size: int) -> None:
    house = House()
    house.come("net0", ether(BROADCAST, sender=FAR[0], vid=5, size=64)[:size])
    counted = house.bridge.members["net0"].counters
    assert counted["drops"] == (size < 14)
    assert counted["recv"] == 1


class Naive(RuleBasedStateMachine):
    """Every frame of any burst, as a bridge with no cleverness passes it (one VLAN)."""

    @initialize()
    def build(self) -> None:
        self.house = House()
        for mac in (LOCAL[3], LOCAL[5]):
            self.house.vnics.pop(mac).close()
            self.house.sinks.pop(mac)
        self.where: dict[bytes, str] = {}

    def expected(self, link: str, sender: bytes, to: bytes, *, from_wire: bool) -> set[str | bytes]:
        here = [mac for mac in self.house.vnics if mac != sender or from_wire]
        if from_wire and not sender[0] & 1 and sender not in self.house.vnics:
            self.where[sender] = link
        if to in self.house.vnics:
            return {to}
        if to[0] & 1:
            return {*here, *(name for name in self.house.wires if name != link or not from_wire)}
        if to in self.where:
            return {self.where[to]} - ({link} if from_wire else set())
        # who is alone on a link gets all that comes for it
        alone: set[str | bytes] = {
            mac
            for mac in self.house.vnics
            if len(self.house.switches[self.house.home(mac)].ports) == 1 and (from_wire or self.house.home(mac) != link)
        }
        return {*(name for name in self.house.wires if name != link or not from_wire), *alone}

    @rule(
        link=st.sampled_from(LINKS[:2]),
        pairs=st.lists(
            st.tuples(st.sampled_from(FAR), st.sampled_from([*LOCAL, *FAR, BROADCAST])), min_size=1, max_size=5
        ),
    )
    def from_wire(self, link: str, pairs: list[tuple[bytes, bytes]]) -> None:
        frames = [ether(to, i, sender=sender) for i, (sender, to) in enumerate(pairs)]
        wanted: dict[str | bytes, list[bytes]] = {}
        for frame, (sender, to) in zip(frames, pairs, strict=True):
            for place in self.expected(link, sender, to, from_wire=True):
                wanted.setdefault(place, []).append(frame)
        self.house.come(link, *frames)
        assert self.house.taken() == wanted

    @rule(mac=st.sampled_from([LOCAL[i] for i in (0, 1, 2, 4)]), to=st.sampled_from([*LOCAL, *FAR, BROADCAST]))
    def from_client(self, mac: bytes, to: bytes) -> None:
        frame = ether(to, sender=mac)
        link = self.house.home(mac)
        wanted = self.expected(link, mac, to, from_wire=False)
        if to == mac and len(self.house.switches[link].ports) == 1:
            wanted = {mac}
        self.house.vnics[mac].tx(burst(frame))
        assert self.house.taken() == {place: [frame] for place in wanted}

    @precondition(lambda self: self.house.clock.now() < AGE_S / 2)
    @rule()
    def time_goes_on(self) -> None:
        self.house.clock.run_until(self.house.clock.now() + DECAY_S)

    @invariant()
    def fixed_and_learned_never_meet(self) -> None:
        if hasattr(self, "house"):
            assert not {mac for mac, _ in self.house.bridge.table} & set(self.house.vnics)


Naive.TestCase.settings = settings(max_examples=50, stateful_step_count=15)
TestNaive = Naive.TestCase
