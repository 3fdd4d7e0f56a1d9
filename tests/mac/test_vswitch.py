"""The implicit switch: who gets what, and a naive model that says the same frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import DOMID_SELF
from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    Chain,
    Client,
    Frame,
    Link,
    own,
)
from xnet.mac import Etherstub, LowerLink, MacError, Vnic

A, B, C, D = (bytes.fromhex(f"00163e00000{i}") for i in "1234")
STRANGER = bytes.fromhex("00163e0000ff")
BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("333300000001")
OTHER_GROUP = bytes.fromhex("01005e000007")
IPV4 = b"\x08\x00"


class Sink(Client):
    """A client that keeps what it got."""

    def __init__(self) -> None:
        self.chains: list[Chain] = []
        self.frames: list[bytes] = []
        self.words: list[int] = []
        self.waiting = 0

    def backlog(self) -> int:
        return self.waiting

    def rx(self, chain: Chain) -> None:
        self.chains.append(chain)
        self.frames += [chain.tobytes(frame) for frame in chain.frames]
        self.words += [frame[0] for frame in chain.frames]
        assert all(frame[1] == len(chain.tobytes(frame)) for frame in chain.frames)

    def room(self) -> int:
        return 1

    def link_ready(self) -> None:
        raise AssertionError("a vnic is always ready")


class Wire(Link):
    """An uplink that keeps what is sent."""

    def __init__(self) -> None:
        self.mtu = 1500
        self.heads_only = False
        self.client: Client | None = None
        self.far = Sink()
        self.ready = 0

    def tx(self, chain: Chain) -> None:
        self.far.rx(chain)

    def room(self) -> int:
        return 1

    def client_ready(self) -> None:
        self.ready += 1

    def attach(self, client: Client | None) -> None:
        self.client = client


def ether(to: bytes, mark: object = "", sender: bytes = A, *, vid: int | None = None, size: int = 60) -> bytes:
    tag = b"" if vid is None else b"\x81\x00" + vid.to_bytes(2, "big")
    return (to + sender + tag + IPV4 + str(mark).encode()).ljust(size, b"\0")


def burst(*frames: bytes, word: int = 0) -> Chain:
    """Frames at odd addresses of one memory."""
    memory, placed = bytearray(1), []
    for frame in frames:
        placed.append(own(word, len(memory), len(frame)))
        memory += frame + b"\xa5" * (len(frame) % 3)
    return Chain(memoryview(bytes(memory)).toreadonly(), placed)


class House:
    """A link with vnics, a sink in each and a wire under it."""

    def __init__(self, *ports: tuple[bytes, int] | bytes, mtu: int = 1500, wired: bool = True) -> None:
        self.wire = Wire()
        link = LowerLink("net0", mtu=mtu)
        self.switch = link.switch
        if wired:
            self.switch.connect(self.wire)
        self.vnics: list[Vnic] = []
        self.sinks: list[Sink] = []
        for i, port in enumerate(ports):
            mac, vid = (port, 0) if isinstance(port, bytes) else port
            self.add(Vnic(f"xvm{i + 1}_0", self.switch, mac, vid=vid))

    def add(self, vnic: Vnic) -> Vnic:
        self.vnics.append(vnic)
        self.sinks.append(Sink())
        vnic.attach(self.sinks[-1])
        return vnic

    def got(self) -> list[list[bytes]]:
        """What each vnic's client got, and last what the wire did."""
        return [sink.frames for sink in [*self.sinks, self.wire.far]]


# to, from the first of three vnics; then who gets it (W: the wire)
TX = [
    ("another vnic", B, "B"),
    ("itself", A, "A"),
    ("nobody here", STRANGER, "W"),
    ("everybody", BROADCAST, "BCW"),
    ("a multicast group", GROUP, "BCW"),
]


@pytest.mark.parametrize(("to", "receivers"), [row[1:] for row in TX], ids=[row[0] for row in TX])
def test_a_frame_from_a_vnic_goes_to(to: bytes, receivers: str) -> None:
    house = House(A, B, C)
    frame = ether(to)
    house.vnics[0].tx(burst(frame))
    assert house.got() == [[frame] * (who in receivers) for who in "ABCW"]


@pytest.mark.parametrize(("to", "receivers"), [row[1:] for row in TX], ids=[row[0] for row in TX])
def test_on_an_etherstub_the_wires_copy_vanishes_but_counts_as_sent(to: bytes, receivers: str) -> None:
    switch = Etherstub("stub0").switch
    vnics, sinks = [Vnic(f"xvm{i}_0", switch, mac) for i, mac in enumerate((A, B, C))], [Sink(), Sink(), Sink()]
    for vnic, sink in zip(vnics, sinks, strict=True):
        vnic.attach(sink)
    vnics[0].tx(burst(ether(to)))
    assert [len(sink.frames) for sink in sinks] == [who in receivers for who in "ABC"]
    assert vnics[0].statistics()["opackets"] == 1
    assert vnics[0].statistics()["obytes"] == 60


@pytest.mark.parametrize(("to", "receivers"), [(A, "A"), (C, "C"), (STRANGER, ""), (BROADCAST, "ABC"), (GROUP, "ABC")])
def test_a_frame_from_the_wire_goes_to(to: bytes, receivers: str) -> None:
    house = House(A, B, C)
    frame = ether(to, sender=D)
    house.switch.rx(burst(frame))
    assert house.got() == [[frame] * (who in receivers) for who in "ABC"] + [[]]
    assert house.switch.statistics()["unknown"] == (not receivers)
    assert house.switch.statistics()["ipackets"] == 1


@pytest.mark.parametrize("to", [A, B, STRANGER, BROADCAST, GROUP])
def test_a_vnic_that_is_alone_sends_all_to_the_wire_and_gets_all_from_it(to: bytes) -> None:
    house = House(A)
    frame, answer = ether(to), ether(to, sender=D)
    house.vnics[0].tx(burst(frame))
    house.switch.rx(burst(answer))
    assert house.got() == [[answer], [frame]]


def test_nothing_is_learned() -> None:
    house = House(A, B, C)
    house.vnics[0].tx(burst(ether(B, sender=STRANGER)))
    house.vnics[1].tx(burst(ether(STRANGER, sender=B)))
    assert house.got()[0] == []
    assert house.wire.far.frames == [ether(STRANGER, sender=B)]


# --- groups


def test_a_vnic_without_all_multicast_gets_broadcasts_and_what_it_joined() -> None:
    house = House(A)
    picky = house.add(Vnic("xvm2_0", house.switch, B, all_multicast=False))
    frames = [ether(to) for to in (GROUP, OTHER_GROUP, BROADCAST)]
    picky.join(GROUP)
    house.vnics[0].tx(burst(*frames))
    assert house.got()[1] == [frames[0], frames[2]]
    picky.leave(GROUP)
    picky.leave(OTHER_GROUP)
    house.switch.rx(burst(*frames))
    assert house.got()[1] == [frames[0], frames[2], frames[2]]
    assert house.wire.far.frames == frames


# --- VLANs


def test_vlans_never_mix_and_tags_are_the_wires() -> None:
    house = House(A, (B, 5), (C, 5), (D, 6))
    for to in (A, C, D, BROADCAST):
        house.vnics[1].tx(burst(ether(to, to, sender=B)))
    assert house.got()[:4] == [
        [],
        [],
        [ether(C, C, sender=B), ether(BROADCAST, BROADCAST, sender=B)],
        [],
    ]
    assert house.wire.far.frames == [ether(to, to, sender=B, vid=5, size=64) for to in (A, D, BROADCAST)]


def test_a_tagged_frame_from_the_wire_is_for_its_vlan_and_arrives_plain() -> None:
    house = House(A, (A, 5), (B, 5), (C, 6))
    house.switch.rx(
        burst(
            *(ether(to, i, sender=D, vid=5, size=64) for i, to in enumerate((A, BROADCAST, C))),
            ether(B, 3, sender=D),
            ether(A, 4, sender=D),
            ether(BROADCAST, 5, sender=D, vid=9),
        )
    )
    assert house.got()[:4] == [
        [ether(A, 4, sender=D)],
        [ether(A, 0, sender=D), ether(BROADCAST, 1, sender=D)],
        [ether(BROADCAST, 1, sender=D)],
        [],
    ]
    assert house.switch.statistics()["unknown"] == 3


@pytest.mark.parametrize("cut", [1, 6, 12, 13, 15, 16, 17, 30])
def test_a_tag_is_taken_out_wherever_the_pieces_meet(cut: int) -> None:
    house = House((A, 5), (B, 5))
    frame = ether(A, "mark", sender=D, vid=5, size=64)
    memory = frame[:cut].ljust(100, b"\xa5") + frame[cut:]
    pieces = ((0, cut, DOMID_SELF, 0), (100, 64 - cut, 3, 8))
    chain = Chain(memoryview(memory), [(CSUM_BLANK, 64, pieces)])
    house.switch.rx(chain)
    if cut < 14:  # netif's own rule: the first piece holds the Ethernet header
        assert house.switch.statistics()["ierrors"] == 1
        return
    assert house.got()[0] == [ether(A, "mark", sender=D)]
    assert house.sinks[0].words == [CSUM_BLANK]
    assert chain.frames[0][2] == pieces


def test_a_tagged_frame_keeps_its_word_and_its_order_among_others() -> None:
    house = House((A, 5), (B, 5))
    frames = [ether(to, i) for i, to in enumerate((STRANGER, B, STRANGER, BROADCAST))]
    house.vnics[0].tx(burst(*frames, word=CSUM_BLANK | DATA_VALIDATED))
    assert house.wire.far.frames == [ether(frames[i][:6], i, vid=5, size=64) for i in (0, 2, 3)]
    assert house.wire.far.words == [CSUM_BLANK | DATA_VALIDATED] * 3


@pytest.mark.parametrize(
    ("port", "vid", "others", "counter"),
    [
        ((A, 0), 5, 1, "txerrors"),  # not its VLAN
        ((A, 5), 5, 1, "txerrors"),  # tags are added for it
        ((A, 5), 5, 0, "txerrors"),
        ((A, 0), 0, 1, "opackets"),  # a priority is no VLAN
        ((A, 0), 5, 0, "opackets"),  # alone, it owns the link
    ],
)
def test_who_may_send_tags(port: tuple[bytes, int], vid: int, others: int, counter: str) -> None:
    house = House(port, *[(B, 0)] * others)
    house.vnics[0].tx(burst(ether(STRANGER, vid=vid, size=64)))
    counted = house.vnics[0].statistics()
    assert counted[counter] == 1
    assert counted["opackets"] + counted["txerrors"] == 1
    assert house.wire.far.frames == [ether(STRANGER, vid=vid, size=64)] * counted["opackets"]


def test_alone_and_untagged_means_tags_pass_both_ways_but_a_vlans_vnic_sees_only_its_own() -> None:
    frames = [ether(B, "mine", vid=5, size=64), ether(B, "other", vid=6, size=64), ether(B, "plain")]
    trunk, access = House(A), House((A, 5))
    trunk.switch.rx(burst(*frames))
    access.switch.rx(burst(*frames))
    assert trunk.sinks[0].frames == frames
    assert access.sinks[0].frames == [ether(B, "mine")]


# --- bursts


def test_a_burst_to_one_place_is_passed_on_as_it_is() -> None:
    house = House(A, B, C)
    for to, places in ((B, [1]), (STRANGER, [3]), (BROADCAST, [1, 2, 3])):
        chain = burst(*(ether(to, i) for i in range(64)))
        house.vnics[0].tx(chain)
        for place in places:
            assert [*house.sinks, house.wire.far][place].chains[-1] is chain
    chain = burst(*(ether(B, i) for i in range(64)))
    house.switch.rx(chain)
    assert house.sinks[1].chains[-1] is chain


def test_a_mixed_burst_is_one_chain_for_each_place_in_order() -> None:
    house = House(A, B, C)
    order = [B, C, B, BROADCAST, STRANGER, C, B]
    frames = [ether(to, i) for i, to in enumerate(order)]
    house.vnics[0].tx(burst(*frames))
    assert house.got() == [[]] + [
        [frame for frame in frames if frame[:6] in wanted]
        for wanted in ((B, BROADCAST), (C, BROADCAST), (STRANGER, BROADCAST))
    ]
    assert [len(sink.chains) for sink in house.sinks] == [0, 1, 1]
    assert len(house.wire.far.chains) == 1


def test_an_empty_chain_reaches_nobody() -> None:
    house = House(A, B)
    house.vnics[0].tx(burst())
    house.switch.rx(burst())
    assert [sink.chains for sink in [*house.sinks, house.wire.far]] == [[], [], []]


def test_a_client_may_answer_in_the_turn() -> None:
    house = House(A, B)

    class Echo(Sink):
        def rx(self, chain: Chain) -> None:
            super().rx(chain)
            if len(self.frames) < 5:
                house.vnics[1].tx(burst(ether(A, len(self.frames), sender=B)))

    house.vnics[1].attach(echo := Echo())
    house.vnics[0].tx(burst(ether(B, 1), ether(STRANGER), ether(B, 2)))
    assert echo.frames == [ether(B, 1), ether(B, 2)]
    assert house.got()[0] == [ether(A, 2, sender=B)]
    assert house.wire.far.frames == [ether(STRANGER)]


# --- sizes


def gso(size: int) -> int:
    return CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | size << GSO_SIZE_SHIFT


def tcp4(to: bytes, size: int, *, vid: int | None = None) -> bytes:
    ip = b"\x45\0" + (size - 14).to_bytes(2, "big") + bytes(5) + b"\x06" + bytes(10)
    return ether(to, vid=vid, size=0)[:-2] + IPV4 + (ip + bytes(12) + b"\x50").ljust(size - 14, b"\0")


@pytest.mark.parametrize(
    ("frame", "word", "counter"),
    [
        (ether(B, size=1514), 0, "opackets"),
        (ether(B, size=1515), 0, "oerrors"),
        (ether(B, size=65535), 0, "oerrors"),
        (ether(B, size=14), 0, "opackets"),
        (ether(B, size=14)[:13], 0, "oerrors"),
        (b"\xff", 0, "oerrors"),
        (tcp4(B, 65000), gso(1460), "opackets"),
        (tcp4(B, 65000), gso(1461), "oerrors"),
        (tcp4(B, 1400), gso(9000), "opackets"),
        (ether(B, size=9000), gso(1000), "oerrors"),  # says TCP, is none
        (ether(B, vid=0, size=1518), 0, "opackets"),
        (ether(B, vid=0, size=1519), 0, "oerrors"),
        (ether(B, vid=0, size=18)[:17], 0, "oerrors"),
        (ether(B, vid=0, size=18)[:16], 0, "oerrors"),
    ],
)
def test_what_no_wire_of_this_mtu_carries_is_dropped(frame: bytes, word: int, counter: str) -> None:
    house = House(A, B)
    house.vnics[0].tx(burst(ether(B), frame, word=0) if not word else burst(frame, word=word))
    counted = house.vnics[0].statistics()
    assert house.sinks[1].frames[-1:] == [frame] if counter == "opackets" else frame not in house.sinks[1].frames
    assert counted["oerrors"] == (counter == "oerrors")
    assert counted["opackets"] == len(house.sinks[1].frames)
    assert counted["obytes"] == sum(map(len, house.sinks[1].frames))
    assert house.wire.far.frames == []


def test_an_ethernet_header_in_pieces_is_refused_not_misread() -> None:
    house = House(A, B)
    frame: Frame = (0, 60, ((0, 13, DOMID_SELF, 0), (13, 47, DOMID_SELF, 0)))
    house.vnics[0].tx(Chain(memoryview(ether(B)), [frame]))
    assert house.vnics[0].statistics()["oerrors"] == 1


# --- who is plugged in


def test_counters_count_frames_and_bytes_each_way() -> None:
    house = House(A, B)
    house.vnics[0].tx(burst(ether(B, size=100), ether(B, size=200), ether(STRANGER)))
    house.vnics[1].attach(None)
    house.vnics[0].tx(burst(ether(B), ether(BROADCAST)))
    sent, received = (vnic.statistics() for vnic in house.vnics)
    assert (sent["opackets"], sent["obytes"], sent["ipackets"]) == (5, 480, 0)
    assert (received["ipackets"], received["rbytes"], received["no_client"]) == (2, 300, 2)
    assert house.switch.statistics()["opackets"] == 2


@pytest.mark.parametrize(
    ("mac", "vid", "mtu", "message"),
    [
        (B, 0, 1500, "xvm9_0 over net0: 00:16:3e:00:00:02: MAC address is already in use by xvm2_0"),
        (C, 5, 1500, "xvm9_0 over net0: 00:16:3e:00:00:03 in VLAN 5: MAC address is already in use by xvm3_0"),
        (D, 0, 1500, "xvm9_0 over net0: 00:16:3e:00:00:04: MAC address reserved for use by underlying data-link"),
        (GROUP, 0, 1500, "xvm9_0 over net0: 33:33:00:00:00:01: invalid MAC address"),
        (bytes(6), 0, 1500, "xvm9_0 over net0: 00:00:00:00:00:00: invalid MAC address"),
        (b"\0\1", 0, 1500, "xvm9_0 over net0: 00:01: invalid MAC address"),
        (A, 4095, 1500, "xvm9_0 over net0: 00:16:3e:00:00:01: invalid VLAN identifier '4095'"),
        (A, -1, 1500, "xvm9_0 over net0: 00:16:3e:00:00:01: invalid VLAN identifier '-1'"),
        (STRANGER, 0, 1501, "xvm9_0 over net0: 00:16:3e:00:00:ff: mtu 1501 is more than the link's 1500"),
    ],
)
def test_a_vnic_that_cannot_be_is_refused_by_name(mac: bytes, vid: int, mtu: int, message: str) -> None:
    switch = LowerLink("net0", mac=D).switch
    for name, address, vlan in (("xvm1_0", A, 0), ("xvm2_0", B, 0), ("xvm3_0", C, 5)):
        Vnic(name, switch, address, vid=vlan)
    with pytest.raises(MacError) as refused:
        Vnic("xvm9_0", switch, mac, vid=vid, mtu=mtu)
    assert str(refused.value) == message
    assert len(switch.ports) == 3


def test_the_same_address_may_be_used_in_another_vlan_and_on_another_link() -> None:
    house = House(A, (A, 5), (A, 6))
    Vnic("xvm9_0", LowerLink("net1").switch, A)
    Vnic("xvm9_1", LowerLink("net2", mac=A).switch, A, vid=7)
    assert len(house.switch.ports) == 3


def test_a_closed_vnic_is_gone_and_its_address_free() -> None:
    house = House(A, B, C)
    house.vnics[1].close()
    house.vnics[1].close()
    house.vnics[1].tx(burst(ether(A)))
    house.vnics[0].tx(burst(ether(B), ether(BROADCAST)))
    assert house.got() == [[], [], [ether(BROADCAST)], [ether(B), ether(BROADCAST)]]
    again = house.add(Vnic("xvm4_0", house.switch, B))
    house.vnics[1].close()
    house.vnics[0].tx(burst(ether(B)))
    assert again.statistics()["ipackets"] == 1


def test_a_vnic_takes_its_links_mtu_unless_it_wants_less() -> None:
    switch = Etherstub("stub0").switch
    assert Vnic("xvm1_0", switch, A).mtu == 9000
    assert Vnic("xvm1_1", switch, B, mtu=1500).mtu == 1500


def test_the_wire_can_be_pulled_and_plugged() -> None:
    house, other = House(A, B), Wire()
    house.switch.connect(other)
    assert house.wire.client is None
    assert other.client is house.switch
    house.vnics[0].tx(burst(ether(STRANGER)))
    house.switch.connect(None)
    house.vnics[0].tx(burst(ether(STRANGER)))
    assert (len(house.wire.far.frames), len(other.far.frames)) == (0, 1)
    assert other.client is None
    assert house.vnics[0].statistics()["opackets"] == 2


def test_a_port_always_has_room() -> None:
    house = House(A)
    assert house.vnics[0].room() >= 64
    assert house.switch.room() >= 64
    house.vnics[0].client_ready()
    house.switch.link_ready()


# --- the model


class Model:
    """The rules of the switch for one frame at a time, as the reference tells them, with no thought of speed."""

    def __init__(self, ports: Sequence[tuple[bytes, int]]) -> None:
        self.ports = ports
        self.got: list[list[bytes]] = [[] for _ in range(len(ports) + 1)]

    def tx(self, sender: int, to: bytes, mark: int) -> None:
        vid = self.ports[sender][1]
        out = ether(to, mark, vid=vid, size=64) if vid else ether(to, mark)
        targets = [i for i, port in enumerate(self.ports) if port == (to, vid)]
        if to[0] & 1:
            targets = [i for i, port in enumerate(self.ports) if port[1] == vid and i != sender]
        alone = len(self.ports) == 1
        for i in [] if alone else targets:
            self.got[i].append(ether(to, mark))
        if alone or to[0] & 1 or not targets:
            self.got[-1].append(out)

    def rx(self, vid: int, to: bytes, mark: int) -> None:
        alone = len(self.ports) == 1
        for i, port in enumerate(self.ports):
            if alone and port[1] == 0:
                self.got[i].append(ether(to, mark, vid=vid, size=64) if vid else ether(to, mark))
            elif port[1] == vid and (alone or to[0] & 1 or port[0] == to):
                self.got[i].append(ether(to, mark))


ADDRESSES = st.sampled_from([A, B, C, D, STRANGER, BROADCAST, GROUP])
VIDS = st.sampled_from([0, 0, 5, 6])
BURSTS = st.lists(
    st.tuples(st.integers(-1, 5), st.lists(st.tuples(ADDRESSES, VIDS), min_size=1, max_size=12)), max_size=6
)


@given(
    ports=st.lists(st.tuples(st.sampled_from([A, B, C, D]), VIDS), min_size=1, max_size=6, unique=True), bursts=BURSTS
)
def test_the_switch_agrees_with_a_naive_model(
    ports: list[tuple[bytes, int]], bursts: list[tuple[int, list[tuple[bytes, int]]]]
) -> None:
    house, model, mark = House(*ports), Model(ports), 0
    for sender, wanted in bursts:
        frames = []
        for to, vid in wanted:
            mark += 1
            if sender < 0:
                model.rx(vid, to, mark)
                frames.append(ether(to, mark, vid=vid, size=64) if vid else ether(to, mark))
            else:
                model.tx(sender % len(ports), to, mark)
                frames.append(ether(to, mark))
        if sender < 0:
            house.switch.rx(burst(*frames))
        else:
            house.vnics[sender % len(ports)].tx(burst(*frames))
    assert house.got() == model.got
