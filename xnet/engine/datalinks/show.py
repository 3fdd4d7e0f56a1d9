"""One snapshot of all datalinks and flows, JSON-ready, from which the tables of dladm, flowadm, dlstat and flowstat are
made. Nothing is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xnet.engine.datalinks.model import CLIENTS, SPEED_MBPS, Datalink
from xnet.engine.datalinks.properties import describe_properties
from xnet.engine.datalinks.zones import ZONE
from xnet.engine.edge import TapLink
from xnet.mac import format_mac
from xnet.mac.aggr import Aggregation
from xnet.mac.protect import COUNTERS, Protection

if TYPE_CHECKING:
    from xnet.engine.datalinks.manager import Datalinks

COUNTED = {
    "ipackets": ("rx", "ipkts"),
    "rbytes": ("rx", "rbytes"),
    "opackets": ("tx", "opkts"),
    "obytes": ("tx", "obytes"),
}
"""Of what rings count, in `lanes`."""
STATISTICS = ("ipackets", "rbytes", "ierrors", "opackets", "obytes", "oerrors")


def snapshot(links: Datalinks) -> dict[str, Any]:
    """What runs."""
    return {
        "lab": links.lab,
        "links": [describe_link(links, link) for link in links.registry.links.values()],
        "flows": links.flows.describe(),
        "bridges": links.bundles.describe_bridges(),
    }


def describe_link(links: Datalinks, link: Datalink) -> dict[str, Any]:
    """One link."""
    registry = links.registry
    return {
        "name": link.name,
        "class": link.kind,
        "mtu": link.mtu or max((registry.find(name).mtu for name in link.over), default=0),
        "state": "up" if is_up(links, link) else "down",
        "bridge": link.bridge,
        "over": list(link.over),
        "speed_mbps": speed(links, link),
        "mac": format_mac(link.mac) if link.mac else "",
        "mac_type": link.mac_type,
        "vid": link.vid,
        "forced": link.forced,
        "media": "Ethernet",
        "duplex": "full",
        "device": link.device,
        "zone": link.user.removeprefix(ZONE) if link.user.startswith(ZONE) else "",
        "user": link.user,
        "temporary": link.temporary,
        "clients": [{"mac": format_mac(each.mac), "name": each.name} for each in registry.over(link.name)],
        "ports": links.bundles.describe_ports(link),
        "policy": ",".join(links.bundles.aggrs[link].policy) if link in links.bundles.aggrs else "",
        "mode": links.bundles.aggrs[link].mode if link in links.bundles.aggrs else "",
        "properties": describe_properties(links, link),
        "statistics": statistics(link),
        "lanes": lanes(link),
        "misc": misc(link),
    }


def is_up(links: Datalinks, link: Datalink) -> bool:
    """An etherstub is; a phys when its wire is, an aggr when any is; a client when another shares its VID, or when what
    it is over is."""
    if link.kind == "etherstub":
        return True
    if link.vnic is not None:
        lower = links.registry.links[link.over[0]]
        assert lower.switch is not None, "vnics are over what has a switch"
        shared = any(port.vid == link.vnic.vid and port is not link.vnic for port in lower.switch.ports)
        return shared or is_up(links, lower)
    return links.has_carrier(link)


def speed(links: Datalinks, link: Datalink) -> int:
    """In Mbps: the wire's, those of all active wires, or the cap where that is less."""
    if link.kind in ("etherstub", "bridge"):
        return 0
    if link in links.bundles.aggrs:
        return SPEED_MBPS * len(links.bundles.aggrs[link].active())
    bps = link.resources.bps if link.resources is not None else None
    return SPEED_MBPS if bps is None else min(SPEED_MBPS, bps // 10**6)


def statistics(link: Datalink) -> dict[str, int]:
    """A client's own traffic; a wire's, as the switch counts it."""
    if link.vnic is not None:
        counters = link.vnic.statistics()
        return {
            "ipackets": counters["ipackets"],
            "rbytes": counters["rbytes"],
            "ierrors": counters["no_client"],
            "opackets": counters["opackets"],
            "obytes": counters["obytes"],
            "oerrors": counters["oerrors"] + counters["txerrors"],
        }
    counters = link.switch.statistics() if link.switch is not None else {}
    found = {name: counters.get(name, 0) for name in STATISTICS}
    return found | wire_totals(link)


def wire_totals(link: Datalink) -> dict[str, int]:
    """What went by a wire, or an aggregation's wires, whoever has it."""
    if isinstance(link.uplink, Aggregation):
        return {name: sum(port.counters[name] for port in link.uplink.ports) for name in COUNTED}
    rings = lanes(link)
    return {
        name: sum(int(ring[key] or 0) for ring in rings[side]) for name, (side, key) in COUNTED.items() if rings[side]
    }


def lanes(link: Datalink) -> dict[str, list[dict[str, Any]]]:
    """What dlstat shows lane by lane: a client's, or the rings of a wire."""
    if link.vnic is not None:
        return link.vnic.lanes(link.resources.statistics() if link.resources is not None else None)
    if isinstance(link.uplink, TapLink):
        return link.uplink.lanes()
    return {"rx": [], "tx": []}


def misc(link: Datalink) -> dict[str, int]:
    """Counters of ``mac_misc_stat``."""
    if link.kind not in CLIENTS or link.vnic is None:
        return {}
    guard = link.vnic.guard
    counters = guard.counters if isinstance(guard, Protection) else {}
    return {"txerrors": link.vnic.statistics()["txerrors"]} | {name: counters.get(name, 0) for name in COUNTERS}
