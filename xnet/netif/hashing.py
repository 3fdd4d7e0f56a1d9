"""Hashing: a number for each flow as the guest wants it computed, and the queue it wants that number in (RSS).

The guest sets algorithm, kinds of flows, key and mapping by the control ring (`ctrl`). A flow of a kind that is not
asked for has no hash, and goes where the hash 0 would. Source: public/io/netif.h; Linux's xen-netback/hash.c; the test
vectors in Microsoft's "Verifying the RSS Hash Calculation".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from xnet.abi.xen.netif import (
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6,
    XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
)
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP
from xnet.netif.flow import Flow

KEY_SIZE: Final = 40
"""Bytes of a key; a shorter one is filled up with zeros."""
MOST_ENTRIES: Final = 128
"""Of a mapping, as Linux's netback has it."""
KINDS: Final = {
    ETH_P_IP: (XEN_NETIF_CTRL_HASH_TYPE_IPV4, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP),
    ETH_P_IPV6: (XEN_NETIF_CTRL_HASH_TYPE_IPV6, XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP),
}
"""Of a family: the bit for addresses alone, the bit for TCP with its ports."""
ALL_KINDS: Final = sum(bit for bits in KINDS.values() for bit in bits)
KIND_NAMES: Final = {
    XEN_NETIF_CTRL_HASH_TYPE_IPV4: "ipv4",
    XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP: "ipv4-tcp",
    XEN_NETIF_CTRL_HASH_TYPE_IPV6: "ipv6",
    XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP: "ipv6-tcp",
}
"""For people."""
INPUT_SIZE: Final = 36
"""The most that is hashed: two IPv6 addresses and two ports."""


class Hash(NamedTuple):
    """A flow's hash, and what it is of: the number of a XEN_NETIF_CTRL_HASH_TYPE bit."""

    value: int
    kind: int


class Hashing:
    """What one guest set; nothing at first."""

    def __init__(self) -> None:
        self.algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_NONE
        self.flags = 0
        """XEN_NETIF_CTRL_HASH_TYPE_*."""
        self.key = bytes(KEY_SIZE)
        self.mapping: list[int] = []
        """Queue by the hash's remainder; empty: the remainder by the number of queues is the queue."""

    @property
    def on(self) -> bool:
        """It is the guest who says whose queue a flow is."""
        return self.algorithm == XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ

    @property
    def told(self) -> bool:
        """Frames take their hash along."""
        return self.on and self.flags != 0

    def of(self, flow: Flow) -> Hash | None:
        """A flow's hash; None: it has none."""
        if not self.told or flow.ethertype not in KINDS:
            return None
        plain, tcp = KINDS[flow.ethertype]
        if flow.protocol == IPPROTO_TCP and self.flags & tcp:
            return Hash(toeplitz(self.key, flow.addresses + flow.ports), tcp.bit_length() - 1)
        if self.flags & plain:
            return Hash(toeplitz(self.key, flow.addresses), plain.bit_length() - 1)
        return None

    def queue(self, flow: Flow, count: int) -> int:
        """The queue of a flow, of so many."""
        found = self.of(flow)
        value = 0 if found is None else found.value
        return self.mapping[value % len(self.mapping)] if self.mapping else value % count


def toeplitz(key: bytes, data: bytes) -> int:
    """The exclusive or of the 32 bits of the key that begin at each bit set in `data`, most significant bit first.
    `data`: at most `INPUT_SIZE` bytes."""
    value, tables = 0, tables_of(key)
    for at, byte in enumerate(data):
        value ^= tables[2 * at][byte >> 4] ^ tables[2 * at + 1][byte & 15]
    return value


@lru_cache(maxsize=64)
def tables_of(key: bytes) -> list[list[int]]:
    """For each four bits of the input, what each value of theirs adds to the hash: 0.3 ms."""
    bits, size = int.from_bytes(key, "big"), 8 * len(key)
    found = []
    for at in range(0, 8 * INPUT_SIZE, 4):
        windows = [bits >> (size - 32 - at - bit) & 0xFFFFFFFF for bit in range(3, -1, -1)]  # by the bit's weight
        table = [0]
        for window in windows:
            table += [each ^ window for each in table]
        found.append(table)
    return found
