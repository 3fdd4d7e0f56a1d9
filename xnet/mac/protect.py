"""Protection: what a client may send (link property ``protection``), checked in this order, each with its counter.

===============  ==============  ==================================================================================
mode             counter         a frame passes if
===============  ==============  ==================================================================================
mac-nospoof      macspoofed      its source is the client's address
restricted       restricted      it is IPv4, IPv6 or ARP
ip-nospoof       ipspoofed       its IP source (in ARP the sender's addresses, in NDP the target told of) is one of
                                 allowed-ips, 0.0.0.0, :: or the client's own link-local address
dhcp-nospoof     dhcpspoofed     what a DHCP client calls itself (chaddr, client id, DUID) is made of its address, or is
                                 one of allowed-dhcp-cids
===============  ==============  ==================================================================================

With ip-nospoof and no allowed-ips, addresses are learned (`snoop`): from DHCPv4, DHCPv6 and router advertisements. What
is too short to be read does not pass a mode that must read it.
Source: dladm(8); illumos, mac_protect.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from xnet.frame import Chain, Frame, head, mac_bytes
from xnet.frame.clock import Clock
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, network
from xnet.mac.flow import last_header
from xnet.mac.snoop import (
    CLIENT_ID6,
    CLIENTS6,
    DHCP_AT,
    ICMPV6,
    OPTION_CLIENT,
    Snoop,
    dhcp_of,
    eui64,
    option4,
    option6,
    whole_of,
)
from xnet.mac.stage import Guard

MODES: Final = ("mac-nospoof", "restricted", "ip-nospoof", "dhcp-nospoof")
COUNTERS: Final = ("macspoofed", "restricted", "ipspoofed", "dhcpspoofed")
ETH_P_ARP: Final = 0x0806
ND_SOLICIT, ND_ADVERT, ND_ROUTER_SOLICIT = 135, 136, 133

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Protection(Guard):
    """That of one client with the address `mac`. `allowed`: networks; `cids`: client ids or DUIDs."""

    def __init__(
        self,
        mac: bytes,
        modes: Iterable[str],
        clock: Clock,
        allowed: Sequence[Network] = (),
        cids: Sequence[bytes] = (),
    ) -> None:
        self.mac = mac
        self.macs = frozenset((mac,))
        """All of the client's: `mac`, and its secondary ones."""
        self.modes = frozenset(modes)
        self.clock = clock
        self.allowed = tuple(allowed)
        self.cids = frozenset(cids)
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.snoop = Snoop(mac, clock)
        self.local = b"\xfe\x80" + bytes(6) + eui64(mac)

    @property
    def learns(self) -> bool:
        """Nothing is learned beside what was allowed."""
        return "ip-nospoof" in self.modes and not self.allowed

    def passed(self, chain: Chain) -> Chain:  # hot
        """The frames that may go."""
        kept: list[Frame] = []
        for frame in chain.frames:
            cause = self.objection(chain, frame)
            if cause:
                self.counters[cause] += 1
            else:
                kept.append(frame)
        return chain if len(kept) == len(chain.frames) else chain.part(kept)

    def objection(self, chain: Chain, frame: Frame) -> str:
        """The counter of why a frame may not go, or nothing."""
        view, modes = head(chain, frame), self.modes
        if "mac-nospoof" in modes and bytes(view[6:12]) not in self.macs:
            return "macspoofed"
        if len(modes) == 1 and "mac-nospoof" in modes:
            return ""
        found = network(view, frame[1])
        at, ethertype = found if found is not None else (0, 0)
        if "restricted" in modes and ethertype not in (ETH_P_IP, ETH_P_IPV6, ETH_P_ARP):
            return "restricted"
        size = min(frame[1], len(view))
        if "ip-nospoof" in modes and not self.is_own(view, size, at, ethertype):
            return "ipspoofed"
        dhcp = dhcp_of(view, size, at, ethertype)
        if dhcp:
            whole = whole_of(chain, frame, view)
            if "dhcp-nospoof" in modes and not self.is_named(whole[dhcp:], ethertype):
                return "dhcpspoofed"
            if self.learns:
                self.snoop.said(whole[dhcp:], ethertype)
        return ""

    # --- whose addresses

    def is_own(self, view: memoryview, size: int, at: int, ethertype: int) -> bool:
        """Whether the addresses a frame comes from are the client's."""
        if ethertype == ETH_P_IP:
            return size >= at + 20 and self.may(bytes(view[at + 12 : at + 16]))
        if ethertype == ETH_P_ARP:
            hardware, sender = bytes(view[at + 8 : at + 14]), bytes(view[at + 14 : at + 18])
            return size >= at + 28 and hardware in self.macs and self.may(sender)
        if ethertype == ETH_P_IPV6:
            if size < at + 40 or not self.may(bytes(view[at + 8 : at + 24])):
                return False
            return self.is_neighbour(view, size, at)
        return True

    def is_neighbour(self, view: memoryview, size: int, at: int) -> bool:
        """Whether what neighbour discovery tells of is the client's: a target, and link-layer addresses."""
        protocol, l4, _ = last_header(view, size, at)
        if protocol != ICMPV6 or l4 + 8 > size or view[l4] not in (ND_SOLICIT, ND_ADVERT, ND_ROUTER_SOLICIT):
            return True
        options = l4 + (8 if view[l4] == ND_ROUTER_SOLICIT else 24)
        if options > size or (view[l4] == ND_ADVERT and not self.may(bytes(view[l4 + 8 : l4 + 24]))):
            return False
        while options + 8 <= size and view[options + 1]:
            if view[options] in (1, 2) and bytes(view[options + 2 : options + 8]) not in self.macs:
                return False
            options += view[options + 1] * 8
        return True

    def may(self, address: bytes) -> bool:
        """Whether it may come from this address."""
        if not any(address) or address == self.local:
            return True
        if not self.learns:
            there = ipaddress.ip_address(address)
            return any(there.version == net.version and there in net for net in self.allowed)
        return self.snoop.knows(address, self.macs)

    # --- DHCP

    def is_named(self, packet: memoryview, ethertype: int) -> bool:
        """Whether a DHCP client's names are made of its address, or allowed."""
        if ethertype == ETH_P_IPV6:
            duid = option6(packet, CLIENT_ID6) if len(packet) and packet[0] in CLIENTS6 else None
            return duid is None or duid[-6:] == self.mac or duid in self.cids
        if len(packet) < DHCP_AT or packet[0] != 1:
            return len(packet) >= DHCP_AT
        name = option4(packet, OPTION_CLIENT)
        own = packet[28:34] == self.mac or bytes(packet[28:34]) in self.cids
        return own and (name is None or name[-6:] == self.mac or name in self.cids or name[1:] in self.cids)

    def learn(self, chain: Chain) -> None:
        """What the network tells the client."""
        if self.learns:
            self.snoop.hear(chain)


def parse_cid(text: str) -> bytes:
    """A client id or DUID: ``0x`` and hexadecimal digits, an Ethernet address, or text. ValueError."""
    if text.startswith("0x"):
        found = bytes.fromhex(text[2:])
    elif text.count(":") == 5:
        found = mac_bytes(text) or b""
    else:
        found = text.encode()
    if not 0 < len(found) <= 256:
        raise ValueError(f"{text}: 1 to 256 bytes")
    return found
