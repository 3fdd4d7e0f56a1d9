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

With ip-nospoof and no allowed-ips, the DHCPv4 server's acknowledgements teach the addresses: each for its lease, to a
request of the client's that is under way. What is too short to be read does not pass a mode that must read it.
Source: dladm(8); illumos, mac_protect.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from xnet.frame import Chain, Frame, head, mac_bytes
from xnet.frame.clock import Clock
from xnet.frame.ether import ETH_P_IP, ETH_P_IPV6, IPPROTO_UDP, network
from xnet.mac.flow import last_header
from xnet.mac.stage import Guard

MODES: Final = ("mac-nospoof", "restricted", "ip-nospoof", "dhcp-nospoof")
COUNTERS: Final = ("macspoofed", "restricted", "ipspoofed", "dhcpspoofed")
ETH_P_ARP: Final = 0x0806
ICMPV6: Final = 58
ND_SOLICIT, ND_ADVERT, ND_ROUTER_SOLICIT = 135, 136, 133
BOOTPS, BOOTPC, DHCPV6_SERVER = 67, 68, 547
COOKIE: Final = bytes((99, 130, 83, 99))
DHCP_AT: Final = 240
"""Where DHCP's options begin in a BOOTP packet."""
OPTION_LEASE, OPTION_TYPE, OPTION_CLIENT = 51, 53, 61
ACK: Final = 5
LEARNED_MAX: Final = 512
FOREVER: Final = float("inf")

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
        self.learned: dict[bytes, float] = {}
        """Addresses of DHCP, each with the end of its lease."""
        self.asked: dict[bytes, float] = {}
        """DHCP requests under way, by xid."""
        self.local = b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]

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
            whole = memoryview(chain.fetched().tobytes(frame)) if len(view) < frame[1] else view
            if "dhcp-nospoof" in modes and not self.is_named(whole[dhcp:], ethertype):
                return "dhcpspoofed"
            if self.learns and ethertype == ETH_P_IP:
                self.ask(whole[dhcp:])
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
        return self.learned.get(address, 0.0) > self.clock.now()

    # --- DHCP

    def is_named(self, packet: memoryview, ethertype: int) -> bool:
        """Whether a DHCP client's names are made of its address, or allowed."""
        if ethertype == ETH_P_IPV6:
            duid = option6(packet, 1)
            return duid is None or duid[-6:] == self.mac or duid in self.cids
        if len(packet) < DHCP_AT or packet[0] != 1:
            return len(packet) >= DHCP_AT
        name = option4(packet, OPTION_CLIENT)
        own = packet[28:34] == self.mac or bytes(packet[28:34]) in self.cids
        return own and (name is None or name[-6:] == self.mac or name in self.cids or name[1:] in self.cids)

    def ask(self, packet: memoryview) -> None:
        """A request is under way."""
        if len(packet) < DHCP_AT or packet[0] != 1:
            return
        now = self.clock.now()
        if len(self.asked) >= LEARNED_MAX:
            self.asked = {xid: until for xid, until in self.asked.items() if until > now}
        if len(self.asked) < LEARNED_MAX:
            self.asked[bytes(packet[4:8])] = now + 60

    def learn(self, chain: Chain) -> None:
        """Acknowledgements of what was asked for."""
        if not self.asked:
            return
        for frame in chain.frames:
            view = head(chain, frame)
            found = network(view, frame[1])
            if found is None or found[1] != ETH_P_IP:
                continue
            size = min(frame[1], len(view))
            at = dhcp_of(view, size, *found)
            if at:
                whole = memoryview(chain.fetched().tobytes(frame)) if len(view) < frame[1] else view
                self.acknowledged(whole[at:])

    def acknowledged(self, packet: memoryview) -> None:
        """What a server says."""
        now, xid = self.clock.now(), bytes(packet[4:8])
        kind = option4(packet, OPTION_TYPE)
        if len(packet) < DHCP_AT or packet[0] != 2 or kind != bytes((ACK,)) or self.asked.get(xid, 0.0) <= now:
            return
        if packet[28:34] != self.mac:
            return
        lease = option4(packet, OPTION_LEASE)
        seconds = int.from_bytes(lease, "big") if lease is not None and len(lease) == 4 else FOREVER
        self.learned = {address: until for address, until in self.learned.items() if until > now}
        if len(self.learned) < LEARNED_MAX:
            self.learned[bytes(packet[16:20])] = now + seconds


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
    wanted = (BOOTPS, BOOTPC) if ethertype == ETH_P_IP else (DHCPV6_SERVER,)
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


def option6(packet: memoryview, wanted: int) -> bytes | None:
    """A DHCPv6 option's value."""
    at = 4
    while at + 4 <= len(packet):
        code, size = packet[at] << 8 | packet[at + 1], packet[at + 2] << 8 | packet[at + 3]
        if code == wanted:
            return bytes(packet[at + 4 : at + 4 + size])
        at += 4 + size
    return None


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
