"""What a client came by honestly: DHCPv6 and router advertisements (DHCPv4 is in test_protect), and any bytes."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mac.test_protect import BROADCAST, ME, OTHER, chain_of, guard, ip6, verdict
from xnet.mac.protect import Protection
from xnet.mac.snoop import LEARNED_MAX, TWO_HOURS
from xnet.testing.clock import HandClock

DUID = b"\x00\x03\x00\x01" + ME
LEASED, MADE = "fd00::77", "fd01::216:3eff:fe00:1"


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def option(code: int, value: bytes) -> bytes:
    return code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def dhcp6(
    kind: int, *, xid: bytes = b"abc", duid: bytes = DUID, address: str = LEASED, valid: int = 100, server: bool = False
) -> bytes:
    lease = option(5, packed(address) + bytes(4) + valid.to_bytes(4, "big"))
    body = bytes([kind]) + xid + option(1, duid) + option(3, bytes(12) + lease)
    ports = (547, 546) if server else (546, 547)
    udp = b"".join(port.to_bytes(2, "big") for port in ports) + (8 + len(body)).to_bytes(2, "big") + bytes(2) + body
    return ip6("fe80::9" if server else "fe80::216:3eff:fe00:1", udp, 17)


def prefix(network: str, valid: int, *, flags: int = 0xC0, bits: int = 64) -> bytes:
    return bytes([3, 4, bits, flags]) + valid.to_bytes(4, "big") + bytes(8) + packed(network)


def advert(*options: bytes, source: str = "fe80::9", hops: int = 255) -> bytes:
    frame = bytearray(ip6(source, bytes([134, 0]) + bytes(14) + b"".join(options), 58))
    frame[14 + 7] = hops
    return bytes(frame)


def wait(found: Protection, seconds: float) -> None:
    assert isinstance(found.clock, HandClock)
    found.clock.run_until(found.clock.now() + seconds)


def may(found: Protection, address: str) -> bool:
    return verdict(found, ip6(address)) == ""


def test_a_reply_to_what_was_asked_is_a_lease_for_its_lifetime() -> None:
    found = guard("ip-nospoof")
    reply = chain_of(dhcp6(7, server=True))
    found.learn(reply)
    assert not may(found, LEASED), "nobody asked"
    assert verdict(found, dhcp6(3)) == ""
    for other in (
        dhcp6(2, server=True),  # an Advertise is an offer
        dhcp6(7, xid=b"xyz", server=True),
        dhcp6(7, duid=b"\x00\x03\x00\x01" + OTHER, server=True),
    ):
        found.learn(chain_of(other))
    assert not may(found, LEASED)
    found.learn(reply)
    assert may(found, LEASED)
    assert not may(found, "fd00::78")
    wait(found, 101)
    assert not may(found, LEASED)


@pytest.mark.parametrize("kind", [8, 9])
def test_what_is_given_back_is_nobodys(kind: int) -> None:
    found = guard("ip-nospoof")
    verdict(found, dhcp6(3))
    found.learn(chain_of(dhcp6(7, valid=0xFFFFFFFF, server=True)))
    wait(found, 1e9)
    assert may(found, LEASED)
    assert verdict(found, dhcp6(kind)) == ""
    assert not may(found, LEASED)


def test_an_answer_that_comes_too_late_is_none() -> None:
    found = guard("ip-nospoof")
    verdict(found, dhcp6(3))
    wait(found, 61)
    found.learn(chain_of(dhcp6(7, server=True)))
    assert not may(found, LEASED)


def test_a_lifetime_of_nothing_ends_a_lease() -> None:
    found = guard("ip-nospoof")
    verdict(found, dhcp6(5))
    found.learn(chain_of(dhcp6(7, server=True)))
    found.learn(chain_of(dhcp6(7, valid=0, server=True)))
    assert not may(found, LEASED)


def test_a_prefix_that_is_advertised_may_be_used_with_the_own_identifier() -> None:
    found = guard("ip-nospoof")
    assert not may(found, MADE)
    found.learn(chain_of(advert(prefix("fd01::", 300))))
    assert may(found, MADE)
    assert not may(found, "fd01::1"), "not made of its MAC"
    assert not may(found, "fd02::216:3eff:fe00:1")
    assert not may(found, "fd01::216:3eff:fe00:2")
    found.macs = frozenset((ME, OTHER))
    assert may(found, "fd01::216:3eff:fe00:2"), "a secondary one is its own, too"
    wait(found, 301)
    assert not may(found, MADE)


@pytest.mark.parametrize(
    "frame",
    [
        advert(prefix("fd01::", 300), hops=254),  # from beyond a router
        advert(prefix("fd01::", 300), source="fd01::9"),  # not a neighbour's own address
        advert(prefix("fd01::", 300, flags=0x80)),  # on-link only
        advert(prefix("fd01::", 300, bits=48)),
        advert(prefix("fd01::", 0)),
        advert(prefix("fd01::", 300)[:24]),
        advert(bytes(8) + prefix("fd01::", 300)),  # an option of no length
    ],
)
def test_what_is_no_prefix_to_make_addresses_of(frame: bytes) -> None:
    found = guard("ip-nospoof")
    found.learn(chain_of(frame))
    assert not may(found, MADE)


def test_a_prefix_is_not_taken_away_sooner_than_in_two_hours() -> None:
    found = guard("ip-nospoof")
    found.learn(chain_of(advert(prefix("fd01::", 10 * TWO_HOURS))))
    found.learn(chain_of(advert(prefix("fd01::", 0))))
    wait(found, TWO_HOURS - 1)
    found.learn(chain_of(advert(prefix("fd01::", 0))))
    assert may(found, MADE)
    wait(found, 2)
    assert not may(found, MADE)


def test_nothing_is_learned_beside_what_is_allowed() -> None:
    found = guard("ip-nospoof", allowed="fd00::1/128")
    verdict(found, dhcp6(3))
    found.learn(chain_of(dhcp6(7, server=True), advert(prefix("fd01::", 300))))
    assert not may(found, LEASED)
    assert not may(found, MADE)


def test_a_guest_that_is_a_server_is_no_client() -> None:
    found = guard("dhcp-nospoof")
    assert verdict(found, dhcp6(7, duid=b"\x00\x03\x00\x01" + OTHER, server=True)) == ""
    assert verdict(found, dhcp6(3, duid=b"\x00\x03\x00\x01" + OTHER)) == "dhcpspoofed"


def test_there_is_an_end_to_what_is_remembered() -> None:
    found = guard("ip-nospoof")
    for i in range(2 * LEARNED_MAX):
        verdict(found, dhcp6(3, xid=i.to_bytes(3, "big")))
        found.learn(chain_of(dhcp6(7, xid=i.to_bytes(3, "big"), address=f"fd00::{i:x}", server=True)))
        found.learn(chain_of(advert(prefix(f"fd01:{i:x}::", 300))))
    snoop = found.snoop
    assert (len(snoop.asked), len(snoop.leased), len(snoop.prefixes)) == (LEARNED_MAX,) * 3
    wait(found, 1000)
    verdict(found, dhcp6(3))
    found.learn(chain_of(dhcp6(7, server=True)))
    assert may(found, LEASED), "what is over makes room"


GOOD = st.sampled_from([dhcp6(3), dhcp6(7, server=True), advert(prefix("fd01::", 300)), BROADCAST + ME + b"\x81\x00"])


@given(base=GOOD, cut=st.integers(0, 200), at=st.integers(14, 160), data=st.binary(max_size=20))
def test_no_bytes_harm(base: bytes, cut: int, at: int, data: bytes) -> None:
    frame = (base[:at] + data + base[at + len(data) :])[: max(1, cut)]
    found = guard("ip-nospoof", "dhcp-nospoof")
    verdict(found, dhcp6(3))
    found.learn(chain_of(frame))
    verdict(found, frame)
    assert may(found, "fe80::216:3eff:fe00:1")
