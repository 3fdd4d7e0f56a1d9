"""Flows: what frames have in common that must keep their order, and the queue that follows from it.

Addresses and protocol and, of TCP and UDP that is not in fragments, ports; of anything but IP the two MAC addresses.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, network, transport

ADDRESSES: Final = {ETH_P_IP: (12, 20), ETH_P_IPV6: (8, 40)}
"""Where source and destination are in a header: from, up to (its end, without options)."""
MIX: Final = 0x9E3779B1
"""2^32 by the golden ratio (Knuth's multiplicative hash)."""
MACS: Final = 12


class Flow(NamedTuple):
    """One flow. All bytes as they are in the frame: source, then destination."""

    ethertype: int
    """0: not IP."""
    protocol: int
    """IPPROTO_TCP or IPPROTO_UDP; 0 where there are no ports."""
    addresses: bytes
    ports: bytes


def flow_of(view: memoryview, length: int) -> Flow:
    """The flow of a frame (see `xnet.frame.ether` for `view` and `length`)."""
    found = network(view, length)
    if found is not None and found[1] in ADDRESSES:
        at, ethertype = found
        begin, end = ADDRESSES[ethertype]
        if at + end <= min(len(view), length):
            place = transport(view, length)
            ports = b"" if place is None else bytes(view[place[0] : place[0] + 4])
            return Flow(ethertype, 0 if place is None else place[2], bytes(view[at + begin : at + end]), ports)
    return Flow(0, 0, bytes(view[: min(MACS, length)]), b"")


def spread(flow: Flow, count: int) -> int:
    """The queue of a flow, of so many. All bits of the checksum have a say: the low ones alone do not tell ports apart
    that are even, as Linux hands them out one after another."""
    number = crc32(flow.ports, crc32(flow.addresses, flow.protocol))
    return (number * MIX & 0xFFFFFFFF) * count >> 32
