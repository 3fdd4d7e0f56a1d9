"""Flows: frames of a link that flowadm named, with counters and a cap of their own inside the link's.

All flows of a link are of one kind, as a table looks at one part of a frame only; IP tables match the longest prefix.
"local" is the source of what a link sends, and the destination of what it receives.

=========================  =====================================================
kind                       attributes
=========================  =====================================================
local_ip, remote_ip        an address, or a network as address/length
transport                  tcp udp sctp icmp icmpv6
local_port, remote_port    with transport
dsfield                    value or value:mask, in hexadecimal
=========================  =====================================================

Source: flowadm(8); illumos, mac_flow.c (2009).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from xnet.errors import XnetError
from xnet.frame import Chain, Frame, head
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, IPV6_EXTENSIONS, network
from xnet.mac.bandwidth import Limit

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmpv6": 58}
PORTED: Final = frozenset({6, 17, 132})
ATTRIBUTES: Final = ("local_ip", "remote_ip", "transport", "local_port", "remote_port", "dsfield")
KINDS: Final = {
    frozenset({"local_ip"}): "local_ip",
    frozenset({"remote_ip"}): "remote_ip",
    frozenset({"transport"}): "transport",
    frozenset({"transport", "local_port"}): "local_port",
    frozenset({"transport", "remote_port"}): "remote_port",
    frozenset({"dsfield"}): "dsfield",
}
REMEMBERED: Final = 4096
"""Answers a table remembers."""
FRAGMENT: Final = 44


class FlowError(XnetError):
    """A flow cannot be as asked, in flowadm's words."""


class Flow:
    """One. `tx` and `rx` are its caps, None without."""

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        """FlowError for attributes that make none."""
        kind = KINDS.get(frozenset(attributes))
        if kind is None:
            raise FlowError("invalid argument")
        self.name = name
        self.attributes = dict(attributes)
        self.kind = kind
        self.mask = 0xFF
        self.net: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
        self.key: tuple[int, int] = (0, 0)
        """What it matches: (protocol, port), or (DS field, 0)."""
        if kind.endswith("_ip"):
            self.net = read_net(attributes[kind])
        elif kind == "dsfield":
            self.key, self.mask = read_dsfield(attributes[kind])
        else:
            self.key = read_transport(attributes, kind)
        self.priority = "medium"
        self.bps: int | None = None
        self.tx: Limit | None = None
        self.rx: Limit | None = None
        self.ipkts = self.rbytes = self.opkts = self.obytes = 0

    def same(self, other: Flow) -> bool:
        """Whether both match the same frames."""
        return (self.key, self.mask, self.net) == (other.key, other.mask, other.net)

    def statistics(self) -> dict[str, int]:
        """As flowstat names them; frames a cap dropped are errors, as in Crossbow's kstats of a flow."""
        rx, tx = (0 if limit is None else limit.sdrops for limit in (self.rx, self.tx))
        return {
            "ipkts": self.ipkts,
            "rbytes": self.rbytes,
            "ierrs": rx,
            "opkts": self.opkts,
            "obytes": self.obytes,
            "oerrs": tx,
        }


def read_net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a network, its host bits of no account."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise FlowError("invalid IP address") from None


def read_dsfield(text: str) -> tuple[tuple[int, int], int]:
    """``0xe0:0xe0``: ((value, 0), mask)."""
    value, colon, mask = text.partition(":")
    try:
        found, bits = int(value, 16), int(mask, 16) if colon else 0xFF
    except ValueError:
        raise FlowError("invalid DSField value") from None
    if not (0 <= found <= 0xFF and 0 < bits <= 0xFF):
        raise FlowError("invalid DSField value")
    return (found & bits, 0), bits


def read_transport(attributes: Mapping[str, str], kind: str) -> tuple[int, int]:
    """(protocol, port), 0 for any port."""
    protocol = PROTOCOLS.get(attributes["transport"].lower())
    if protocol is None:
        raise FlowError("invalid protocol")
    if kind == "transport":
        return protocol, 0
    text = attributes[kind]
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 0xFFFF and protocol in PORTED):
        raise FlowError("invalid port")
    return protocol, int(text)


class FlowTable:
    """The flows of one link."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.kind = ""
        self.at: dict[tuple[int, int], Flow] = {}
        self.nets: list[tuple[int, int, int, Flow]] = []
        """(version, mask, network, flow), the longest prefix first."""
        self.known: dict[bytes, Flow | None] = {}

    def add(self, flow: Flow) -> None:
        """FlowError when the table is of another kind, or has one that matches the same."""
        for other in self.flows.values():
            if other.kind != flow.kind or other.mask != flow.mask:
                raise FlowError("flow(s) with incompatible attributes exists")
            if other.same(flow):
                raise FlowError("a flow with identical attributes exists")
        self.flows[flow.name] = flow
        self.build()

    def remove(self, name: str) -> Flow:
        """Take a flow out."""
        flow = self.flows.pop(name)
        self.build()
        return flow

    def build(self) -> None:
        """The table anew, of the flows there are."""
        flows = list(self.flows.values())
        self.kind = flows[0].kind if flows else ""
        self.at = {flow.key: flow for flow in flows}
        nets = sorted((flow for flow in flows if flow.net is not None), key=prefix, reverse=True)
        self.nets = [
            (flow.net.version, int(flow.net.netmask), int(flow.net.network_address), flow)
            for flow in nets
            if flow.net is not None
        ]
        self.known = {}

    def split(self, chain: Chain, outbound: bool) -> list[tuple[Flow | None, Chain]]:  # hot
        """The chain's frames by flow, those of none by None; the very chain where they are all of one."""
        lanes: dict[Flow | None, list[Frame]] = {}
        for frame in chain.frames:
            lanes.setdefault(self.flow_of(head(chain, frame), frame[1], outbound), []).append(frame)
        if len(lanes) == 1:
            return [(next(iter(lanes)), chain)]
        return [(flow, chain.part(frames)) for flow, frames in lanes.items()]

    def flow_of(self, view: memoryview, length: int, outbound: bool) -> Flow | None:  # hot
        """The flow of a frame whose headers are in `view`."""
        size = min(length, len(view))
        if size >= 38 and view[12] == 0x08 and view[13] == 0 and view[14] == 0x45:
            at, ethertype = 14, ETH_P_IP
        else:
            found = network(view, length)
            if found is None:
                return None
            at, ethertype = found
        key = self.key_of(view, size, at, ethertype, outbound)
        if not key:
            return None
        known = self.known
        if key in known:
            return known[key]
        if len(known) >= REMEMBERED:
            known.clear()
        flow = known[key] = self.look(key)
        return flow

    def key_of(self, view: memoryview, size: int, at: int, ethertype: int, outbound: bool) -> bytes:  # hot
        """What the table looks at: an address; protocol, or protocol and port; the DS field. Empty: not there."""
        kind = self.kind
        if ethertype == ETH_P_IP:
            if size < at + 20:
                return b""
            if kind == "local_ip" or kind == "remote_ip":
                place = at + 12 if (kind == "local_ip") == outbound else at + 16
                return bytes(view[place : place + 4])
            if kind == "dsfield":
                return bytes(view[at + 1 : at + 2])
            protocol = view[at + 9]
            l4 = at + (view[at] & 15) * 4
            whole = not (view[at + 6] & 0x1F or view[at + 7])  # or the first fragment, which has the ports
        elif ethertype == ETH_P_IPV6:
            if size < at + 40:
                return b""
            if kind == "local_ip" or kind == "remote_ip":
                place = at + 8 if (kind == "local_ip") == outbound else at + 24
                return bytes(view[place : place + 16])
            if kind == "dsfield":
                return bytes([(view[at] << 4 | view[at + 1] >> 4) & 0xFF])
            protocol, l4, whole = last_header(view, size, at)
        else:
            return b""
        if kind == "transport":
            return bytes([protocol])
        if not whole or size < l4 + 4 or protocol not in PORTED:
            return b""
        place = l4 if (kind == "local_port") == outbound else l4 + 2
        return bytes([protocol, view[place], view[place + 1]])

    def look(self, key: bytes) -> Flow | None:
        """The flow for what the table looks at."""
        if self.nets:
            version, number = (4 if len(key) == 4 else 6), int.from_bytes(key, "big")
            for family, mask, base, flow in self.nets:
                if family == version and number & mask == base:
                    return flow
            return None
        if self.kind == "dsfield":
            flows = list(self.flows.values())
            return self.at.get((key[0] & flows[0].mask, 0)) if flows else None
        return self.at.get((key[0], int.from_bytes(key[1:], "big")))


def prefix(flow: Flow) -> int:
    """How long its prefix is."""
    return flow.net.prefixlen if flow.net is not None else 0


def last_header(view: memoryview, size: int, at: int) -> tuple[int, int, bool]:
    """Past IPv6's extension headers: the protocol, where its header is, and whether that is there."""
    protocol, l4, whole = view[at + 6], at + 40, True
    for _ in range(8):
        if protocol == FRAGMENT and l4 + 8 <= size:
            whole = not (view[l4 + 2] or view[l4 + 3] & 0xF8)
            protocol, l4 = view[l4], l4 + 8
        elif protocol in IPV6_EXTENSIONS and l4 + 8 <= size:
            protocol, l4 = view[l4], l4 + view[l4 + 1] * 8 + 8
        else:
            break
    return protocol, l4, whole
