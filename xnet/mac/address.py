"""Addresses and names as Solaris writes and chooses them. Source: dladm(8), libdladm."""

from __future__ import annotations

import re
from typing import Protocol

from xnet.errors import XnetError

RANDOM_PREFIX = bytes((0x02, 0x08, 0x20))
"""What `dladm create-vnic -m random` begins an address with unless -r says otherwise."""

NAME_MAX = 31
UNIT_MAX = 4294967294
NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.]*[A-Za-z_.])?(0|[1-9][0-9]*)")


class MacError(XnetError):
    """A link or vnic cannot be as asked. `status`: why, in dladm's own words."""

    def __init__(self, what: str, status: str, more: str = "") -> None:
        super().__init__(f"{what}: {status}{more}")
        self.status = status


class Dice(Protocol):
    """Chance from outside: a seeded random.Random will do."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""


def format_mac(mac: bytes) -> str:
    """``2:8:20:1a:2:ff``: hexadecimal octets without leading zeros."""
    return ":".join(f"{octet:x}" for octet in mac)


def random_mac(dice: Dice, prefix: bytes = RANDOM_PREFIX) -> bytes:
    """An address that begins with `prefix`, one to five bytes; ValueError if that makes it a group address."""
    if not 0 < len(prefix) < 6 or prefix[0] & 1:
        raise ValueError(f"{format_mac(prefix) or 'nothing'} begins no unicast address")
    left = 6 - len(prefix)
    return prefix + dice.getrandbits(8 * left).to_bytes(left, "big")


def is_legal_name(name: str) -> bool:
    """Whether dladm takes it for a link: a letter, then letters digits _ and ., a number without leading zeros last."""
    found = NAME.fullmatch(name)
    return found is not None and len(name) <= NAME_MAX and int(found[1]) <= UNIT_MAX


def vnic_name(domid: int, handle: int) -> str:
    """The vnic of a guest's vif, as Solaris' vif-vnic script names it: ``xvm1_0``."""
    return f"xvm{domid}_{handle}"
