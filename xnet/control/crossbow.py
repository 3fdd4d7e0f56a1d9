"""Crossbow's tables of a lab file: ``[[aggr]] [[linkbridge]] [[vnic]] [[vlan]] [[flow]]``, and a vnic's properties.

Names and keys are checked here, values of properties by who sets them (`engine.datalinks`), in dladm's words.
"""

from __future__ import annotations

from collections.abc import Callable

from xnet.control.reader import Table, nearest
from xnet.control.values import addresses, device_name, kind, listed, mac, one_of, text, texts, vlan_number
from xnet.engine.datalinks.bundles import BRIDGE_NAME, PROTECTS
from xnet.engine.datalinks.flows import PROPERTIES as FLOW_PROPERTIES
from xnet.engine.datalinks.properties import PROPERTIES
from xnet.engine.lab import AggrSpec, FlowSpec, LinkBridgeSpec, VnicSpec
from xnet.mac.aggr import MODES, parse_policy
from xnet.mac.flow import ATTRIBUTES

Properties = dict[str, tuple[str, ...]]


def word(value: object) -> str:
    """A string, or a number as one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def properties(known: tuple[str, ...]) -> Callable[[object], Properties]:
    """A converter: a table of properties with these names, each a word or a list of words."""

    def convert(value: object) -> Properties:
        if not isinstance(value, dict):
            raise ValueError(f'must be a table {{ maxbw = "100M" }}, not {kind(value)}')
        for name in value:
            if name not in known:
                raise ValueError(f'"{name}" is no property{nearest(name, known)}')
        return {name: texts(each) if isinstance(each, list) else (word(each),) for name, each in value.items()}

    return convert


def read_properties(table: Table, known: tuple[str, ...]) -> Properties:
    """``properties``, and ``maxbw`` by itself."""
    none: Properties = {}
    found = table.get("properties", properties(known), none)
    cap = table.get("maxbw", word, "")
    return {**found, "maxbw": (cap,)} if cap else found


def link_properties() -> tuple[str, ...]:
    """Those dladm can set."""
    return tuple(name for name, each in PROPERTIES.items() if each.take is not None and name != "zone")


def read_vnic(table: Table, *, vlan: bool) -> VnicSpec:
    """``[[vnic]]``: name, over, mac, vid, zone, ip, maxbw, properties; ``[[vlan]]``: the same without mac."""
    found = VnicSpec(
        name=table.need("name", device_name, ""),
        over=table.need("over", text, ""),
        mac="" if vlan else table.get("mac", mac, ""),
        vid=table.get("vid", vlan_number("vid"), 0),
        vlan=vlan,
        zone=table.get("zone", text, ""),
        ip=table.get("ip", addresses, ()),
        properties=read_properties(table, link_properties()),
    )
    if vlan and not found.vid:
        table.wrong("vid", "a VLAN has one: write vid = 1 to 4094")
    if found.ip and not found.zone:
        table.wrong("ip", 'addresses are for an interface: say whose it is, zone = "dom0"')
    return found


def read_aggr(table: Table) -> AggrSpec:
    """``[[aggr]]``: name, links, policy, mode."""
    return AggrSpec(
        name=table.need("name", device_name, ""),
        links=table.need("links", texts, ()),
        policy=table.get("policy", policy, "L4"),
        mode=table.get("mode", one_of(*MODES), "trunk"),
    )


def policy(value: object) -> str:
    """``"L4"``, ``"L2,L3"``."""
    try:
        return ",".join(parse_policy(text(value)))
    except ValueError:
        raise ValueError(f'"{value}" is no policy: write "L2", "L3", "L4" or several with commas') from None


def read_linkbridge(table: Table) -> LinkBridgeSpec:
    """``[[linkbridge]]``: name, links, protect."""
    name = table.need("name", device_name, "")
    if name and not BRIDGE_NAME.fullmatch(name):
        table.wrong("name", f'"{name}" is no bridge\'s name: letters, digits and _, with a letter first and last')
    return LinkBridgeSpec(name, table.get("links", texts, ()), table.get("protect", one_of(*PROTECTS), "stp"))


def read_flow(table: Table) -> FlowSpec:
    """``[[flow]]``: name, link, what frames are its, maxbw, priority."""
    attributes = {name: table.get(name, word, "") for name in ATTRIBUTES}
    found = FlowSpec(
        name=table.need("name", device_name, ""),
        link=table.need("link", text, ""),
        attributes={name: value for name, value in attributes.items() if value},
        properties=read_properties(table, FLOW_PROPERTIES),
    )
    if not found.attributes:
        table.wrong("", f"says of no frame that it is its: add one of {listed(ATTRIBUTES)}")
    return found
