"""Bridge: a learning 802.1D bridge of lower links (``dladm create-bridge``).

A member link goes on as it was: its vnics are a switch of their own (`vswitch`), which finds its clients by their
assigned addresses. Between that switch and its wire comes the bridge::

    vnics - switch - Member . bridge . WireEnd - wire          (an etherstub has no wire)

=======================  ===========================================================================================
a frame for              goes to
=======================  ===========================================================================================
a client of a member     that member's switch: such addresses are fixed entries
an address learned       the wire it was learned on; nowhere if it came from there
any other, or a group    every wire but the one it came from, and up every member but the one it came from
01:80:c2:00:00:00        the spanning tree, if it comes from a wire (`stp`)
01:80:c2:00:00:0X        nowhere else: up, or out of the link's own wire
=======================  ===========================================================================================

Learned are source addresses of frames from wires, by (address, VLAN). Untagged frames are of the link's ``default_tag``
(0: they are not bridged); a VLAN crosses only links it is on, a link's own VLANs being its default and those of its
vnics. A link on which more than ``learn_limit`` addresses came or moved learns no more until ``learn_decay`` every 5 s
has let it down. What was not heard of for AGE_S is forgotten. A link that the spanning tree blocks has its own clients
and wire as before, and nothing crosses. Source: illumos, bridge.c and dladm(8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from xnet.frame import ETH_HLEN, Chain, Client, Frame, Link, head, is_multicast, own
from xnet.frame.clock import Clock
from xnet.frame.ether import ETH_P_8021Q, VLAN_HLEN
from xnet.mac.stp import GROUP, PRIORITY, SpanningTree
from xnet.mac.vswitch import TAG, TAG_AT, VID_MASK, Switch, stripped, tagged

HEADER: Final = Struct(">6s6sH").unpack_from  # destination source type
CONTROL: Final = bytes.fromhex("0180c20000")
"""How addresses begin that no bridge forwards, the last byte being less than 16."""
AGE_S: Final = 300.0
DECAY_S: Final = 5.0
DEFAULT_TAG: Final = 1
MESSAGE_MAX: Final = 128
LEARN_LIMIT: Final = 1000
LEARN_DECAY: Final = 200


class Member(Link):
    """A link in the bridge, toward its switch: what that sends to its wire."""

    def __init__(self, name: str, switch: Switch, wire: Link | None, bridge: Bridge) -> None:
        self.name = name
        self.switch = switch
        self.wire = wire
        self.bridge = bridge
        self.mtu = switch.mtu
        self.heads_only = False
        self.default_tag = DEFAULT_TAG
        self.learn_limit = LEARN_LIMIT
        self.learn_decay = LEARN_DECAY
        self.forward = True
        self.stp = True
        """It takes part in the spanning tree, if it has a wire."""
        self.learns = 0
        """Addresses that came or moved, less what has decayed."""
        self.counters = dict.fromkeys(("recv", "xmit", "drops"), 0)

    def carries(self, vid: int) -> bool:
        """This VLAN is on the link, and may cross."""
        return self.passes and vid != 0 and (vid == self.default_tag or any(p.vid == vid for p in self.switch.ports))

    @property
    def state(self) -> str:
        """As dladm shows it."""
        tree = self.bridge.tree
        port = tree.ports.get(self.name) if tree is not None else None
        return "forwarding" if port is None else port.state

    @property
    def passes(self) -> bool:
        """Frames may cross."""
        return self.forward and self.state == "forwarding"

    def owns(self, mac: bytes, vid: int) -> bool:
        """It is the address of one of its clients, in that VLAN."""
        return self.switch.has(mac, 0 if vid == self.default_tag else vid)

    def tx(self, chain: Chain) -> None:
        """Frames away from its clients."""
        self.bridge.pass_on(self, chain, from_wire=False)

    def room(self) -> int:
        """As a switch, it never refuses."""
        return 1 << 16

    def client_ready(self) -> None:
        """The clients have room again."""
        if self.wire is not None:
            self.wire.client_ready()

    def attach(self, client: Client | None) -> None:
        """The switch is there, or not; what goes up to it goes by `switch`."""


class WireEnd(Client):
    """A link's wire, toward the bridge."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def rx(self, chain: Chain) -> None:
        """Frames from the wire."""
        self.member.counters["recv"] += len(chain.frames)
        self.member.bridge.pass_on(self.member, chain, from_wire=True)

    def room(self) -> int:
        """As a switch, it never refuses."""
        return 1 << 16

    def link_ready(self) -> None:
        """Nobody waited."""


@dataclass(slots=True)
class Entry:
    """Where an address was learned, and when it was last heard."""

    member: Member
    heard: float


@dataclass(slots=True)
class Output:
    """What one place gets of a burst."""

    same: list[Frame] = field(default_factory=list)
    to_tag: dict[int, list[Frame]] = field(default_factory=dict)
    """By VID: frames that came without the tag they leave with."""


class Bridge:
    """The members and what was learned. `protect`: there is a spanning tree."""

    def __init__(self, name: str, clock: Clock, *, protect: bool = False) -> None:
        self.name = name
        self.clock = clock
        self.members: dict[str, Member] = {}
        self.table: dict[tuple[bytes, int], Entry] = {}
        self.counters = dict.fromkeys(("drops", "forwards"), 0)
        self.decayed_at = clock.now()
        self.protect = protect
        self.mac = b""
        """Its address: that of the first link that had one."""
        self.tree: SpanningTree | None = None
        """As soon as there is a wire."""

    # --- members

    def add(self, name: str, switch: Switch, wire: Link | None, mac: bytes = b"") -> Member:
        """A link joins, with its wire if it has one; `mac` is the link's own."""
        switch.connect(None)
        self.mac = self.mac or mac
        member = self.members[name] = Member(name, switch, wire, self)
        switch.connect(member)
        if wire is not None:
            wire.attach(WireEnd(member))
            now = self.clock.now()
            if self.protect and self.tree is None:
                self.tree = SpanningTree(self.mac, now, self.say, self.flush, PRIORITY)
            self.take_part(member, member.stp)
        return member

    def take_part(self, member: Member, on: bool) -> None:
        """Have a link in the spanning tree, or always forwarding."""
        member.stp = on
        tree = self.tree
        if tree is None or member.wire is None or on == (member.name in tree.ports):
            return
        if on:
            tree.add(member.name, self.clock.now())
        else:
            tree.remove(member.name, self.clock.now())

    def flush(self) -> None:
        """Addresses may have moved: what was learned is forgotten."""
        self.table.clear()

    def say(self, name: str, frame: bytes) -> None:
        """A frame of the spanning tree's for a link's wire."""
        wire = self.members[name].wire
        if wire is not None:
            wire.tx(Chain(memoryview(frame), [own(0, 0, len(frame))]))

    def tick(self) -> None:
        """About a second has passed."""
        self.forget()
        if self.tree is not None:
            self.tree.tick(self.clock.now())

    def remove(self, name: str) -> None:
        """A link leaves: its wire is its switch's again."""
        self.take_part(self.members[name], False)
        member = self.members.pop(name)
        self.table = {key: entry for key, entry in self.table.items() if entry.member is not member}
        member.switch.connect(None)
        if member.wire is not None:
            member.wire.attach(None)
            member.switch.connect(member.wire)

    # --- frames

    def pass_on(self, source: Member, chain: Chain, *, from_wire: bool) -> None:
        """Frames of a member's wire or of its clients."""
        self.forget()
        outputs: dict[tuple[Member, bool], Output] = {}
        for frame in chain.frames:
            view = head(chain, frame)
            if len(view) < ETH_HLEN:
                self.drop(source)
                continue
            to, sender, ethertype = HEADER(view)
            tag = 0
            if ethertype == ETH_P_8021Q and len(view) >= ETH_HLEN + VLAN_HLEN:
                tag = TAG.unpack_from(view, TAG_AT)[1] & VID_MASK
            vid = tag or source.default_tag
            if from_wire and to == GROUP and self.tree is not None:
                self.tree.receive(source.name, chain.tobytes(frame)[:MESSAGE_MAX], self.clock.now())
                continue
            if from_wire:
                self.learn(source, sender, vid)
            places = self.places(source, to, vid, from_wire)
            if not places:
                self.drop(source)
            for place in places:
                self.put(outputs.setdefault(place, Output()), place, frame, tag, vid)
        for (member, out), output in outputs.items():
            self.deliver(member, out, output, chain)

    def places(self, source: Member, to: bytes, vid: int, from_wire: bool) -> list[tuple[Member, bool]]:
        """Who gets a frame: members, each with whether it is its wire (or its clients)."""
        own = (source, not from_wire)
        if not is_multicast(to):
            for member in self.members.values():
                if member.owns(to, vid):
                    at_home = member is source
                    return [(member, False)] if at_home or (member.carries(vid) and source.carries(vid)) else []
            entry = self.table.get((to, vid))
            if entry is not None and self.clock.now() - entry.heard <= AGE_S:
                if entry.member is source:
                    return [] if from_wire else [own]
                return [(entry.member, True)] if entry.member.carries(vid) and source.carries(vid) else []
        elif to[:5] == CONTROL and to[5] < 16:
            return [own]
        found = [own]
        if source.carries(vid):
            for member in self.members.values():
                if member is not source and member.carries(vid):
                    found += [(member, True), (member, False)]
        return [(member, out) for member, out in found if not out or member.wire is not None]

    def put(self, output: Output, place: tuple[Member, bool], frame: Frame, tag: int, vid: int) -> None:
        """Among what a place gets, tagged as it is there."""
        wanted = 0 if vid == place[0].default_tag else vid
        if tag == wanted:
            output.same.append(frame)
        elif wanted == 0:
            output.same.append(stripped(frame))
        else:
            output.to_tag.setdefault(wanted, []).append(frame)

    def deliver(self, member: Member, out: bool, output: Output, chain: Chain) -> None:
        """To a member's wire or clients."""
        chains = [chain if output.same == list(chain.frames) else chain.part(output.same)] if output.same else []
        chains += [tagged(chain.part(frames), vid) for vid, frames in output.to_tag.items()]
        for part in chains:
            self.counters["forwards"] += len(part.frames)
            if not out:
                member.switch.rx(part)
            elif member.wire is not None:
                member.counters["xmit"] += len(part.frames)
                member.wire.tx(part)

    def drop(self, source: Member) -> None:
        """A frame goes nowhere."""
        source.counters["drops"] += 1
        self.counters["drops"] += 1

    # --- learning

    def learn(self, source: Member, mac: bytes, vid: int) -> None:
        """A frame came from there."""
        if is_multicast(mac) or not (source.carries(vid) or source.state == "learning"):
            return
        entry = self.table.get((mac, vid))
        if entry is not None and entry.member is source:
            entry.heard = self.clock.now()
            return
        if source.learns >= source.learn_limit or any(each.owns(mac, vid) for each in self.members.values()):
            return
        source.learns += 1
        self.table[mac, vid] = Entry(source, self.clock.now())

    def forget(self) -> None:
        """Let limits down, and forget who was not heard of, every DECAY_S."""
        now = self.clock.now()
        steps = int((now - self.decayed_at) / DECAY_S)
        if steps:
            self.decayed_at += steps * DECAY_S
            for member in self.members.values():
                member.learns = max(0, member.learns - steps * member.learn_decay)
            self.table = {key: entry for key, entry in self.table.items() if now - entry.heard <= AGE_S}

    def entries(self) -> list[tuple[bytes, int, str, float | None]]:
        """All that is known: address, VLAN, link, and seconds since it was heard; None: a client's."""
        self.forget()
        now = self.clock.now()
        found: list[tuple[bytes, int, str, float | None]] = [
            (mac, vid or member.default_tag, member.name, None)
            for member in self.members.values()
            for mac, vid in member.switch.table()
        ]
        ages = ((key, entry.member.name, now - entry.heard) for key, entry in self.table.items())
        return found + [(mac, vid, name, age) for (mac, vid), name, age in ages if age <= AGE_S]
