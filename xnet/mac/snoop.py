"""Snoop: which addresses a client came by honestly, as seen on its wire (``ip-nospoof`` without ``allowed-ips``).

=======  ====================================  ===================================================  ==================
method   the client says                       the network says                                     then it may use
=======  ====================================  ===================================================  ==================
DHCPv4   a request (xid)                       ACK to that xid and its chaddr                       yiaddr, its lease
DHCPv6   Solicit to Rebind (xid, DUID)         Reply to that xid and DUID: IA_NA's addresses        each, its valid
                                                                                                    lifetime
SLAAC                                          Router Advertisement: prefixes of 64 bits that are   prefix and EUI-64
                                               autonomous, for their valid lifetime                 of its own MACs
=======  ====================================  ===================================================  ==================

Release and Decline give DHCPv6 addresses back. An advertisement alone does not take a prefix away sooner than in two
hours (RFC 4862, 5.5.3), or anybody could. Addresses a guest makes up in such a prefix (privacy addresses) are not
known: name them in allowed-ips. At most LEARNED_MAX of each are remembered, a request for ASKED_S.
Sources: RFC 2131, 8415, 4861, 4862; illumos, mac_protect.c.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from xnet.frame import Chain, Frame, head
from xnet.frame.clock import Clock
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, IPPROTO_UDP, network
from xnet.mac.flow import last_header

BOOTPS, BOOTPC, DHCPV6_SERVER, DHCPV6_CLIENT = 67, 68, 547, 546
COOKIE: Final = bytes((99, 130, 83, 99))
DHCP_AT: Final = 240
"""Where DHCP's options begin in a BOOTP packet."""
OPTION_LEASE, OPTION_TYPE, OPTION_CLIENT = 51, 53, 61
ACK: Final = 5
ASKS6: Final = frozenset({1, 3, 4, 5, 6})
"""Solicit, Request, Confirm, Renew, Rebind."""
REPLY6, RELEASE6, DECLINE6, INFORMATION6 = 7, 8, 9, 11
CLIENTS6: Final = ASKS6 | {RELEASE6, DECLINE6, INFORMATION6}
"""What clients send."""
CLIENT_ID6, IA_NA6, IAADDR6 = 1, 3, 5
ICMPV6, ROUTER_ADVERT = 58, 134
PREFIX_OPTION, PREFIX_BITS, AUTONOMOUS = 3, 64, 0x40
TWO_HOURS: Final = 7200
ASKED_S: Final = 60.0
LEARNED_MAX: Final = 512
FOREVER: Final = float("inf")
INFINITE: Final = 0xFFFFFFFF


class Snoop:
    """What is known of one client."""

    def __init__(self, mac: bytes, clock: Clock) -> None:
        self.mac = mac
        self.clock = clock
        self.leased: dict[bytes, float] = {}
        """Addresses of DHCP, each with its end."""
        self.prefixes: dict[bytes, float] = {}
        """The first half of SLAAC's addresses, each with its end."""
        self.asked: dict[bytes, tuple[bytes, float]] = {}
        """DHCP exchanges under way, by xid: the DUID, or nothing, and the end."""

    def knows(self, address: bytes, macs: Collection[bytes]) -> bool:
        """The client may use this one, and has these MACs."""
        now = self.clock.now()
        if self.leased.get(address, 0.0) > now:
            return True
        if len(address) != 16 or self.prefixes.get(address[:8], 0.0) <= now:
            return False
        return any(eui64(mac) == address[8:] for mac in macs)

    # --- from the client

    def said(self, packet: memoryview, ethertype: int) -> None:
        """A DHCP packet to a server."""
        if ethertype == ETH_P_IP:
            if len(packet) >= DHCP_AT and packet[0] == 1:
                self.ask(bytes(packet[4:8]), b"")
            return
        if len(packet) < 4:
            return
        if packet[0] in ASKS6:
            self.ask(bytes(packet[1:4]), option6(packet, CLIENT_ID6) or b"")
        elif packet[0] in (RELEASE6, DECLINE6):
            for address, _ in addresses6(packet):
                self.leased.pop(address, None)

    def ask(self, xid: bytes, duid: bytes) -> None:
        """An exchange is under way."""
        now = self.clock.now()
        if len(self.asked) >= LEARNED_MAX:
            self.asked = {xid: (duid, until) for xid, (duid, until) in self.asked.items() if until > now}
        if len(self.asked) < LEARNED_MAX:
            self.asked[xid] = duid, now + ASKED_S

    # --- from the network

    def hear(self, chain: Chain) -> None:
        """Frames toward the client."""
        for frame in chain.frames:
            view = head(chain, frame)
            found = network(view, frame[1])
            if found is None:
                continue
            size = min(frame[1], len(view))
            at = dhcp_of(view, size, *found)
            if at and self.asked:
                self.answered(whole_of(chain, frame, view)[at:], found[1])
            elif found[1] == ETH_P_IPV6 and is_advert(view, size, found[0]):
                self.advertised(whole_of(chain, frame, view)[found[0] :])

    def answered(self, packet: memoryview, ethertype: int) -> None:
        """What a DHCP server says."""
        if ethertype == ETH_P_IP:
            self.acknowledged(packet)
            return
        if len(packet) < 4 or packet[0] != REPLY6:
            return
        duid, until = self.asked.get(bytes(packet[1:4]), (b"", 0.0))
        if until <= self.clock.now() or not duid or option6(packet, CLIENT_ID6) != duid:
            return
        for address, valid in addresses6(packet):
            if valid:
                self.lease(address, FOREVER if valid == INFINITE else float(valid))
            else:
                self.leased.pop(address, None)

    def acknowledged(self, packet: memoryview) -> None:
        """What a DHCPv4 server says."""
        if len(packet) < DHCP_AT or packet[0] != 2 or option4(packet, OPTION_TYPE) != bytes((ACK,)):
            return
        _, until = self.asked.get(bytes(packet[4:8]), (b"", 0.0))
        if until <= self.clock.now() or packet[28:34] != self.mac:
            return
        lease = option4(packet, OPTION_LEASE)
        self.lease(bytes(packet[16:20]), int.from_bytes(lease, "big") if lease and len(lease) == 4 else FOREVER)

    def lease(self, address: bytes, seconds: float) -> None:
        """An address for so long."""
        now = self.clock.now()
        self.leased = {each: until for each, until in self.leased.items() if until > now}
        if len(self.leased) < LEARNED_MAX or address in self.leased:
            self.leased[address] = now + seconds

    def advertised(self, packet: memoryview) -> None:
        """What a router says: an IPv6 packet."""
        now = self.clock.now()
        self.prefixes = {each: until for each, until in self.prefixes.items() if until > now}
        _, at, _ = last_header(packet, len(packet), 0)
        at += 16
        while at + 8 <= len(packet) and packet[at + 1]:
            option = packet[at : at + packet[at + 1] * 8]
            at += len(option)
            if (
                len(option) != 32
                or option[0] != PREFIX_OPTION
                or option[2] != PREFIX_BITS
                or not option[3] & AUTONOMOUS
            ):
                continue
            valid, prefix = int.from_bytes(option[4:8], "big"), bytes(option[16:24])
            left = self.prefixes.get(prefix, now) - now
            if valid > TWO_HOURS or valid > left:
                left = FOREVER if valid == INFINITE else valid
            elif left > TWO_HOURS:
                left = TWO_HOURS
            if left > 0 and (prefix in self.prefixes or len(self.prefixes) < LEARNED_MAX):
                self.prefixes[prefix] = now + left


def whole_of(chain: Chain, frame: Frame, view: memoryview) -> memoryview:
    """All bytes of a frame of which the head may be only a part."""
    return memoryview(chain.fetched().tobytes(frame)) if len(view) < frame[1] else view


def eui64(mac: bytes) -> bytes:
    """The interface identifier made of a MAC address."""
    return bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


def is_advert(view: memoryview, size: int, at: int) -> bool:
    """It is a Router Advertisement of a neighbour's."""
    if size < at + 40 or view[at + 7] != 255 or view[at + 8] != 0xFE or view[at + 9] & 0xC0 != 0x80:
        return False
    protocol, l4, whole = last_header(view, size, at)
    return whole and protocol == ICMPV6 and l4 + 16 <= size and view[l4] == ROUTER_ADVERT


def dhcp_of(view: memoryview, size: int, at: int, ethertype: int) -> int:
    """Where a DHCP packet is, to a server or from one; 0: it is none. Fragments after the first are none."""
    if ethertype == ETH_P_IP and size >= at + 20:
        protocol, l4 = view[at + 9], at + (view[at] & 15) * 4
        if view[at + 6] & 0x1F or view[at + 7]:
            return 0
    elif ethertype == ETH_P_IPV6 and size >= at + 40:
        protocol, l4, whole = last_header(view, size, at)
        if not whole:
            return 0
    else:
        return 0
    if protocol != IPPROTO_UDP or size < l4 + 8:
        return 0
    port = view[l4 + 2] << 8 | view[l4 + 3]
    wanted = (BOOTPS, BOOTPC) if ethertype == ETH_P_IP else (DHCPV6_SERVER, DHCPV6_CLIENT)
    return l4 + 8 if port in wanted else 0


def option4(packet: memoryview, wanted: int) -> bytes | None:
    """A DHCPv4 option's value."""
    if len(packet) < DHCP_AT or packet[236:DHCP_AT] != COOKIE:
        return None
    at = DHCP_AT
    while at < len(packet) and packet[at] != 255:
        if not packet[at]:
            at += 1
            continue
        if at + 1 >= len(packet):
            return None
        if packet[at] == wanted:
            return bytes(packet[at + 2 : at + 2 + packet[at + 1]])
        at += 2 + packet[at + 1]
    return None


def options6(packet: memoryview, at: int) -> Iterator[tuple[int, memoryview]]:
    """DHCPv6 options from there on."""
    while at + 4 <= len(packet):
        code, size = packet[at] << 8 | packet[at + 1], packet[at + 2] << 8 | packet[at + 3]
        yield code, packet[at + 4 : at + 4 + size]
        at += 4 + size


def option6(packet: memoryview, wanted: int) -> bytes | None:
    """A DHCPv6 option's value."""
    return next((bytes(value) for code, value in options6(packet, 4) if code == wanted), None)


def addresses6(packet: memoryview) -> Iterator[tuple[bytes, int]]:
    """The addresses of all IA_NA of a DHCPv6 packet, each with its valid lifetime in seconds."""
    for code, association in options6(packet, 4):
        if code == IA_NA6:
            for inner, value in options6(association, 12):
                if inner == IAADDR6 and len(value) >= 24:
                    yield bytes(value[:16]), int.from_bytes(value[20:24], "big")
