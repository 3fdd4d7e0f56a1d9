"""From one guest to another, whatever each end is able to do: all of a payload arrives, in frames that are right.

(checksum) x (GSO) x (SG) x (who lacks it) x (v4, v6) x (TCP, UDP) x (copy, map, flip) x (a hub, vnics on a switch),
each with payloads of every size around every boundary. What arrives is judged by `xnet.testing.frames`, which shares
nothing with the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, GSO_TYPE_MASK
from xnet.mac import Etherstub, Vnic
from xnet.netif import Features
from xnet.testing import Sent, Vif, World
from xnet.testing.frames import (
    ACK,
    ODD,
    PROTO_TCP,
    PROTO_UDP,
    PSH,
    Seen,
    addresses,
    changed,
    extended,
    flaw,
    look,
    mac,
    ones,
    plain,
    pseudo,
    tagged,
    tcp,
    udp,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BLANK = CSUM_BLANK | DATA_VALIDATED
MSS = 1400
MTU = 1500
LINK_MTU = 65517
PAGE = 4096
DATA = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(70000))
HEADERS = {(False, "tcp"): 54, (True, "tcp"): 74, (False, "udp"): 42, (True, "udp"): 62}

MODES: dict[str, dict[str, Any]] = {"copy": {}, "map": {"mode": "map"}, "flip": {"rx_mode": "flip"}}
LACKS = {
    " ".join(names) or "nothing": {field: False for name in names for field in FIELDS[name]}
    for FIELDS in [
        {
            "csum": ("csum_offload", "ipv6_csum_offload"),
            "gso": ("gso_tcpv4", "gso_tcpv6"),
            "sg": ("sg",),
        }
    ]
    for names in [
        (),
        ("csum",),
        ("gso",),
        ("sg",),
        ("csum", "gso"),
        ("csum", "sg"),
        ("gso", "sg"),
        ("csum", "gso", "sg"),
    ]
}
SIDES = ("sender", "receiver", "both")


def sizes(header: int, most: int) -> list[int]:
    """Payloads: the smallest, and one less and more than what fills a segment, pages, the largest frame."""
    edges = [0, 1, 2, 17, MSS, 2 * MSS, 5 * MSS, MTU - header + 14]
    edges += [pages * PAGE - header for pages in (1, 2, 3, 9, 16)]
    found = {edge + step for edge in edges for step in (-1, 0, 1)} | {most - header - step for step in (0, 1, 2)}
    return sorted(size for size in found if 0 <= size <= most - header)


class Pair:
    """Guest a sends, guest b receives."""

    def __init__(self, world: World, link: str, mode: str, lacks: dict[str, bool], side: str) -> None:
        self.world = world
        self.link = link
        poor, rich = replace(Features(), **lacks), Features()
        ends = {"sender": (poor, rich), "receiver": (rich, poor), "both": (poor, poor)}[side]
        stub = Etherstub("stub0", mtu=LINK_MTU)
        self.vifs = []
        for name, features in zip("ab", ends, strict=True):
            guest = world.guest(name)
            vif = world.vif(guest, start="none", front=features, back=features, heads_only=False, **MODES[mode])
            if link == "vnics":
                vnic = Vnic(f"vnic{name}", stub.switch, mac(guest.domain.domid))
                vif.netback.hotplug = lambda netback, vnic=vnic: netback.plug(vnic)  # type: ignore[misc]
            vif.netback.start()
            vif.netfront.start()
            world.step()
            assert vif.connected
            self.vifs.append(vif)
        limits = [end.max_frame for vif in self.vifs for end in (vif.netfront.accepts, vif.netback.accepts) if end]
        self.most = min(*limits, LINK_MTU + 14 if link == "vnics" else 65535)
        """The longest frame that is not for segmentation."""
        if link == "hub":
            self.vifs[0].hub.peers.append(self.vifs[1].hub)

    def send(self, frame: bytes, word: int) -> list[Sent]:
        """What b gets of a frame of a's."""
        sender, receiver = self.vifs
        assert sender.wire.send(frame, word=word) == 1
        self.world.step()
        got, receiver.wire.received = receiver.wire.received, []
        return got


WAYS = [each for each in product(MODES, ("hub", "vnics"), LACKS, SIDES) if each[2] != "nothing" or each[3] == "both"]


@pytest.fixture(scope="module", params=WAYS, ids=lambda each: "-".join(each))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    mode, link, lacking, side = request.param
    with World() as world:
        yield Pair(world, link, mode, LACKS[lacking], side)


FIN, CWR, ECE = 0x01, 0x80, 0x40


def headers(seen: Seen) -> tuple[bytes, bytes, bytes]:
    """What is the same in all segments of a frame: of IP all but length, id and sum, of TCP but seq, flags and sum."""
    l3, l4 = bytearray(seen.l3), bytearray(seen.l4[: len(seen.l4) - len(seen.payload)])
    if seen.v6:
        l3[4:6] = bytes(2)
    else:
        l3[2:6], l3[10:12] = bytes(4), bytes(2)
    if seen.protocol == PROTO_TCP:
        l4[4:8], l4[13], l4[16:18] = bytes(4), 0, bytes(2)
    else:
        l4[6:8] = bytes(2)
    return seen.l2, bytes(l3), bytes(l4)


def judge(sent: bytes, got: list[Sent], vif: Vif) -> None:
    """All of the payload, in order, each frame whole and right, nothing that b does not take."""
    accepts = vif.netback.accepts
    assert accepts is not None
    whole = look(sent)
    gso = accepts.gso6 if whole.v6 else accepts.gso4
    blank = accepts.csum6 if whole.v6 else accepts.csum4
    data = b""
    for index, (word, frame) in enumerate(got):
        seen, last = look(frame), index == len(got) - 1
        assert len(frame) <= accepts.max_frame
        assert headers(seen) == headers(whole)
        if word & GSO_TYPE_MASK:
            assert gso
            assert word >> GSO_SIZE_SHIFT == MSS
        elif whole.protocol == PROTO_TCP:
            assert len(seen.payload) <= max(MSS, len(whole.payload) if len(got) == 1 else 0)
            assert len(seen.payload) == MSS or last, "only the last may be shorter"
        if word & CSUM_BLANK:
            assert blank
            field = seen.l4[16:18] if seen.protocol == PROTO_TCP else seen.l4[6:8]
            sum_ = ones(pseudo(seen.v6, seen.hosts, seen.protocol, len(seen.l4)))
            assert int.from_bytes(field, "big") % 0xFFFF == sum_ % 0xFFFF
            assert seen.v6 or ones(seen.l3) == 0xFFFF
        else:
            assert flaw(frame) == ""
        if whole.protocol == PROTO_TCP:
            assert seen.seq == (whole.seq + len(data)) & 0xFFFFFFFF
            flags = whole.l4[13] & ~(0 if last else FIN | PSH) & ~(CWR if index else 0)
            assert seen.l4[13] == flags, "FIN and PSH are the last segment's, CWR the first's"
            if not seen.v6:
                first, this = (int.from_bytes(each.l3[4:6], "big") for each in (whole, seen))
                assert this == (first + index) & 0xFFFF, "IPv4 ids count"
        data += seen.payload
    assert data == whole.payload


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_a_payload_of_any_size_arrives_whole_in_right_frames(pair: Pair, v6: bool, kind: str) -> None:
    receiver, header = pair.vifs[1], HEADERS[v6, kind]
    make = tcp if kind == "tcp" else udp
    for size in sizes(header, 65535 if kind == "tcp" else pair.most):
        frame = make(DATA[:size], v6=v6, blank=True)
        large = kind == "tcp" and size > MSS
        gso = (GSO_TCPV6 if v6 else GSO_TCPV4) | MSS << GSO_SIZE_SHIFT if large else 0
        judge(frame, pair.send(frame, BLANK | gso), receiver)
        if len(frame) <= pair.most and not large:
            finished = make(DATA[:size], v6=v6)
            assert pair.send(finished, 0) == [(0, finished)], "what is finished is left alone"


PLAIN_TCP = tcp(DATA[:5000], blank=True)
STAMPS = bytes.fromhex("0101080a 00000001 00000002")
WISHES = {
    "in a VLAN": tagged(PLAIN_TCP, (0x8100, 0x2007)),
    "in a VLAN, IPv6": tagged(tcp(DATA[:5000], v6=True, blank=True), (0x8100, 0x2007)),
    "in two VLANs": tagged(PLAIN_TCP, (0x88A8, 100), (0x8100, 7)),
    "in a VLAN, small": tagged(tcp(DATA[:99], blank=True), (0x8100, 0x2007)),
    "in a VLAN, UDP": tagged(udp(DATA[:1001], blank=True), (0x8100, 0x2007)),
    "IPv4 options": changed(PLAIN_TCP, 0, b"", options=b"\x01" * 8),
    "IPv4 options, UDP": changed(udp(DATA[:1001], blank=True), 0, b"", options=b"\x01" * 40),
    "TCP options": tcp(DATA[:5000], options=STAMPS, blank=True),
    "IPv6 extension headers": extended(tcp(DATA[:5000], v6=True, blank=True), (0, 8), (60, 24)),
    "IPv6 extension headers, UDP": extended(udp(DATA[:1001], v6=True, blank=True), (0, 8), (43, 16), (60, 24)),
    "the last of a connection": tcp(DATA[:5000], flags=ACK | PSH | FIN, blank=True),
    "congestion told": tcp(DATA[:5000], flags=ACK | PSH | CWR | ECE, blank=True),
    "sequence numbers start anew": tcp(DATA[:5000], seq=0xFFFFFFFF - 2000, blank=True),
    "IPv4 ids start anew": changed(PLAIN_TCP, 4, b"\xff\xfe"),
    "a sum of zero over UDP": udp(b"\0\0", blank=True)[:-2]
    + (0xFFFF ^ ones(pseudo(False, addresses(False, 1, 2), PROTO_UDP, 10) + udp(b"\0\0")[34:40])).to_bytes(2, "big"),
}


def test_what_is_wished_for_behind_tags_options_and_extensions_is_done(pair: Pair) -> None:
    for name, frame in WISHES.items():
        whole = look(frame)
        if pair.link == "vnics" and len(whole.l2) > 14:
            continue  # an untagged vnic sends no VLAN's frames (Crossbow)
        gso = (GSO_TCPV6 if whole.v6 else GSO_TCPV4) | MSS << GSO_SIZE_SHIFT if len(whole.payload) > MSS else 0
        got = pair.send(frame, BLANK | gso)
        assert got, name
        judge(frame, got, pair.vifs[1])
        if name == "a sum of zero over UDP" and not got[0][0] & CSUM_BLANK:
            assert look(got[0][1]).l4[6:8] == b"\xff\xff", "0 would mean that there is no checksum"


def test_what_is_nobodys_business_is_forwarded_as_it_is(pair: Pair) -> None:
    for name, frame in ODD.items():
        vid = int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == b"\x81\x00" else 0
        keeps = pair.link == "hub" or not vid  # an untagged vnic sends no VLAN's frames (Crossbow)
        assert pair.send(frame, 0) == ([(0, frame)] if keeps else []), name


def test_jumbo_frames_arrive_where_both_have_sg(pair: Pair) -> None:
    frame = plain(9014)
    got = pair.send(frame, 0)
    assert got == ([(0, frame)] if pair.most >= 9014 else [])
