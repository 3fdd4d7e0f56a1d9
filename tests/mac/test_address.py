"""Addresses and names as dladm takes and prints them."""

from __future__ import annotations

from random import Random

import pytest

from xnet.mac import format_mac, is_legal_name, random_mac, vnic_name


def test_octets_are_printed_without_leading_zeros() -> None:
    assert format_mac(bytes.fromhex("0208201a02ff")) == "2:8:20:1a:2:ff"
    assert format_mac(bytes(6)) == "0:0:0:0:0:0"


def test_a_random_address_begins_with_its_prefix_and_is_the_seeds() -> None:
    assert random_mac(Random(7))[:3] == bytes.fromhex("020820")
    assert random_mac(Random(7)) == random_mac(Random(7))
    assert random_mac(Random(7)) != random_mac(Random(8))
    assert random_mac(Random(1), b"\x00\x16\x3e\x01\x02")[:5] == b"\x00\x16\x3e\x01\x02"
    assert {len(random_mac(Random(1), bytes(length))) for length in range(1, 6)} == {6}


@pytest.mark.parametrize("prefix", [b"", b"\x01", b"\xff\xff\xff", bytes(6)])
def test_a_prefix_that_makes_no_unicast_address_is_refused(prefix: bytes) -> None:
    with pytest.raises(ValueError, match="begins no unicast address"):
        random_mac(Random(1), prefix)


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("net0", True),
        ("xvm1_0", True),
        ("e1000g5000", True),
        ("v.1_a2", True),
        ("a4294967294", True),
        ("a4294967295", False),
        ("a" * 30 + "1", True),
        ("a" * 31 + "1", False),
        ("net", False),
        ("net00", False),
        ("net01", False),
        ("0net0", False),
        ("_net0", False),
        ("0", False),
        ("", False),
        ("net-0", False),
        ("net 0", False),
        ("net0\n", False),
        ("nét0", False),
    ],
)
def test_names_of_links(name: str, legal: bool) -> None:
    assert is_legal_name(name) is legal


def test_a_vnic_is_named_after_its_guest_and_is_legal() -> None:
    assert vnic_name(12, 3) == "xvm12_3"
    assert is_legal_name(vnic_name(1, 0))
