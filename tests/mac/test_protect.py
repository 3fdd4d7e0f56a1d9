"""Protection: what a client may send, mode by mode, and any bytes at all."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import Chain, own
from xnet.mac.protect import MODES, Protection, parse_cid
from xnet.mac.snoop import COOKIE
from xnet.testing.clock import HandClock

ME, OTHER = bytes.fromhex("00163e000001"), bytes.fromhex("00163e000002")
BROADCAST = b"\xff" * 6


def guard(*modes: str, allowed: str = "", cids: tuple[bytes, ...] = ()) -> Protection:
    networks = [ipaddress.ip_network(text) for text in allowed.split()]
    return Protection(ME, modes, HandClock(), networks, cids)


def chain_of(*frames: bytes) -> Chain:
    data, laid = bytearray(), []
    for frame in frames:
        laid.append(own(0, len(data), len(frame)))
        data += frame
    return Chain(memoryview(data), laid)


def verdict(found: Protection, frame: bytes) -> str:
    """The counter that grew, "" for a frame that passed."""
    before = dict(found.counters)
    chain = chain_of(frame)
    passed = found.passed(chain)
    grown = [name for name, count in found.counters.items() if count != before[name]]
    assert (passed is chain) == (not grown)
    assert len(passed.frames) == (not grown)
    return grown[0] if grown else ""


def ip4(source: str, payload: bytes = b"", protocol: int = 1, mac: bytes = ME) -> bytes:
    head = bytes([0x45, 0]) + (20 + len(payload)).to_bytes(2, "big") + bytes(4) + bytes([64, protocol, 0, 0])
    return BROADCAST + mac + b"\x08\x00" + head + socket.inet_aton(source) + socket.inet_aton("10.0.0.2") + payload


def ip6(source: str, payload: bytes = b"", protocol: int = 59) -> bytes:
    head = bytes([0x60, 0, 0, 0]) + len(payload).to_bytes(2, "big") + bytes([protocol, 64])
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "fd00::2")
    return BROADCAST + ME + b"\x86\xdd" + head + addresses + payload


def arp(sender: str, hardware: bytes = ME) -> bytes:
    return BROADCAST + ME + bytes.fromhex("080600010800060400 01") + hardware + socket.inet_aton(sender) + bytes(10)


def advert(target: str, mac: bytes = ME) -> bytes:
    message = bytes([136, 0, 0, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, target) + b"\x02\x01" + mac
    return ip6("fd00::1", message, 58)


def dhcp(
    kind: int, *, mac: bytes = ME, client: bytes = b"\x01" + ME, mine: str = "0.0.0.0", request: bool = True
) -> bytes:
    options = (
        bytes([53, 1, kind]) + bytes([61, len(client)]) + client + bytes([51, 4]) + (100).to_bytes(4, "big") + b"\xff"
    )
    body = bytes([1 if request else 2, 1, 6, 0]) + b"\xaa\xbb\xcc\xdd" + bytes(8) + socket.inet_aton(mine) + bytes(8)
    body += mac.ljust(16, b"\0") + bytes(192) + COOKIE + options
    ports = (68, 67) if request else (67, 68)
    udp = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + (8 + len(body)).to_bytes(2, "big") + bytes(2)
    return ip4("0.0.0.0" if request else "10.0.0.254", udp + body, 17, ME if request else OTHER)


def test_mac_nospoof() -> None:
    found = guard("mac-nospoof")
    assert verdict(found, ip4("10.0.0.1")) == ""
    assert verdict(found, ip4("10.0.0.1", mac=OTHER)) == "macspoofed"
    assert verdict(found, b"short") == "macspoofed"


def test_only_those_that_may_not_are_taken_out_of_a_burst() -> None:
    found = guard("mac-nospoof")
    good, bad = ip4("10.0.0.1"), ip4("10.0.0.1", mac=OTHER)
    passed = found.passed(chain_of(good, bad, good))
    assert [passed.tobytes(frame) for frame in passed.frames] == [good, good]


def test_restricted() -> None:
    found = guard("restricted")
    assert [verdict(found, frame) for frame in (ip4("10.0.0.1"), ip6("fd00::1"), arp("10.0.0.1"))] == ["", "", ""]
    assert verdict(found, BROADCAST + ME + b"\x88\xcc" + bytes(46)) == "restricted", "LLDP"
    assert verdict(found, BROADCAST + ME + b"\x00\x26\x42\x42\x03" + bytes(40)) == "restricted", "STP"


def test_ip_nospoof_with_addresses_that_are_allowed() -> None:
    found = guard("ip-nospoof", allowed="10.0.0.1/32 fd00::/64")
    good = [ip4("10.0.0.1"), ip4("0.0.0.0"), arp("10.0.0.1"), ip6("fd00::1"), ip6("::"), ip6("fe80::216:3eff:fe00:1")]
    assert [verdict(found, frame) for frame in [*good, advert("fd00::1")]] == [""] * 7
    bad = [ip4("10.0.0.9"), arp("10.0.0.9"), arp("10.0.0.1", OTHER), ip6("fd01::1"), ip6("fe80::1")]
    assert [verdict(found, frame) for frame in bad] == ["ipspoofed"] * 5
    assert verdict(found, advert("fd01::9")) == "ipspoofed"
    assert verdict(found, advert("fd00::1", OTHER)) == "ipspoofed"
    assert verdict(found, ip4("10.0.0.1")[:30]) == "ipspoofed", "too short to say"


def test_ip_nospoof_learns_from_dhcp_for_the_lease() -> None:
    found = guard("ip-nospoof")
    offer = chain_of(dhcp(5, mine="10.0.0.7", request=False))
    assert verdict(found, ip4("10.0.0.7")) == "ipspoofed"
    found.learn(offer)
    assert verdict(found, ip4("10.0.0.7")) == "ipspoofed", "nobody asked"
    assert verdict(found, dhcp(3)) == ""
    found.learn(chain_of(dhcp(5, mine="10.0.0.8", mac=OTHER, request=False)))
    found.learn(chain_of(dhcp(6, mine="10.0.0.8", request=False)))
    found.learn(offer)
    assert verdict(found, ip4("10.0.0.7")) == ""
    assert verdict(found, ip4("10.0.0.8")) == "ipspoofed", "another's, and a refusal"
    assert isinstance(found.clock, HandClock)
    found.clock.run_until(101)
    assert verdict(found, ip4("10.0.0.7")) == "ipspoofed", "the lease is over"


def test_nothing_is_learned_beside_what_is_allowed() -> None:
    found = guard("ip-nospoof", allowed="10.0.0.1/32")
    assert verdict(found, dhcp(3)) == ""
    found.learn(chain_of(dhcp(5, mine="10.0.0.7", request=False)))
    assert verdict(found, ip4("10.0.0.7")) == "ipspoofed"


def test_dhcp_nospoof() -> None:
    found = guard("dhcp-nospoof", cids=(parse_cid("host-a"), parse_cid("0x00010203"), parse_cid("0:16:3e:0:0:9")))
    assert verdict(found, dhcp(1)) == ""
    assert verdict(found, dhcp(1, client=b"\x00host-a")) == ""
    assert verdict(found, dhcp(1, client=b"\x00host-b")) == "dhcpspoofed"
    assert verdict(found, dhcp(1, mac=OTHER)) == "dhcpspoofed"
    assert verdict(found, dhcp(1, mac=parse_cid("0:16:3e:0:0:9"))) == ""
    assert verdict(found, ip4("10.0.0.9")) == "", "it is no DHCP"

    def six(duid: bytes) -> bytes:
        body = b"\x01abc" + b"\x00\x01" + len(duid).to_bytes(2, "big") + duid
        return ip6("fe80::1", (546).to_bytes(2, "big") + (547).to_bytes(2, "big") + bytes(4) + body, 17)

    assert verdict(found, six(b"\x00\x03\x00\x01" + ME)) == ""
    assert verdict(found, six(b"\x00\x01\x02\x03")) == ""
    assert verdict(found, six(b"\x00\x03\x00\x01" + OTHER)) == "dhcpspoofed"


def test_the_order_is_mac_restricted_ip() -> None:
    found = guard(*MODES, allowed="10.0.0.1/32")
    assert verdict(found, BROADCAST + OTHER + b"\x88\xcc" + bytes(46)) == "macspoofed"
    assert verdict(found, BROADCAST + ME + b"\x88\xcc" + bytes(46)) == "restricted"
    assert verdict(found, ip4("10.0.0.9")) == "ipspoofed"


FRAMES = [ip4("10.0.0.1"), ip6("fd00::1"), arp("10.0.0.1"), advert("fd00::1"), dhcp(3), dhcp(5, request=False)]


@given(
    st.sets(st.sampled_from(MODES)),
    st.one_of(
        st.binary(max_size=90), st.tuples(st.sampled_from(FRAMES), st.integers(0, 320)).map(lambda f: f[0][: f[1]])
    ),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
def test_any_bytes_have_an_answer(modes: set[str], frame: bytes, pokes: list[tuple[int, int]]) -> None:
    data = bytearray(frame)
    for at, value in pokes:
        if at < len(data):
            data[at] = value
    if data:
        found = guard(*modes)
        found.snoop.ask(b"\xaa\xbb\xcc\xdd", b"")
        verdict(found, bytes(data))
        found.learn(chain_of(bytes(data)))


@pytest.mark.parametrize("text", ["", "0xzz", "x" * 257])
def test_what_is_no_client_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cid(text)
