"""Toeplitz hashes against published vectors, and what the hash of a flow is made of."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
)
from xnet.netif.flow import flow_of
from xnet.netif.front_ctrl import RSS_KEY
from xnet.netif.hashing import ALL_KINDS, KEY_SIZE, Hash, Hashing, toeplitz
from xnet.testing.frames import plain, tagged, tcp, udp

VECTORS = [
    # source, port, destination, port, hash without ports, with them (Microsoft: "Verifying the RSS Hash Calculation")
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4B61E985, 0x02D1FEEF),
]
V4, V4_TCP = XEN_NETIF_CTRL_HASH_TYPE_IPV4, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP
V6, V6_TCP = XEN_NETIF_CTRL_HASH_TYPE_IPV6, XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP


def hashing(flags: int, key: bytes = RSS_KEY) -> Hashing:
    made = Hashing()
    made.algorithm, made.flags, made.key = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, flags, key
    return made


def of(made: Hashing, frame: bytes) -> Hash | None:
    return made.of(flow_of(memoryview(frame), len(frame)))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0])
def test_published_vectors(vector: tuple[str, int, str, int, int, int]) -> None:
    source, sport, destination, dport, plain_hash, tcp_hash = vector
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    assert toeplitz(RSS_KEY, addresses) == plain_hash
    assert toeplitz(RSS_KEY, addresses + sport.to_bytes(2, "big") + dport.to_bytes(2, "big")) == tcp_hash


@given(st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE), st.binary(max_size=36))
def test_it_is_what_the_header_says_bit_by_bit(key: bytes, data: bytes) -> None:
    """As xen_netif_toeplitz_hash in public/io/netif.h computes it: a window of 32 bits that slides over the key."""
    window, found = int.from_bytes(key, "big"), 0
    for at in range(8 * len(data)):
        if data[at // 8] & 0x80 >> at % 8:
            found ^= window >> (8 * KEY_SIZE - 32 - at) & 0xFFFFFFFF
    assert toeplitz(key, data) == found


def test_a_key_of_zeros_hashes_all_to_zero() -> None:
    assert toeplitz(bytes(KEY_SIZE), b"\xff" * 36) == 0


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_the_most_that_is_asked_for_is_hashed(v6: bool) -> None:
    plain_bit, tcp_bit = (V6, V6_TCP) if v6 else (V4, V4_TCP)
    stream, datagram = tcp(b"x", v6=v6), udp(b"x", v6=v6)
    addresses = stream[22:54] if v6 else stream[26:34]
    ports = stream[54:58] if v6 else stream[34:38]
    alone = Hash(toeplitz(RSS_KEY, addresses), plain_bit.bit_length() - 1)
    whole = Hash(toeplitz(RSS_KEY, addresses + ports), tcp_bit.bit_length() - 1)
    for flags, of_tcp, of_udp in (
        (ALL_KINDS, whole, alone),
        (tcp_bit, whole, None),
        (plain_bit, alone, alone),
        (ALL_KINDS & ~plain_bit & ~tcp_bit, None, None),
        (0, None, None),
    ):
        made = hashing(flags)
        assert of(made, stream) == of(made, tagged(stream, (0x8100, 7))) == of_tcp
        assert of(made, datagram) == of_udp
        assert of(made, plain(60)) is None


def test_fragments_are_hashed_by_their_addresses() -> None:
    frame = bytearray(tcp(b"x" * 100))
    frame[20] = 0x20
    found = of(hashing(ALL_KINDS), bytes(frame))
    assert found == Hash(toeplitz(RSS_KEY, bytes(frame[26:34])), 0)


def test_a_flows_queue_is_the_mappings_or_the_remainder() -> None:
    made = hashing(ALL_KINDS)
    frame = tcp(b"x")
    flow = flow_of(memoryview(frame), len(frame))
    found = made.of(flow)
    assert found is not None
    assert made.queue(flow, 3) == found.value % 3
    made.mapping = [2, 0, 1, 1, 2]
    assert made.queue(flow, 3) == made.mapping[found.value % 5]
    nobody = flow_of(memoryview(plain(60)), 60)
    assert made.queue(nobody, 3) == 2, "what has no hash goes where 0 would"
    made.mapping = []
    assert made.queue(nobody, 3) == 0


@given(st.binary(max_size=120))
def test_any_bytes_have_a_hash_or_none(data: bytes) -> None:
    of(hashing(ALL_KINDS), data)
