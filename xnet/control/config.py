"""From a lab file to a `Lab`: read the tables, make the specs, then check what only shows when all are there."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from xnet.control.crossbow import read_aggr, read_flow, read_linkbridge, read_vnic
from xnet.control.crosscheck import Read, check
from xnet.control.reader import LabError, Table
from xnet.control.values import (
    LAB,
    MIB,
    addresses,
    device_name,
    domain_name,
    duration,
    flag,
    hosts,
    lab_name,
    mtu,
    one_of,
    routes,
    size,
    sysctls,
    text,
)
from xnet.control.vifspec import RX_MODE, drain, read_vifs
from xnet.engine.lab import BridgeSpec, DomainSpec, EtherstubSpec, Lab, LinkSpec
from xnet.errors import ConfigError
from xnet.netif.patience import DRAIN_S, STALL_S

AT = re.compile(r"(.*) \(at (line \d+, column \d+|end of document)\)", re.DOTALL)
"""How tomllib says where."""


def load_lab(path: str | Path) -> Lab:
    """The lab in a TOML file. LabError (a ConfigError) tells all that is wrong with it, one line each."""
    source = str(path)
    try:
        content = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise LabError(source, [ConfigError("", "no such file")]) from None
    except UnicodeDecodeError:
        raise LabError(source, [ConfigError("", "not a TOML file (it is not UTF-8 text)")]) from None
    except OSError as error:
        raise LabError(source, [ConfigError("", (error.strerror or str(error)).lower())]) from None
    return parse_lab(content, source, available=memory_available())


def parse_lab(content: str, source: str, *, available: int | None = None) -> Lab:
    """The lab in a TOML text; `source` names it in messages and gives the default name. `available` is the memory in
    bytes that the lab may take at most (None: not checked)."""
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        match = AT.fullmatch(str(error))
        place, message = (match[2], match[1]) if match else ("", str(error))
        raise LabError(source, [ConfigError(place, f"not TOML: {message[:1].lower()}{message[1:]}")]) from None
    problems: list[ConfigError] = []
    top = Table(data, "", problems)
    read = read_lab(top, source)
    check(read, available)
    top.finish()
    if problems:
        raise LabError(source, problems)
    return read.lab


def read_lab(top: Table, source: str) -> Read:
    """All tables as specs, with the table each was read from."""
    lab, machine, dom0 = top.table("lab"), top.table("machine"), top.table("dom0")
    bridges = [(table, read_bridge(table)) for table in top.tables("bridge")]
    stubs = [(table, read_etherstub(table)) for table in top.tables("etherstub")]
    links = [(table, read_link(table)) for table in top.tables("link")]
    aggrs = [(table, read_aggr(table)) for table in top.tables("aggr")]
    linkbridges = [(table, read_linkbridge(table)) for table in top.tables("linkbridge")]
    vnics = [(table, read_vnic(table, vlan=False)) for table in top.tables("vnic")]
    vnics += [(table, read_vnic(table, vlan=True)) for table in top.tables("vlan")]
    flows = [(table, read_flow(table)) for table in top.tables("flow")]
    loop = machine.get("loop", one_of("auto", "asyncio", "uvloop"), "auto")
    netns = dom0.get("netns", one_of("private", "host"), "private")
    read = Read(top, bridges, stubs, links, aggrs, linkbridges, vnics, flows)
    read.lab = Lab(
        name=read_name(lab, source),
        bridges=tuple(spec for _, spec in bridges),
        etherstubs=tuple(spec for _, spec in stubs),
        links=tuple(spec for _, spec in links),
        aggrs=tuple(spec for _, spec in aggrs),
        linkbridges=tuple(spec for _, spec in linkbridges),
        vnics=tuple(spec for _, spec in vnics),
        flows=tuple(spec for _, spec in flows),
        memory=machine.get("memory", size, 0),
        dom0_memory=dom0.get("memory", size, 64 * MIB),
        heap=machine.get("heap", size, 16 * MIB),
        rx_mode=lab.get("rx_mode", RX_MODE, "copy"),
        rx_drain_s=lab.get("rx_drain_timeout", drain, DRAIN_S),
        rx_stall_s=lab.get("rx_stall_timeout", duration, STALL_S),
        gro=machine.get("gro", flag, True),
        loop=cast(Literal["auto", "asyncio", "uvloop"], loop),
        dom0_netns=cast(Literal["private", "host"], netns),
        source=source,
    )
    domains = [read_domain(table, read) for table in top.tables("domain")]
    read.lab = replace(read.lab, domains=tuple(domains))
    return read


def read_name(lab: Table, source: str) -> str:
    """The lab's name: as written, or the file's."""
    stem = Path(source).stem
    if not lab.has("name") and LAB.fullmatch(stem) is None:
        lab.wrong("name", f'the file\'s name "{stem}" cannot be the lab\'s: add name = "…" under [lab]')
    return lab.get("name", lab_name, stem)


def read_bridge(table: Table) -> BridgeSpec:
    """``[[bridge]]``: name, address, mtu, existing."""
    return BridgeSpec(
        name=table.need("name", device_name, ""),
        address=table.get("address", addresses, ()),
        mtu=table.get("mtu", mtu, 1500),
        existing=table.get("existing", flag, False),
    )


def read_etherstub(table: Table) -> EtherstubSpec:
    """``[[etherstub]]``: name, mtu."""
    return EtherstubSpec(name=table.need("name", device_name, ""), mtu=table.get("mtu", mtu, 9000))


def read_link(table: Table) -> LinkSpec:
    """``[[link]]``: name, bridge, mtu; nic, via, promiscuous; veth, zone, ip."""
    via = table.get("via", one_of("packet", "macvtap"), "packet")
    found = LinkSpec(
        name=table.need("name", device_name, ""),
        bridge=table.get("bridge", text, "") or None,
        mtu=table.get("mtu", mtu, 1500),
        nic=table.get("nic", device_name, ""),
        via=cast(Literal["packet", "macvtap"], via),
        promiscuous=table.get("promiscuous", flag, False),
        veth=table.get("veth", device_name, ""),
        zone=table.get("zone", text, ""),
        ip=table.get("ip", addresses, ()),
    )
    wires = [key for key in ("bridge", "nic", "veth") if getattr(found, key)]
    if len(wires) > 1:
        table.wrong(wires[1], f"the link has a wire already, {wires[0]}: a link has one")
    for key in ("via", "promiscuous"):
        if table.has(key) and not found.nic:
            table.wrong(key, 'is about the interface that is the wire: name it, nic = "eth1"')
    for key in ("zone", "ip"):
        if table.has(key) and not found.veth:
            table.wrong(key, 'is about the other end of a pair: name it, veth = "name"')
    return found


def read_domain(table: Table, read: Read) -> DomainSpec:
    """``[[domain]]``: all keys of a guest and its vifs; the tables are kept in `read` for checks."""
    name = table.need("name", domain_name, "")
    vifs = read_vifs(table, read.lab, name)
    spec = DomainSpec(
        name=name,
        memory=table.get("memory", size, 32 * MIB),
        vifs=tuple(vif for _, vif in vifs),
        gateway=table.get("gateway", hosts, ()),
        route=table.get("route", routes, ()),
        sysctl=table.get("sysctl", sysctls, {}),
        autostart=table.get("autostart", flag, True),
        on_crash=table.get("on_crash", one_of("destroy", "restart", "preserve"), "destroy"),
    )
    table.get("type", domain_type, "pv")
    read.domains.append((table, spec))
    read.vifs += [(place, spec, vif) for place, vif in vifs]
    return spec


def domain_type(value: object) -> str:
    """The kinds of guests Xen has, of which this version boots one."""
    word = one_of("pv", "pvh", "hvm")(value)
    if word != "pv":
        raise ValueError(f'"{word}" is not supported yet: write "pv"')
    return word


def memory_available() -> int | None:
    """Bytes the machine below could give now (MemAvailable); None where /proc does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None
