"""Bundles: what is made of several links. An aggregation is one lower link over wires; a bridge joins lower links, and
has a link of its own, NAME0, that stands for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xnet.engine.datalinks import words
from xnet.engine.datalinks.model import LOWER, SPEED_MBPS, Datalink
from xnet.engine.datalinks.words import DatalinkError, Status
from xnet.mac import LowerLink, format_mac
from xnet.mac.aggr import MODES, Aggregation, parse_policy
from xnet.mac.bridge import DEFAULT_TAG, LEARN_DECAY, LEARN_LIMIT, Bridge, Member
from xnet.mac.stp import PRIORITY

if TYPE_CHECKING:
    from xnet.engine.datalinks.manager import Datalinks

BRIDGE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_]{0,29}[A-Za-z])?")
"""Its first and last are letters, for what it stands for has a 0 behind."""
PROTECTS = ("stp", "none")


class Bundles:
    """The aggregations and bridges of dom0. `tell` gets a line for people."""

    def __init__(self, links: Datalinks, tell: Callable[[str], None]) -> None:
        self.links = links
        self.tell = tell
        self.aggrs: dict[Datalink, Aggregation] = {}
        self.bridges: dict[str, tuple[Datalink, Bridge]] = {}
        self.watch: Callable[[], None] = lambda: None
        """Called when there is an aggregation: `look` is wanted as soon as a wire fails."""

    # --- aggregations

    def create_aggr(self, name: str, links: Sequence[str], *, policy: str, mode: str, temporary: bool) -> Datalink:
        """One link of several. DatalinkError, and nothing has changed."""
        registry = self.links.registry
        levels = policy_of(policy)
        try:
            registry.check_new(name)
            if mode not in MODES:
                raise Status(words.EINVAL)
            ports = self.ports(links)
        except Status as why:
            raise DatalinkError("create operation failed", why.status) from None
        aggr = Aggregation(name, levels, mode=mode)
        for port in ports:
            self.enter(aggr, name, port)
        mac = ports[0].mac
        switch = LowerLink(name, mtu=min(port.mtu for port in ports), mac=mac).switch
        switch.connect(aggr)
        link = Datalink(name, "aggr", temporary, tuple(links), switch=switch, uplink=aggr, mac=mac)
        self.aggrs[link] = aggr
        self.watch()
        record = {"do": "create-aggr", "name": name, "links": list(links), "policy": policy, "mode": mode}
        return registry.add(link, record)

    def ports(self, names: Sequence[str]) -> list[Datalink]:
        """Links as ports of an aggregation. DatalinkError; Status for those that cannot be."""
        found = [self.links.registry.find(name) for name in names]
        if not found or len(set(names)) < len(names):
            raise Status(words.EINVAL)
        for link in found:
            if link.kind != "phys" or link.uplink is None:
                raise Status(words.EINVAL)
            if link.user or link.bridge or self.links.registry.over(link.name):
                raise Status(words.EBUSY)
        return found

    def enter(self, aggr: Aggregation, name: str, port: Datalink) -> None:
        """A wire is the aggregation's."""
        assert port.uplink is not None, "looked at by `ports`"
        self.links.registry.lend(port, f"aggr {name}")
        aggr.set_up(aggr.add(port.name, port.uplink), self.links.has_carrier(port))

    def leave(self, aggr: Aggregation, name: str) -> None:
        """A wire is its own link's again."""
        aggr.remove(name)
        self.links.registry.take_back(name)

    def aggr(self, name: str) -> tuple[Datalink, Aggregation]:
        """The one of this name. DatalinkError."""
        link = self.links.registry.find(name)
        if link not in self.aggrs:
            raise DatalinkError(f"'{name}' is not an aggregation")
        return link, self.aggrs[link]

    def delete_aggr(self, name: str, temporary: bool) -> None:
        """Its wires are links again. DatalinkError."""
        registry = self.links.registry
        if name not in registry.links and not temporary and registry.store.drop(name):
            return
        link, aggr = self.aggr(name)
        if link.user or link.bridge or registry.over(name):
            raise DatalinkError("delete operation failed", words.EBUSY)
        self.dissolve(link, aggr)
        registry.forget(link, temporary)

    def dissolve(self, link: Datalink, aggr: Aggregation) -> None:
        """No aggregation any more."""
        assert link.switch is not None, "a lower link has one"
        del self.aggrs[link]
        link.switch.connect(None)
        for port in link.over:
            self.leave(aggr, port)

    def add_aggr(self, name: str, links: Sequence[str], temporary: bool) -> None:
        """More wires. DatalinkError."""
        link, aggr = self.aggr(name)
        try:
            ports = self.ports(links)
            if any(port.mtu < link.mtu for port in ports):
                raise Status(words.EINVAL)
        except Status as why:
            raise DatalinkError("add operation failed", why.status) from None
        for port in ports:
            self.enter(aggr, name, port)
        self.over(link, (*link.over, *links), temporary)

    def remove_aggr(self, name: str, links: Sequence[str], temporary: bool) -> None:
        """Fewer; one at least stays. DatalinkError."""
        link, aggr = self.aggr(name)
        gone = set(links)
        if not links or not gone < set(link.over):
            raise DatalinkError("remove operation failed", words.EINVAL)
        for port in gone:
            self.leave(aggr, port)
        self.over(link, tuple(port for port in link.over if port not in gone), temporary)

    def modify_aggr(self, name: str, policy: str, temporary: bool) -> None:
        """Another policy. DatalinkError."""
        _, aggr = self.aggr(name)
        aggr.policy = policy_of(policy)
        self.keep(name, {"policy": policy}, temporary)

    def over(self, link: Datalink, over: tuple[str, ...], temporary: bool) -> None:
        """It is made of other links than before."""
        link.over = over
        self.keep(link.name.removesuffix("0") if link.kind == "bridge" else link.name, {"links": list(over)}, temporary)

    def keep(self, name: str, change: dict[str, Any], temporary: bool) -> None:
        """What is kept of it changes."""
        store = self.links.registry.store
        if not temporary and name in store.records:
            store.records[name] |= change
            store.save()

    def tick(self) -> None:
        """Once a second: trees go on."""
        for _, bridge in self.bridges.values():
            bridge.tick()
        self.look()

    def look(self) -> None:
        """Which wires have a carrier may have changed."""
        for link, aggr in self.aggrs.items():
            for port in aggr.ports:
                up = self.links.has_carrier(self.links.registry.links[port.name])
                if up != port.up:
                    aggr.set_up(port, up)
                    self.tell(f"{link.name}: {port.name} is {'up' if up else 'down'}: {len(aggr.active())} active")

    # --- bridges

    def create_bridge(self, name: str, links: Sequence[str], *, protect: str, temporary: bool) -> None:
        """A bridge of these links, none to begin with if there are none. DatalinkError, and nothing has changed."""
        registry = self.links.registry
        if not BRIDGE_NAME.fullmatch(name) or name == "default" or name.startswith("SUNW"):
            raise DatalinkError(f"'{name}' is not a valid bridge name")
        try:
            registry.check_new(name + "0")
            if name in self.bridges:
                raise Status(words.EEXIST)
            if protect not in PROTECTS:
                raise Status(words.EINVAL)
            members = self.members(links, None)
        except Status as why:
            raise DatalinkError("create operation failed", why.status) from None
        bridge = Bridge(name, self.links.ticker.clock, protect=protect == "stp")
        link = Datalink(name + "0", "bridge", temporary, tuple(links), bridge=name)
        self.bridges[name] = link, bridge
        for member in members:
            self.join(bridge, member)
        registry.links[link.name] = link
        if not temporary:
            registry.store.put(name, {"do": "create-bridge", "name": name, "links": list(links), "protect": protect})

    def members(self, names: Iterable[str], mtu: int | None) -> list[Datalink]:
        """Links as members: what vnics can be over, all of one MTU. DatalinkError; Status for those that cannot be."""
        found = [self.links.registry.find(name) for name in names]
        for link in found:
            if link.kind not in LOWER:
                raise Status(words.EINVAL)
            if link.user or link.bridge:
                raise Status(words.EBUSY)
            if link in self.aggrs and self.aggrs[link].mode != "trunk":
                raise Status(words.ENOTSUP)
        sizes = {link.mtu for link in found} | ({mtu} if mtu else set())
        if len(sizes) > 1 or len({link.name for link in found}) < len(found):
            raise Status(words.EINVAL)
        return found

    def join(self, bridge: Bridge, link: Datalink) -> None:
        """Between a link's clients and its wire comes the bridge."""
        assert link.switch is not None, "a lower link has one"
        link.bridge = bridge.name
        bridge.add(link.name, link.switch, link.uplink, link.mac)
        self.tune(link)

    def tune(self, link: Datalink) -> None:
        """A member's properties are its bridge's business."""
        if not link.bridge or link.kind == "bridge":
            return
        bridge = self.bridges[link.bridge][1]
        member = bridge.members[link.name]
        values = TUNABLE | {name: int(found[0]) for name, found in link.values.items() if name in TUNABLE}
        member.default_tag = values["default_tag"]
        member.forward = values["forward"] == 1
        member.learn_limit, member.learn_decay = values["learn_limit"], values["learn_decay"]
        bridge.take_part(member, values["stp"] == 1)

    def bridge(self, name: str) -> tuple[Datalink, Bridge]:
        """The one of this name. DatalinkError."""
        if name not in self.bridges:
            raise DatalinkError(f"'{name}' is not a bridge")
        return self.bridges[name]

    def delete_bridge(self, name: str, temporary: bool) -> None:
        """One without links. DatalinkError."""
        registry = self.links.registry
        if name not in self.bridges and not temporary and registry.store.drop(name):
            return
        link, bridge = self.bridge(name)
        if bridge.members:
            raise DatalinkError("delete operation failed", words.EBUSY)
        del self.bridges[name], registry.links[link.name]
        if not temporary:
            registry.store.drop(name)

    def add_bridge(self, name: str, links: Sequence[str], temporary: bool) -> None:
        """More members. DatalinkError."""
        link, bridge = self.bridge(name)
        try:
            found = self.members(links, next((each.mtu for each in bridge.members.values()), None))
        except Status as why:
            raise DatalinkError("add operation failed", why.status) from None
        for each in found:
            self.join(bridge, each)
        self.over(link, (*link.over, *links), temporary)

    def remove_bridge(self, name: str, links: Sequence[str], temporary: bool) -> None:
        """Fewer. DatalinkError."""
        link, bridge = self.bridge(name)
        if not links or not set(links) <= set(bridge.members):
            raise DatalinkError("remove operation failed", words.EINVAL)
        for each in set(links):
            bridge.remove(each)
            self.links.registry.links[each].bridge = ""
        self.over(link, tuple(each for each in link.over if each not in links), temporary)

    # --- showing

    def describe_ports(self, link: Datalink) -> list[dict[str, Any]]:
        """An aggregation's, as show-aggr -x has them."""
        aggr = self.aggrs.get(link)
        if aggr is None:
            return []
        found = []
        for port in aggr.ports:
            state = "up" if port.up else "down"
            mac = format_mac(self.links.registry.links[port.name].mac)
            found.append(
                {
                    "name": port.name,
                    "mac": mac,
                    "state": state,
                    "active": port.up,
                    "speed_mbps": SPEED_MBPS,
                    **port.counters,
                }
            )
        return found

    def describe_bridges(self) -> list[dict[str, Any]]:
        """All of them, as show-bridge has them."""
        found = []
        for name, (link, bridge) in self.bridges.items():
            fdb = [
                {
                    "dest": format_mac(mac),
                    "vid": vid,
                    "age": "" if age is None else f"{age:.3f}",
                    "flags": "L" if age is None else "",
                    "output": member,
                }
                for mac, vid, member, age in bridge.entries()
            ]
            found.append(
                {
                    "name": name,
                    "protect": "stp" if bridge.protect else "none",
                    "address": format_mac(bridge.mac) if bridge.mac else "",
                    "priority": PRIORITY,
                    "desroot": bridge_id(bridge.tree.root) if bridge.tree is not None else "",
                    "temporary": link.temporary,
                    "members": [describe_member(bridge, each) for each in bridge.members.values()],
                    "fdb": fdb,
                    "statistics": dict(bridge.counters),
                }
            )
        return found


TUNABLE = {"default_tag": DEFAULT_TAG, "forward": 1, "stp": 1, "learn_limit": LEARN_LIMIT, "learn_decay": LEARN_DECAY}
"""Link properties a bridge goes by, with their defaults."""


def bridge_id(text: bytes) -> str:
    """``32768/2:8:20:1:2:3``."""
    return f"{int.from_bytes(text[:2], 'big')}/{format_mac(text[2:])}"


def describe_member(bridge: Bridge, member: Member) -> dict[str, Any]:
    """A link in a bridge, as show-bridge -l has it."""
    tree, found = bridge.tree, {"link": member.name, "state": "nonstp", **member.counters}
    if tree is None or member.name not in tree.ports:
        return found
    port = tree.ports[member.name]
    return found | {
        "index": port.id[1],
        "state": port.state,
        "role": port.role,
        "uptime": int(bridge.clock.now() - port.since),
        "desroot": bridge_id(tree.root if port.heard is None else port.heard[0]),
        "cfgbpdu": port.received,
        "txbpdu": port.sent,
    }


def policy_of(text: str) -> tuple[str, ...]:
    """DatalinkError."""
    try:
        return parse_policy(text)
    except ValueError:
        raise DatalinkError(f"invalid policy '{text}'") from None
