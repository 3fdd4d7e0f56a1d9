"""The implicit switch of one lower link: a static table keyed by (destination MAC, VID).

=====================  =========================================================================
frame from a vnic S    goes to
=====================  =========================================================================
S is alone             the wire, unseen
unicast in the table   that vnic, S itself included; never the wire
group                  every member of its VLAN but S, then one copy to the wire
other unicast          the wire only
=====================  =========================================================================

From the wire: to the vnic or the members of the frame's VID; to whoever is alone; else dropped and counted. A port
that is promiscuous gets all of it besides. A burst is split once: each receiver gets one chain with its frames in
order, and the very chain that came when it gets all.
Source: illumos, mac_tx and mac_rx (2009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from xnet.frame import ETH_HLEN, Chain, Client, Frame, Link, Piece, head, is_multicast, own, wire_length
from xnet.frame.ether import ETH_P_8021Q, VLAN_HLEN, mac_text, plain_segment
from xnet.mac.address import MacError
from xnet.mac.port import NOBODY, Groups, Port

ETHERNET: Final = Struct(">6s6xH").unpack_from  # destination type
RUNT: Final = (b"", ETH_P_8021Q)  # what is too short to be read is looked at closely
TAG: Final = Struct(">HH")  # type tci
TAG_AT: Final = 12
VID_MASK: Final = 0x0FFF
VID_MAX: Final = 4094

ROOM: Final = 1 << 16


Lanes = dict[Port, list[Frame]]
"""Frames of one burst by receiver."""


class Switch(Client):
    """The table and who is in it. It is the uplink's client: `rx` is what comes from the wire.

    ``ipackets opackets``: frames from and to the wire. ``unknown``: came for nobody here. ``ierrors``: came without a
    whole Ethernet header.
    """

    def __init__(self, name: str, mtu: int, reserved: bytes | None = None) -> None:
        """`mtu` in bytes of payload; `reserved`: the lower link's own address."""
        self.name = name
        self.mtu = mtu
        self.uplink: Link | None = None
        self.ports: list[Port] = []
        self.counters = dict.fromkeys(("ipackets", "opackets", "unknown", "ierrors"), 0)
        self.changed: Callable[[], None] = lambda: None
        """Called when a port came or went."""
        self.reserved = reserved
        self._table: dict[tuple[bytes, int], Port] = {}
        self._groups: Groups | None = None
        """Not known when it is to be worked out anew."""

    # --- who is plugged in

    def add(self, port: Port) -> None:
        """Put a port into the table. MacError names what is wrong, and who has the address already."""
        vid = port.vid
        what = f"{port.name} over {self.name}: {mac_text(port.mac)}"
        if not 0 <= vid <= VID_MAX:
            raise MacError(what, f"invalid VLAN identifier '{vid}'")
        if port.mtu > self.mtu:
            raise MacError(what, f"mtu {port.mtu} is more than the link's {self.mtu}")
        for mac in port.macs:
            self._check(port, mac)
        for mac in port.macs:
            self._table[mac, vid] = port
        self.ports.append(port)
        self._settle()

    def _check(self, port: Port, mac: bytes) -> None:
        """An address for a port. MacError."""
        what = f"{port.name} over {self.name}: {mac_text(mac)}"
        if len(mac) != 6 or is_multicast(mac) or not any(mac):
            raise MacError(what, "invalid MAC address")
        if mac == self.reserved and not port.vid:
            raise MacError(what, "MAC address reserved for use by underlying data-link")
        other = self._table.get((mac, port.vid))
        if other is not None and other is not port:
            tagged = f" in VLAN {port.vid}" if port.vid else ""
            raise MacError(what + tagged, "MAC address is already in use", f" by {other.name}")

    def remove(self, port: Port) -> None:
        """Take a port out of the table."""
        self.ports.remove(port)
        for mac in port.macs:
            del self._table[mac, port.vid]
        port.alone(False)
        self._settle()

    def give(self, port: Port, others: Iterable[bytes]) -> None:
        """These addresses besides its first are the port's. MacError, and nothing has changed."""
        macs = tuple(dict.fromkeys((port.mac, *others)))
        for mac in macs:
            self._check(port, mac)
        for mac in port.macs:
            del self._table[mac, port.vid]
        for mac in macs:
            self._table[mac, port.vid] = port
        port.macs = macs
        self.changed()

    def has(self, mac: bytes, vid: int) -> bool:
        """It is a port's address in that VLAN."""
        return (mac, vid) in self._table

    def table(self) -> list[tuple[bytes, int]]:
        """What is in it: every address of a port, with its VID."""
        return list(self._table)

    def addresses(self) -> list[bytes]:
        """Of all ports, each once."""
        return list(dict.fromkeys(mac for mac, _ in self._table))

    def promiscuous(self) -> bool:
        """Somebody wants to hear all there is."""
        return any(port.promiscuous for port in self.ports)

    def regroup(self) -> None:
        """A port hears other groups than before."""
        self._groups = None

    def listens(self) -> None:
        """A port hears all, or no more."""
        self._groups = None
        self.changed()

    def _settle(self) -> None:
        """Others are there than before: tell whose the wire is, and it, whether there is reason to wait."""
        self._groups = None
        alone = len(self.ports) == 1 and self.uplink is not None
        for port in self.ports:
            port.alone(alone)
        if self.uplink is not None:
            self.uplink.client_ready()
        self.changed()

    def port_ready(self, port: Port) -> None:
        """A port's client has nothing waiting, or less: the wire may wait for that if it is the port's own."""
        if self.uplink is not None and len(self.ports) == 1:
            self.uplink.client_ready()

    def backlog(self) -> int:
        """To the uplink: who has it alone may keep it waiting. Who shares it may not: its backlog is its own loss."""
        return self.ports[0].backlog() if len(self.ports) == 1 else 0

    def connect(self, uplink: Link | None) -> None:
        """Plug the wire in, or out with None."""
        if self.uplink is not None:
            self.uplink.attach(None)
        self.uplink = uplink
        if uplink is not None:
            uplink.attach(self)
        self._settle()

    # --- from a vnic

    def tx(self, sender: Port, chain: Chain) -> None:  # hot: 0.5 us a frame
        """Frames from a port. The first piece of each holds the Ethernet header, as netif demands of a first slot."""
        to = chain.frames.destination(chain.memory, self.mtu + ETH_HLEN) or self._destination(sender, chain)
        if to:
            count, size = len(chain.frames), chain.size()
            sender.sent(count, size)
            ports, out = self._from_port(sender, to)
            if is_multicast(to):
                sender.sent_group(count, size)
                for port in ports:
                    port.group(count, size)
            for port in ports:
                port.rx(chain)
            if out:
                self._to_wire(sender, chain)
            return
        lanes: Lanes = {}
        sent: list[Frame] = []
        wire: list[Frame] = []
        groups: list[int] = []
        for frame in chain.frames:
            to, ethertype = self._header(chain, frame)
            cause = self._objection(sender, chain, frame, ethertype)
            if cause:
                sender.counters[cause] += 1
                continue
            sent.append(frame)
            ports, out = self._from_port(sender, to)
            if is_multicast(to):
                groups.append(frame[1])
                for port in ports:
                    port.group(1, frame[1])
            for port in ports:
                lanes.setdefault(port, []).append(frame)
            if out:
                wire.append(frame)
        sender.sent(len(sent), sum([length for _, length, _ in sent]))
        if groups:
            sender.sent_group(len(groups), sum(groups))
        self._deliver(chain, lanes, len(chain.frames))
        if wire:
            self._to_wire(sender, chain if len(wire) == len(chain.frames) else chain.part(wire))

    def _header(self, chain: Chain, frame: Frame) -> tuple[bytes, int]:
        """Where a frame is to go, and its type."""
        addr, size, _, _ = frame[2][0]
        return ETHERNET(chain.memory, addr) if size >= ETH_HLEN else RUNT

    def _destination(self, sender: Port, chain: Chain) -> bytes:  # hot
        """Where all of the frames are to go, nothing against them; empty if they differ."""
        largest = self.mtu + ETH_HLEN
        common = b""
        for frame in chain.frames:
            to, ethertype = self._header(chain, frame)
            if common and to != common:
                return b""
            common = to
            if (
                (frame[1] > largest or ethertype == ETH_P_8021Q)
                and not 0 < plain_segment(chain, frame) <= largest
                and self._objection(sender, chain, frame, ethertype)
            ):
                return b""
        return common

    def _to_wire(self, sender: Port, chain: Chain) -> None:
        """Out of the uplink, if there is one."""
        if self.uplink is not None:
            chain = chain.fetched()
            self.counters["opackets"] += len(chain.frames)
            self.uplink.tx(tagged(chain, sender.vid) if sender.vid else chain)

    def _from_port(self, sender: Port, to: bytes) -> tuple[list[Port], bool]:
        """Who gets a frame for `to`, and whether the wire does."""
        if len(self.ports) == 1:
            return [], True
        groups = self._who()
        if is_multicast(to):
            out, ports = True, [port for port in groups.members(to, sender.vid) if port is not sender]
        else:
            port = self._table.get((to, sender.vid))
            out, ports = (True, NOBODY) if port is None else (False, [port])
        return (groups.and_promiscuous(ports, sender) if groups.promiscuous else ports), out

    def _objection(self, sender: Port, chain: Chain, frame: Frame, ethertype: int) -> str:
        """The counter of why this frame may not be sent, or nothing."""
        word, length, _ = frame
        view = head(chain, frame)
        largest = self.mtu + ETH_HLEN
        if frame[2][0][1] < ETH_HLEN:
            return "oerrors"
        if ethertype == ETH_P_8021Q:
            if len(view) < ETH_HLEN + VLAN_HLEN:
                return "oerrors"
            vid = TAG.unpack_from(view, TAG_AT)[1] & VID_MASK
            if sender.vid or (vid and len(self.ports) > 1):
                return "txerrors"
            largest += VLAN_HLEN
        return "oerrors" if wire_length(word, view, length) > largest else ""

    # --- from the wire

    def rx(self, chain: Chain) -> None:  # hot: 0.5 us a frame
        """Frames from the wire."""
        memory, counters, whole = chain.memory, self.counters, len(chain.frames)
        counters["ipackets"] += whole
        common = chain.frames.destination(memory, self.mtu + ETH_HLEN)
        if common:
            self._from_wire_at_once(common, chain)
            return
        lanes: Lanes = {}
        seen: dict[tuple[bytes, int], list[list[Frame]]] = {}
        for frame in chain.frames:
            addr, size, _, _ = frame[2][0]
            if size < ETH_HLEN:
                counters["ierrors"] += 1
                continue
            to, ethertype = ETHERNET(memory, addr)
            vid = 0
            if ethertype == ETH_P_8021Q and (vid := self._vid(chain, frame)):
                frame, whole = stripped(frame), -1
            receivers = seen.get((to, vid))
            if receivers is None:
                receivers = seen[to, vid] = [lanes.setdefault(port, []) for port in self._from_wire(to, vid)]
            if not receivers:
                counters["unknown"] += 1
            for lane in receivers:
                lane.append(frame)
            if is_multicast(to):
                for port in self._from_wire(to, vid):
                    port.group(1, frame[1])
        self._deliver(chain, lanes, whole)

    def _from_wire_at_once(self, to: bytes, chain: Chain) -> None:  # hot
        """All frames are for the same, and none has a tag."""
        ports = self._from_wire(to, 0)
        if not ports:
            self.counters["unknown"] += len(chain.frames)
        elif is_multicast(to):
            for port in ports:
                port.group(len(chain.frames), chain.size())
        for port in ports:
            port.rx(chain)

    def _vid(self, chain: Chain, frame: Frame) -> int:
        """The VLAN of a tagged frame; 0 for a mere priority, and for an untagged port that has the link alone."""
        view = head(chain, frame)
        if len(view) < ETH_HLEN + VLAN_HLEN or (len(self.ports) == 1 and not self.ports[0].vid):
            return 0
        tci: int = TAG.unpack_from(view, TAG_AT)[1]
        return tci & VID_MASK

    def _from_wire(self, to: bytes, vid: int) -> list[Port]:
        """Who gets a frame for `to`."""
        groups = self._who()
        if len(self.ports) == 1:
            ports = groups.all.get(vid, NOBODY)
        elif is_multicast(to):
            ports = groups.members(to, vid)
        else:
            port = self._table.get((to, vid))
            ports = NOBODY if port is None else [port]
        return groups.and_promiscuous(ports, None) if groups.promiscuous else ports

    # --- both

    def _who(self) -> Groups:  # hot
        """Who hears what."""
        groups = self._groups
        if groups is None:
            groups = self._groups = Groups(self.ports)
        return groups

    @staticmethod
    def _deliver(chain: Chain, lanes: Lanes, whole: int) -> None:
        """Hand each receiver its frames: the chain itself where they are all `whole` of them."""
        for port, frames in lanes.items():
            port.rx(chain if len(frames) == whole else chain.part(frames))

    def room(self) -> int:
        """To the uplink: always plenty."""
        return ROOM

    def link_ready(self) -> None:
        """Nobody waited: what the uplink has no room for, it drops and counts."""

    def statistics(self) -> dict[str, int]:
        """Counters since the switch was made."""
        return dict(self.counters)


def tagged(chain: Chain, vid: int) -> Chain:
    """A copy of the frames, in memory of its own, with an 802.1Q tag."""
    tag, data, frames = TAG.pack(ETH_P_8021Q, vid), bytearray(), []
    for frame in chain.frames:
        plain = chain.tobytes(frame)
        frames.append(own(frame[0], len(data), frame[1] + VLAN_HLEN))
        data += plain[:TAG_AT] + tag + plain[TAG_AT:]
    return Chain(memoryview(data), frames)


def stripped(frame: Frame) -> Frame:
    """The frame without its tag: the same bytes in place, in pieces around it."""
    word, length, pieces = frame
    kept: list[Piece] = []
    at = 0
    for addr, size, domid, gref in pieces:
        for start, end in ((0, TAG_AT), (TAG_AT + VLAN_HLEN, length)):
            first, last = max(start, at), min(end, at + size)
            if first < last:
                kept.append((addr + first - at, last - first, domid, gref))
        at += size
    return (word, length - VLAN_HLEN, tuple(kept))
