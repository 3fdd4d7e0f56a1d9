"""Aggregation: several wires as one, with failover (``dladm create-aggr``).

======  ================================================================  ========================================
mode    a frame leaves by                                                 what comes in
======  ================================================================  ========================================
trunk   an active port, chosen by a hash of what the policy says          all of it: the other end is one trunk too
dlmp    the active port of its source address                             what came by the port of its destination;
                                                                          groups, by the first that is active
======  ================================================================  ========================================

Policy: L2 (addresses and type), L3 (IP addresses), L4 (ports besides), or several with a comma; the frames of one
stream stay in order. A fragment has no ports. A port is active while its wire is up; with none, frames are dropped and
counted. In neither mode does a client hear its own group frame, which a bridge may bring back by another port. Under
dlmp (Solaris 11.1) the ports may be in one plain switch; when an address moves to another port, a RARP frame from it
says so, as after a live migration. LACP is not spoken. Source: dladm(8), illumos' aggr_send.c and aggr_recv.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from xnet.frame import Chain, Client, Frame, Link, head, is_multicast, network, own, transport
from xnet.frame.ether import BROADCAST, ETH_P_IP, ETH_P_IPV6
from xnet.mac.vswitch import Switch

POLICIES: Final = ("L2", "L3", "L4")
MODES: Final = ("trunk", "dlmp")
ADDRESSES: Final = {ETH_P_IP: (12, 20), ETH_P_IPV6: (8, 40)}
"""Where both are in an IP header, by ethertype."""
GOLDEN: Final = 0x9E3779B1
"""2**32 / phi: Knuth's multiplier."""
COUNTERS: Final = ("ipackets", "rbytes", "opackets", "obytes")
RARP: Final = bytes.fromhex("8035000108000604") + b"\0\3"
"""Ethertype, Ethernet, IPv4, lengths, request reverse."""


def parse_policy(text: str) -> tuple[str, ...]:
    """``L2,L4``: in order, each once. ValueError."""
    wanted = {part.strip().upper() for part in text.split(",")}
    if not wanted <= set(POLICIES):
        raise ValueError(f"policy '{text}'")
    return tuple(each for each in POLICIES if each in wanted)


class AggrPort(Client):
    """One wire of an aggregation."""

    def __init__(self, name: str, link: Link, owner: Aggregation) -> None:
        self.name = name
        self.link = link
        self.owner = owner
        self.up = True
        self.counters = dict.fromkeys(COUNTERS, 0)

    def tx(self, chain: Chain) -> None:
        """Frames out of this wire."""
        self.counters["opackets"] += len(chain.frames)
        self.counters["obytes"] += chain.size()
        self.link.tx(chain)

    def rx(self, chain: Chain) -> None:
        """Frames from it."""
        self.counters["ipackets"] += len(chain.frames)
        self.counters["rbytes"] += chain.size()
        self.owner.arrived(self, chain)

    def room(self) -> int:
        """The client's."""
        client = self.owner.client
        return 0 if client is None else client.room()

    def backlog(self) -> int:
        """The client's."""
        client = self.owner.client
        return 0 if client is None else client.backlog()

    def link_ready(self) -> None:
        """Nobody waited: `Aggregation.room` is always plenty."""


class Aggregation(Link):
    """The one link."""

    def __init__(self, name: str, policy: Sequence[str] = ("L4",), *, mode: str = "trunk") -> None:
        """`policy` as `parse_policy` gives it, `mode` one of MODES."""
        self.name = name
        self.policy = tuple(policy)
        self.mode = mode
        self.mtu = 0
        self.heads_only = False
        self.ports: list[AggrPort] = []
        self.client: Client | None = None
        self.switch: Switch | None = None
        self.ours: frozenset[bytes] = frozenset()
        """The addresses of those on the switch above."""
        self.dropped = 0
        """Frames that no port was up for."""

    # --- ports

    def add(self, name: str, link: Link) -> AggrPort:
        """One more wire; the link's MTU is the least of all."""
        port = AggrPort(name, link, self)
        before = self.places()
        self.ports.append(port)
        self.mtu = min(each.link.mtu for each in self.ports)
        if self.client is not None:
            link.attach(port)
        self.announce(before)
        return port

    def remove(self, name: str) -> Link:
        """A wire less: it is nobody's any more."""
        port = next(each for each in self.ports if each.name == name)
        before = self.places()
        self.ports.remove(port)
        port.link.attach(None)
        self.announce(before)
        return port.link

    def set_up(self, port: AggrPort, up: bool) -> None:
        """A wire has its carrier, or has lost it: its streams go on by others."""
        if port.up != up:
            before = self.places()
            port.up = up
            self.announce(before)

    def know(self) -> None:
        """Others are on the switch than before."""
        self.ours = frozenset(self.switch.addresses()) if self.switch is not None else frozenset()

    def active(self) -> list[AggrPort]:
        """The ports that carry frames."""
        return [port for port in self.ports if port.up]

    def places(self) -> dict[bytes, AggrPort]:
        """Under dlmp, the port of each of our addresses."""
        active = self.active()
        return {mac: place(mac, active) for mac in self.ours} if self.mode == "dlmp" and active else {}

    def announce(self, before: dict[bytes, AggrPort]) -> None:
        """Say of each address that has moved where it is now."""
        for mac, port in self.places().items():
            if before.get(mac) is not port:
                frame = (BROADCAST + mac + RARP + mac + bytes(4) + mac + bytes(4)).ljust(60, b"\0")
                port.tx(Chain(memoryview(frame), [own(0, 0, len(frame))]))

    # --- frames

    def tx(self, chain: Chain) -> None:
        """Frames for the wire: those of one stream by one port."""
        active = self.active()
        if not active:
            self.dropped += len(chain.frames)
            return
        if len(active) == 1:
            active[0].tx(chain)
            return
        parts: dict[AggrPort, list[Frame]] = {}
        for frame in chain.frames:
            parts.setdefault(self.port_of(chain, frame, active), []).append(frame)
        for port, frames in parts.items():
            port.tx(chain if len(frames) == len(chain.frames) else chain.part(frames))

    def port_of(self, chain: Chain, frame: Frame, active: list[AggrPort]) -> AggrPort:
        """By which of them a frame leaves."""
        view = head(chain, frame)
        if self.mode == "dlmp":
            return place(bytes(view[6:12]), active)
        return place(stream(view, self.policy), active)

    def arrived(self, port: AggrPort, chain: Chain) -> None:
        """Frames from a wire: less our own that came back, and under dlmp what another port brings as well."""
        client = self.client
        if client is None:
            return
        active = self.active()
        kept = [frame for frame in chain.frames if self.takes(port, head(chain, frame), active)]
        if kept:
            client.rx(chain if len(kept) == len(chain.frames) else chain.part(kept))

    def takes(self, port: AggrPort, view: memoryview, active: list[AggrPort]) -> bool:
        """A frame that came in there is for the client."""
        to = bytes(view[:6])
        group = len(to) == 6 and is_multicast(to)
        if group and bytes(view[6:12]) in self.ours:
            return False
        if self.mode == "trunk" or len(active) < 2:
            return True
        return port is (active[0] if group else place(to, active))

    # --- Link

    def room(self) -> int:
        """What a wire does not take, it drops and counts itself."""
        return 1 << 16

    def client_ready(self) -> None:
        """The client has room again."""
        for port in self.ports:
            port.link.client_ready()

    def attach(self, client: Client | None) -> None:
        """Plug the client in at all ports, or out."""
        if self.switch is not None:
            self.switch.changed = lambda: None
        self.switch = client if isinstance(client, Switch) else None
        if self.switch is not None:
            self.switch.changed = self.know
        self.know()
        self.client = client
        for port in self.ports:
            port.link.attach(port if client is not None else None)


def place(what: bytes, active: list[AggrPort]) -> AggrPort:
    """The port of a stream or address: the same as long as the same ports are active. A CRC by itself has bits in which
    ports that a client counts up by two never differ."""
    return active[(crc32(what) * GOLDEN >> 16 & 0xFFFF) % len(active)]


def stream(view: memoryview, policy: tuple[str, ...]) -> bytes:
    """What the frames of one stream have in common."""
    found = bytes(view[:14]) if "L2" in policy else b""
    place = network(view, len(view))
    if place is not None and policy != ("L2",):
        at, ethertype = place
        first, last = ADDRESSES.get(ethertype, (0, 0))
        found += bytes(view[at + first : at + last])
        ports = transport(view, len(view)) if "L4" in policy else None
        if ports is not None:
            found += bytes(view[ports[0] : ports[0] + 4])
    return found or bytes(view[:12])
