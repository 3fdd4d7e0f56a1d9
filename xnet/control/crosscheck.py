"""Checks of a lab file that need more than one table: names, addresses and MACs used twice, cables to nowhere,
gateways out of reach, memory that is not there."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from xnet.control.reader import Table, nearest
from xnet.control.values import MIB
from xnet.engine.lab import (
    AggrSpec,
    BridgeSpec,
    DomainSpec,
    EtherstubSpec,
    FlowSpec,
    Lab,
    LinkBridgeSpec,
    LinkSpec,
    VifSpec,
    VnicSpec,
)

DOMAIN_MIN = 4 * MIB
"""Less than this holds no guest's rings and buffers."""


@dataclass(slots=True)
class Read:
    """What was read, each spec beside the table it came from."""

    top: Table
    bridges: list[tuple[Table, BridgeSpec]]
    etherstubs: list[tuple[Table, EtherstubSpec]]
    links: list[tuple[Table, LinkSpec]]
    aggrs: list[tuple[Table, AggrSpec]] = field(default_factory=list)
    linkbridges: list[tuple[Table, LinkBridgeSpec]] = field(default_factory=list)
    vnics: list[tuple[Table, VnicSpec]] = field(default_factory=list)
    flows: list[tuple[Table, FlowSpec]] = field(default_factory=list)
    domains: list[tuple[Table, DomainSpec]] = field(default_factory=list)
    vifs: list[tuple[Table, DomainSpec, VifSpec]] = field(default_factory=list)
    lab: Lab = field(default_factory=lambda: Lab(name=""))


def check(read: Read, available: int | None) -> None:
    """Note every problem between tables; `available` as in `parse_lab`."""
    check_names(read)
    check_cables(read)
    check_crossbow(read)
    check_twice(read)
    for table, spec in read.domains:
        check_gateway(table, spec)
    check_memory(read, available)


def check_names(read: Read) -> None:
    """Devices of dom0 share one set of names, domains another."""
    devices = [(table, spec.name) for table, spec in read.bridges]
    devices += [(table, spec.name) for table, spec in read.etherstubs]
    devices += [(table, spec.name) for table, spec in read.links]
    devices += [(table, spec.name) for table, spec in read.aggrs]
    devices += [(table, spec.name + "0") for table, spec in read.linkbridges]
    devices += [(table, spec.name) for table, spec in read.vnics]
    devices += [(table, spec.name) for table, spec in read.flows]
    rows: list[tuple[Table, str, Hashable, str]] = [(table, "name", name, name) for table, name in devices]
    unique(rows + [(table, "veth", spec.veth, spec.veth) for table, spec in read.links if spec.zone in ("", "dom0")])
    unique([(table, "name", spec.name, spec.name) for table, spec in read.domains])


def check_cables(read: Read) -> None:
    """A link's uplink needs its bridge; an existing bridge is the host's."""
    bridges = {spec.name: spec for _, spec in read.bridges}
    for table, link in read.links:
        if link.zone in {spec.name for _, spec in read.domains}:
            table.wrong("zone", "is a guest, and links come before guests: dom0, or what ip netns has")
        if link.bridge is None:
            continue
        if link.bridge not in bridges:
            table.wrong("bridge", f'there is no bridge "{link.bridge}"{nearest(link.bridge, bridges)}')
        elif link.mtu > bridges[link.bridge].mtu:
            limit = bridges[link.bridge].mtu
            table.wrong("mtu", f'{link.mtu} is more than the {limit} of "{link.bridge}": raise that one or lower this')
    for table, bridge in read.bridges:
        if bridge.existing and read.lab.dom0_netns != "host":
            table.wrong("existing", 'only the machine\'s own namespace has bridges before: add [dom0] netns = "host"')


def check_crossbow(read: Read) -> None:
    """What is over links and on them names those there are."""
    links = {spec.name for _, spec in read.links}
    lower = links | {spec.name for _, spec in read.aggrs} | {spec.name for _, spec in read.etherstubs}
    vnics = {spec.name for _, spec in read.vnics}
    vifs = {
        f"{domain.name}/{handle}" for _, domain in read.domains for handle, vif in enumerate(domain.vifs) if vif.link
    }

    def known(table: Table, key: str, name: str, among: set[str], what: str) -> None:
        if name and name not in among:
            table.wrong(key, f'there is no {what} "{name}"{nearest(name, sorted(among))}')

    for table, aggr in read.aggrs:
        for name in aggr.links:
            known(table, "links", name, links, "link")
    for table, bridge in read.linkbridges:
        for name in bridge.links:
            known(table, "links", name, lower, "link, aggregation or etherstub")
    for table, vnic in read.vnics:
        known(table, "over", vnic.over, lower, "link, aggregation or etherstub")
    for table, flow in read.flows:
        known(table, "link", flow.link, vnics | vifs | links, "link, vnic or vif (guest/handle)")


def check_twice(read: Read) -> None:
    """MACs once on a switch and VLAN; addresses once there and once in a domain."""
    uplinks = {spec.name: spec.bridge for _, spec in read.links}
    macs: list[tuple[Table, str, Hashable, str]] = []
    ips: list[tuple[Table, str, Hashable, str]] = []
    for table, spec in read.bridges:
        for ip in (address.partition("/")[0] for address in spec.address):
            ips += [(table, "address", (spec.name, 0, ip), ip), (table, "address", ("in", "dom0", ip), ip)]
    for table, link in read.links:
        for ip in (address.partition("/")[0] for address in link.ip):
            ips += [(table, "ip", (link.name, 0, ip), ip), (table, "ip", ("in", link.zone or "dom0", ip), ip)]
    for table, domain, vif in read.vifs:
        switch = vif.bridge or (vif.link and uplinks.get(vif.link)) or vif.link
        macs.append((table, "mac", (switch, vif.vlan, vif.mac), vif.mac))
        for ip in (address.partition("/")[0] for address in vif.ip):
            ips += [(table, "ip", (switch, vif.vlan, ip), ip), (table, "ip", ("in", domain.name, ip), ip)]
    unique(macs)
    unique(ips)


def unique(rows: Iterable[tuple[Table, str, Hashable, str]]) -> None:
    """Note each (table, key, identity, word) whose identity an earlier row had; once for a word at a place."""
    first: dict[Hashable, str] = {}
    noted: set[tuple[str, str]] = set()
    for table, key, identity, word in rows:
        if not word:
            continue
        place = table.place(key)
        if identity not in first:
            first[identity] = place
        elif (place, word) not in noted:
            noted.add((place, word))
            table.wrong(key, f'"{word}" is used twice: {first[identity]} has it too')


def check_gateway(table: Table, spec: DomainSpec) -> None:
    """A route must lead to an address on one of the domain's own subnets."""
    own = [ipaddress.ip_interface(ip) for vif in spec.vifs for ip in vif.ip]
    for key, word in [("gateway", word) for word in spec.gateway] + [("route", via) for _, via in spec.route]:
        gateway = ipaddress.ip_address(word)
        if any(gateway == interface.ip for interface in own):
            table.wrong(key, f"\"{word}\" is the domain's own address: name the router's")
        elif not any(gateway in interface.network for interface in own):
            subnets = ", ".join(str(i.network) for i in own if i.version == gateway.version) or "none"
            table.wrong(key, f'"{word}" is on no subnet of this domain (IPv{gateway.version}: {subnets})')


def check_memory(read: Read, available: int | None) -> None:
    """The domains must fit the machine that is emulated, and that one the machine below."""
    lab = read.lab
    used = lab.dom0_memory + lab.heap
    for table, spec in read.domains:
        if spec.memory < DOMAIN_MIN:
            table.wrong("memory", f"{mib(spec.memory)} is too little: a guest needs {mib(DOMAIN_MIN)}")
        used += spec.memory
        if lab.memory and used > lab.memory:
            left = lab.memory - used + spec.memory
            have = f"{mib(left)} of the machine's {mib(lab.memory)} are left" if left > 0 else "the machine is full"
            table.wrong("memory", f"{mib(spec.memory)} do not fit: {have}; raise machine.memory or lower this")
            return
    if lab.memory and used > lab.memory:
        read.top.wrong("machine.memory", f"{mib(lab.memory)} are too little: dom0 and the heap need {mib(used)}")
    total = max(used, lab.memory)
    if available is not None and total > available:
        key = "machine.memory" if lab.memory else "domain"
        message = (
            f"the lab takes {mib(total)} and this machine has {mib(available)} left: lower the memory of its domains"
        )
        read.top.wrong(key, message)


def mib(size: int) -> str:
    """A size for people."""
    return f"{size / MIB:g} MiB" if size % MIB == 0 else f"{size / MIB:.1f} MiB"
