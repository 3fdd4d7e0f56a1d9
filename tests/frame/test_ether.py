"""Headers inside a view, against scapy's frames; and strange bytes, which never raise."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.linux.virtio_net import VNET_HDR
from xnet.abi.xen import DOMID_SELF
from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    Chain,
    head,
    is_multicast,
    mac_bytes,
    mac_text,
    network,
    offload_word,
    transport,
    vnet_header,
    wire_length,
)
from xnet.frame.ether import ip_end

BLANK = CSUM_BLANK | DATA_VALIDATED
NEEDS_CSUM, DATA_VALID = 1, 2
TSO4, TSO6, ECN = 1, 4, 0x80


def gso(kind: int, size: int) -> int:
    return BLANK | kind | size << GSO_SIZE_SHIFT


# Frames by name: how scapy builds them, and where their L4 header and its checksum are.
Build = Callable[[SimpleNamespace], Any]
FRAMES: dict[str, tuple[Build, tuple[int, int, int] | None]] = {
    "tcp4": (lambda s: s.Ether() / s.IP() / s.TCP() / b"x", (34, 16, 6)),
    "tcp4, header only": (lambda s: s.Ether() / s.IP() / s.TCP(), (34, 16, 6)),
    "tcp4 with don't-fragment": (lambda s: s.Ether() / s.IP(flags="DF") / s.TCP(), (34, 16, 6)),
    "udp4": (lambda s: s.Ether() / s.IP() / s.UDP() / b"x", (34, 6, 17)),
    "udp4, header only": (lambda s: s.Ether() / s.IP() / s.UDP(), (34, 6, 17)),
    "tcp4 with ip options": (lambda s: s.Ether() / s.IP(options=b"\x01" * 4) / s.TCP(), (38, 16, 6)),
    "tcp4 in a vlan": (lambda s: s.Ether() / s.Dot1Q(vlan=5) / s.IP() / s.TCP(), (38, 16, 6)),
    "udp4 in two": (lambda s: s.Ether(type=0x88A8) / s.Dot1Q() / s.Dot1Q(vlan=5) / s.IP() / s.UDP(), (42, 6, 17)),
    "tcp6": (lambda s: s.Ether() / s.IPv6() / s.TCP() / b"x", (54, 16, 6)),
    "udp6": (lambda s: s.Ether() / s.IPv6() / s.UDP() / b"x", (54, 6, 17)),
    "udp6 in a vlan": (lambda s: s.Ether() / s.Dot1Q(vlan=5) / s.IPv6() / s.UDP(), (58, 6, 17)),
    "tcp6, hop-by-hop": (lambda s: s.Ether() / s.IPv6() / s.IPv6ExtHdrHopByHop() / s.TCP(), (62, 16, 6)),
    "udp6, three extensions": (
        lambda s: (
            s.Ether()
            / s.IPv6()
            / s.IPv6ExtHdrHopByHop()
            / s.IPv6ExtHdrDestOpt(options=[s.PadN(optdata=b"0" * 12)])
            / s.IPv6ExtHdrRouting(addresses=["::2"], segleft=0)
            / s.UDP()
        ),
        (54 + 8 + 16 + 24, 6, 17),
    ),
    "first fragment": (lambda s: s.Ether() / s.IP(flags="MF") / s.UDP() / b"12345678", None),
    "later fragment": (lambda s: s.Ether() / s.IP(frag=2, proto=17) / b"12345678", None),
    "late later fragment": (lambda s: s.Ether() / s.IP(frag=256, proto=6) / (b"\0" * 40), None),
    "ipv6 fragment": (lambda s: s.Ether() / s.IPv6() / s.IPv6ExtHdrFragment(m=1) / s.UDP() / b"1234", None),
    "icmp": (lambda s: s.Ether() / s.IP() / s.ICMP(), None),
    "ip in ip": (lambda s: s.Ether() / s.IP() / s.IP() / s.TCP(), None),
    "arp": (lambda s: s.Ether() / s.ARP(), None),
}


def built(scapy: SimpleNamespace, name: str) -> memoryview:
    return memoryview(bytes(FRAMES[name][0](scapy)))


@pytest.mark.parametrize("name", FRAMES)
def test_transport_is_found_where_scapy_put_it(scapy: SimpleNamespace, name: str) -> None:
    view = built(scapy, name)
    assert transport(view, len(view)) == FRAMES[name][1]


@pytest.mark.parametrize("name", [name for name, (_, place) in FRAMES.items() if place])
def test_a_frame_cut_inside_its_headers_has_no_transport(scapy: SimpleNamespace, name: str) -> None:
    view = built(scapy, name)
    place = FRAMES[name][1]
    assert place is not None
    whole = place[0] + (20 if place[2] == 6 else 8)
    for cut in range(whole):
        assert transport(view[:cut], len(view)) is None
        assert transport(view, cut) is None
    assert transport(view[:whole], len(view)) == place


def test_a_page_behind_a_short_frame_is_not_read(scapy: SimpleNamespace) -> None:
    page = memoryview(bytes(built(scapy, "tcp4")) + bytes(4000))
    assert transport(page, 53) is None
    assert network(page, 13) is None


def test_tags_are_looked_through_but_not_for_ever() -> None:
    frame = bytes(12) + b"\x81\x00\x00\x05" * 3 + b"\x08\x00"
    assert network(memoryview(frame), len(frame)) == (26, 0x0800)
    nothing_else = memoryview(bytes(12) + b"\x81\x00\x00\x05" * 1000)
    assert network(nothing_else, len(nothing_else)) is None


@pytest.mark.parametrize("name", ["tcp4", "udp4, header only", "udp6 in a vlan", "tcp6, hop-by-hop"])
def test_the_ip_packet_ends_before_the_padding(scapy: SimpleNamespace, name: str) -> None:
    frame = bytes(built(scapy, name))
    padded = memoryview(frame + b"\x5a" * 9)
    assert ip_end(padded, len(padded)) == len(frame)


@pytest.mark.parametrize("length", [0, 1, 0xFFFF])
def test_an_ip_length_that_lies_is_not_believed(scapy: SimpleNamespace, length: int) -> None:
    frame = bytearray(built(scapy, "udp4"))
    frame[16:18] = length.to_bytes(2, "big")
    assert ip_end(memoryview(frame), len(frame)) == len(frame)


# --- virtio-net header and offload word


@pytest.mark.parametrize(
    ("name", "word", "header"),
    [
        ("arp", 0, (0, 0, 0, 0, 0, 0)),
        ("tcp4", DATA_VALIDATED, (DATA_VALID, 0, 0, 0, 0, 0)),
        ("tcp4", BLANK, (NEEDS_CSUM, 0, 0, 0, 34, 16)),
        ("udp4", BLANK, (NEEDS_CSUM, 0, 0, 0, 34, 6)),
        ("tcp4 in a vlan", BLANK, (NEEDS_CSUM, 0, 0, 0, 38, 16)),
        ("udp6, three extensions", BLANK, (NEEDS_CSUM, 0, 0, 0, 102, 6)),
        ("tcp4", gso(GSO_TCPV4, 1448), (NEEDS_CSUM, TSO4, 54, 1448, 34, 16)),
        ("tcp4 in a vlan", gso(GSO_TCPV4, 1448), (NEEDS_CSUM, TSO4, 58, 1448, 38, 16)),
        ("tcp6", gso(GSO_TCPV6, 1428), (NEEDS_CSUM, TSO6, 74, 1428, 54, 16)),
        ("tcp6, hop-by-hop", gso(GSO_TCPV6, 1), (NEEDS_CSUM, TSO6, 82, 1, 62, 16)),
    ],
)
def test_word_and_virtio_header_say_the_same(
    scapy: SimpleNamespace, name: str, word: int, header: tuple[int, ...]
) -> None:
    view = built(scapy, name)
    raw = vnet_header(word, view, len(view))
    assert VNET_HDR.unpack(raw) == header
    assert offload_word(raw, view, len(view)) == word


@pytest.mark.parametrize(
    ("name", "word", "header"),
    [
        ("tcp4", CSUM_BLANK, (NEEDS_CSUM, 0, 0, 0, 34, 16)),  # blank alone is as good as both bits
        ("tcp4", gso(GSO_TCPV4, 1448) & ~CSUM_BLANK, (NEEDS_CSUM, TSO4, 54, 1448, 34, 16)),  # gso is always blank
        ("icmp", BLANK, (0, 0, 0, 0, 0, 0)),  # a promise about nothing
        ("first fragment", BLANK, (0, 0, 0, 0, 0, 0)),
        ("tcp4", gso(GSO_TCPV6, 1448), (NEEDS_CSUM, 0, 0, 0, 34, 16)),  # the other family: EINVAL from the kernel
        ("tcp6", gso(GSO_TCPV4, 1448), (NEEDS_CSUM, 0, 0, 0, 54, 16)),
        ("udp4", gso(GSO_TCPV4, 1448), (NEEDS_CSUM, 0, 0, 0, 34, 6)),
        ("tcp4", gso(0x0700, 1448), (NEEDS_CSUM, 0, 0, 0, 34, 16)),  # a type netif does not have
        ("tcp4", gso(GSO_TCPV4, 0), (NEEDS_CSUM, 0, 0, 0, 34, 16)),
        ("tcp4", gso(GSO_TCPV4, 0xFFFF), (NEEDS_CSUM, 0, 0, 0, 34, 16)),
    ],
)
def test_an_odd_word_makes_a_header_the_kernel_takes(
    scapy: SimpleNamespace, name: str, word: int, header: tuple[int, ...]
) -> None:
    view = built(scapy, name)
    assert VNET_HDR.unpack(vnet_header(word, view, len(view))) == header


def test_congestion_window_reduced_is_told_to_the_kernel(scapy: SimpleNamespace) -> None:
    view = memoryview(bytes(scapy.Ether() / scapy.IP() / scapy.TCP(flags="CA") / b"xyz"))
    raw = vnet_header(gso(GSO_TCPV4, 2), view, len(view))
    assert VNET_HDR.unpack(raw)[1] == TSO4 | ECN
    assert offload_word(raw, view, len(view)) == gso(GSO_TCPV4, 2)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("udp6 in a vlan", (NEEDS_CSUM, 0, 0, 0, 58, 16)),  # not where UDP has its checksum
        ("tcp4", (NEEDS_CSUM, 0, 0, 0, 54, 16)),  # an inner header's
        ("icmp", (NEEDS_CSUM, 0, 0, 0, 34, 2)),
        ("arp", (NEEDS_CSUM, 0, 0, 0, 14, 0)),
        ("udp4", (NEEDS_CSUM, 3, 42, 1000, 34, 6)),  # UDP fragmentation
        ("udp4", (NEEDS_CSUM, 5, 42, 1000, 34, 6)),  # UDP segmentation
        ("udp4", (NEEDS_CSUM, TSO4, 42, 1000, 34, 6)),
        ("tcp4", (0, TSO4, 54, 1448, 34, 16)),  # gso without a blank checksum
        ("tcp4", (NEEDS_CSUM, TSO4, 54, 0, 34, 16)),
    ],
)
def test_what_netif_cannot_say_is_none(scapy: SimpleNamespace, name: str, header: tuple[int, ...]) -> None:
    view = built(scapy, name)
    assert offload_word(VNET_HDR.pack(*header), view, len(view)) is None


def test_a_short_virtio_header_is_none() -> None:
    assert offload_word(b"\x01" * 9, memoryview(bytes(60)), 60) is None


def test_the_largest_frame_on_the_wire_is_one_segment(scapy: SimpleNamespace) -> None:
    view = memoryview(bytes(scapy.Ether() / scapy.IP() / scapy.TCP(options=[("NOP", None)] * 12) / bytes(5000)))
    assert wire_length(0, view, len(view)) == len(view)
    assert wire_length(gso(GSO_TCPV4, 1448), view, len(view)) == 14 + 20 + 32 + 1448
    assert wire_length(gso(GSO_TCPV4, 9000), view, len(view)) == len(view)


@given(
    data=st.binary(min_size=60, max_size=60),
    start=st.sampled_from(["080045", "080046"]),
    fragment=st.sampled_from([0, 0x4000, 0x2000, 1]),
    protocol=st.sampled_from([6, 17, 1]),
    word=st.sampled_from([BLANK, CSUM_BLANK, gso(GSO_TCPV4, 1448), gso(GSO_TCPV6, 1448), gso(GSO_TCPV4, 0)]),
)
def test_a_long_frame_is_judged_as_a_short_one_with_the_same_headers(
    data: bytes, start: str, fragment: int, protocol: int, word: int
) -> None:
    """The short ways for plain IPv4 say what the long ones do, which 127 bytes take."""
    head = bytes(12) + bytes.fromhex(start) + data[:5] + fragment.to_bytes(2, "big") + data[7:8] + bytes([protocol])
    short, long = (
        memoryview((head + data[:24] + bytes([0x80]) + data).ljust(size, b"x")[:size]) for size in (127, 1500)
    )
    assert vnet_header(word, short, 127) == vnet_header(word, long, 1500)
    assert min(127, wire_length(word, long, 1500)) == wire_length(word, short, 127)


# --- strange bytes


@given(data=st.binary(max_size=90), length=st.integers(0, 70000), word=st.integers(0, 0xFFFFFFFF))
def test_nothing_raises_on_rubbish(data: bytes, length: int, word: int) -> None:
    view = memoryview(data)
    place = transport(view, length)
    if place is not None:
        assert place[0] + place[1] + 2 <= min(len(data), length)
    network(view, length)
    assert 0 <= ip_end(view, length) <= length
    assert wire_length(word, view, length) <= length
    assert len(vnet_header(word, view, length)) == 10
    offload_word(data[:10], view, length)


@given(
    data=st.binary(max_size=80),
    start=st.sampled_from(["080045", "080046", "86dd60", "810000050800450000", "8100000586dd6000"]),
)
def test_nothing_raises_on_rubbish_that_begins_like_ip(data: bytes, start: str) -> None:
    view = memoryview(bytes(12) + bytes.fromhex(start) + data)
    place = transport(view, len(view))
    if place is not None:
        assert place[0] + place[1] + 2 <= len(view)
    for word in (BLANK, gso(GSO_TCPV4, 7), gso(GSO_TCPV6, 7)):
        assert len(vnet_header(word, view, len(view))) == 10
        assert wire_length(word, view, len(view)) <= len(view)


# --- addresses and pieces


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("00:16:3e:00:00:01", "00163e000001"),
        ("2:8:20:1a:2:FF", "0208201a02ff"),
        ("", None),
        ("00:16:3e:00:00", None),
        ("00:16:3e:00:00:01:02", None),
        ("00:16:3e:00:00:g1", None),
        ("00:16:3e:00:00:001", None),
        ("00-16-3e-00-00-01", None),
        (" 00:16:3e:00:00:01", None),
        ("00:16:3e:00:00:01\n", None),
    ],
)
def test_addresses_are_read(text: str, mac: str | None) -> None:
    assert mac_bytes(text) == (None if mac is None else bytes.fromhex(mac))


@given(st.binary(min_size=6, max_size=6))
def test_an_address_written_is_read_back(mac: bytes) -> None:
    assert mac_bytes(mac_text(mac)) == mac


@pytest.mark.parametrize(
    ("mac", "group"),
    [("ffffffffffff", True), ("01005e000001", True), ("333300000001", True), ("00163e000001", False), ("ff", False)],
)
def test_group_addresses_are_known(mac: str, group: bool) -> None:
    assert is_multicast(bytes.fromhex(mac)) is group


def test_head_is_the_first_piece_or_a_copy_of_as_many_as_it_takes() -> None:
    memory = memoryview(bytes(i & 0xFF for i in range(4096)))
    chain = Chain(memory)
    long = (0, 1400, ((100, 300, DOMID_SELF, 0), (1000, 1100, DOMID_SELF, 0)))
    assert head(chain, long) == memory[100:400]
    small = (0, 60, ((100, 60, DOMID_SELF, 0),))
    assert head(chain, small) == memory[100:160]
    scattered = (0, 500, ((0, 10, DOMID_SELF, 0), (50, 20, 3, 8), (200, 470, DOMID_SELF, 0)))
    assert head(chain, scattered)[:256] == bytes(memory[0:10]) + bytes(memory[50:70]) + bytes(memory[200:426])
