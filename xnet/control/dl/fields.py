"""Columns of every table, with illumos' widths (dladm.c, flowadm.c, dlstat.c, flowstat.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xnet.control.ofmt import Field, Row


def of(*names: str) -> Callable[[Row], str | None]:
    """The value at a place in the row."""

    def get(row: Row) -> str | None:
        value: object = row
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return said(value)

    return get


def said(value: object) -> str | None:
    """A value as text."""
    if value is None:
        return None
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def plain(*columns: tuple[str, int, str]) -> list[Field]:
    """Columns (name, width, key)."""
    return [Field(name, width, of(*key.split("."))) for name, width, key in columns]


LINK = [
    *plain(("LINK", 12, "name"), ("CLASS", 10, "class"), ("MTU", 7, "mtu"), ("STATE", 9, "state")),
    Field("BRIDGE", 11, of("bridge")),
    Field("OVER", 30, of("over"), wrap=True),
]
LINK_S = plain(
    ("LINK", 15, "name"),
    ("IPACKETS", 10, "statistics.ipackets"),
    ("RBYTES", 8, "statistics.rbytes"),
    ("IERRORS", 10, "statistics.ierrors"),
    ("OPACKETS", 12, "statistics.opackets"),
    ("OBYTES", 12, "statistics.obytes"),
    ("OERRORS", 8, "statistics.oerrors"),
)
VNIC = plain(
    ("LINK", 13, "name"),
    ("OVER", 13, "over"),
    ("SPEED", 7, "speed_mbps"),
    ("MACADDRESS", 18, "mac"),
    ("MACADDRTYPE", 20, "mac_type"),
    ("VID", 7, "vid"),
)
ETHERSTUB = plain(("LINK", 13, "name"))
VLAN = [
    *plain(("LINK", 16, "name"), ("VID", 9, "vid"), ("OVER", 13, "over")),
    Field("FLAGS", 7, lambda row: "f----" if row.get("forced") else "-----"),
]
PHYS = [
    *plain(("LINK", 13, "name"), ("MEDIA", 21, "media"), ("STATE", 11, "state"), ("SPEED", 7, "speed_mbps")),
    *plain(("DUPLEX", 10, "duplex"), ("DEVICE", 13, "device")),
    Field("FLAGS", 7, lambda row: "-----"),
]
PHYS_M = plain(
    ("LINK", 13, "name"), ("SLOT", 9, "slot"), ("ADDRESS", 19, "mac"), ("INUSE", 5, "inuse"), ("CLIENT", 13, "client")
)
PHYS_H = plain(("LINK", 13, "name"), ("RINGTYPE", 9, "ringtype"), ("RINGS", 7, "rings"), ("CLIENTS", 24, "clients"))
ETHER = plain(
    ("LINK", 16, "name"),
    ("PTYPE", 9, "ptype"),
    ("STATE", 9, "state"),
    ("AUTO", 6, "auto"),
    ("SPEED-DUPLEX", 32, "speed_duplex"),
    ("PAUSE", 7, "pause"),
    ("REM_FAULT", 17, "fault"),
)
AGGR = [
    *plain(("LINK", 16, "name"), ("POLICY", 9, "policy")),
    Field("ADDRPOLICY", 21, lambda row: "auto"),
    Field("LACPACTIVITY", 14, lambda row: "off"),
    Field("LACPTIMER", 12, lambda row: "short"),
    Field("FLAGS", 8, lambda row: "-----"),
    Field("MODE", 6, of("mode")),
]
AGGR_X = plain(
    ("LINK", 12, "name"),
    ("PORT", 15, "port"),
    ("SPEED", 6, "speed_mbps"),
    ("DUPLEX", 10, "duplex"),
    ("STATE", 10, "state"),
    ("ADDRESS", 19, "mac"),
    ("PORTSTATE", 16, "portstate"),
)
AGGR_S = plain(
    ("LINK", 12, "name"),
    ("PORT", 10, "port"),
    ("IPACKETS", 10, "ipackets"),
    ("RBYTES", 10, "rbytes"),
    ("OPACKETS", 10, "opackets"),
    ("OBYTES", 10, "obytes"),
    ("IPKTDIST", 9, "ipktdist"),
    ("OPKTDIST", 15, "opktdist"),
)
BRIDGE = plain(
    ("BRIDGE", 12, "name"),
    ("PROTECT", 8, "protect"),
    ("ADDRESS", 19, "address"),
    ("PRIORITY", 9, "priority"),
    ("DESROOT", 23, "desroot"),
)
BRIDGE_S = plain(("BRIDGE", 12, "name"), ("DROPS", 12, "statistics.drops"), ("FORWARDS", 12, "statistics.forwards"))
BRIDGE_L = [
    *plain(("LINK", 12, "link"), ("INDEX", 8, "index"), ("STATE", 12, "state")),
    *plain(("UPTIME", 8, "uptime"), ("ROLE", 11, "role"), ("DESROOT", 22, "desroot")),
]
BRIDGE_LS = [
    *plain(("LINK", 12, "link"), ("CFGBPDU", 10, "cfgbpdu"), ("TXBPDU", 10, "txbpdu")),
    *plain(("DROPS", 10, "drops"), ("RECV", 10, "recv"), ("XMIT", 10, "xmit")),
]
BRIDGE_F = plain(("DEST", 17, "dest"), ("AGE", 7, "age"), ("FLAGS", 6, "flags"), ("OUTPUT", 12, "output"))
LINKPROP = [
    *plain(("LINK", 13, "link"), ("PROPERTY", 16, "name"), ("PERM", 5, "perm")),
    Field("VALUE", 15, of("value"), wrap=True),
    Field("DEFAULT", 15, of("default"), wrap=True),
    Field("POSSIBLE", 20, of("possible"), wrap=True),
]


def address(row: Row) -> str | None:
    """``LCL:10.0.0.1/32``."""
    for key, side in (("local_ip", "LCL"), ("remote_ip", "RMT")):
        found = row["attributes"].get(key)
        if found:
            full = found if "/" in found else f"{found}/{128 if ':' in found else 32}"
            return f"{side}:{full}"
    return ""


def attribute(name: str) -> Callable[[Row], str | None]:
    """One of a flow's."""
    return lambda row: str(row["attributes"].get(name, ""))


FLOW = [
    *plain(("FLOW", 12, "name"), ("LINK", 12, "link")),
    Field("IPADDR", 25, address),
    Field("PROTO", 7, attribute("transport")),
    Field("LPORT", 8, attribute("local_port")),
    Field("RPORT", 8, attribute("remote_port")),
    Field("DSFLD", 10, attribute("dsfield")),
]
FLOWPROP = [
    *plain(("FLOW", 13, "flow"), ("PROPERTY", 16, "name")),
    Field("VALUE", 15, of("value"), wrap=True),
    Field("DEFAULT", 15, of("default"), wrap=True),
    Field("POSSIBLE", 21, of("possible"), wrap=True),
]

Unit = Callable[[float], str]


def amount(value: float) -> str:
    """1000-based with a unit: ``  1.23K``."""
    for unit, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= scale:
            return f"{value / scale:6.2f}{unit}"
    return f"{value:7.0f}"


def in_unit(unit: str) -> Unit:
    """Always in the unit asked for; R is raw."""
    power = "RKMGTP".index(unit)
    return (lambda value: f"{value:7.0f}") if not power else (lambda value: f"{value / 1000**power:6.2f}{unit}")


def stats(names: Iterable[tuple[str, int, str]], unit: Unit | None) -> list[Field]:
    """Columns of numbers in a unit (None: as they are), behind those of words."""

    def get(key: str) -> Callable[[Row], str | None]:
        def found(row: Row) -> str | None:
            value = row.get(key)
            if isinstance(value, int | float) and key not in WORDS:
                return str(value) if unit is None else unit(value).strip()
            return "" if value is None else str(value)

        return found

    return [Field(name, width, get(key)) for name, width, key in names]


WORDS = frozenset({"name", "type", "id", "index", "link", "port", "fout"})
LANE = [("LINK", 15, "name"), ("TYPE", 5, "type"), ("ID", 7, "id"), ("INDEX", 6, "index")]
CHAINS = [("CH<10", 8, "ch10"), ("CH10-50", 8, "ch10_50"), ("CH>50", 8, "ch50")]
RX = [("IPKTS", 8, "ipkts"), ("RBYTES", 8, "rbytes"), ("INTRS", 8, "intrs"), ("POLLS", 8, "polls")]
TX = [("OPKTS", 8, "opkts"), ("OBYTES", 8, "obytes"), ("BLKCNT", 8, "blkcnt"), ("UBLKCNT", 8, "ublkcnt")]
SDROPS = [("SDROPS", 8, "sdrops")]
DLSTAT = {
    "": [LANE[0], RX[0], RX[1], TX[0], TX[1]],
    "r": [LANE[0], *RX, *CHAINS],
    "t": [LANE[0], *TX],
    "link": [*LANE, ("PKTS", 8, "pkts"), ("BYTES", 8, "bytes")],
    "link r": [("LINK", 10, "name"), *LANE[1:], *RX, *SDROPS, *CHAINS],
    "link r fanout": [("LINK", 10, "name"), *LANE[1:], ("FOUT", 6, "fout"), *RX, *SDROPS, *CHAINS],
    "phys": [*LANE, ("PKTS", 8, "pkts"), ("BYTES", 8, "bytes")],
    "phys r": [*LANE, *RX[:2]],
    "phys t": [*LANE, *TX[:2]],
    "aggr": [LANE[0], ("PORT", 15, "port"), *RX[:2], *TX[:2]],
    "link t": [*LANE, *TX, *SDROPS],
}
FLOWSTAT = {
    "": [("FLOW", 15, "name"), *RX[:2], ("IERRS", 8, "ierrs"), *TX[:2], ("OERRS", 8, "oerrs")],
    "r": [("FLOW", 15, "name"), *RX[:2], ("IERRS", 8, "ierrs")],
    "t": [("FLOW", 15, "name"), *TX[:2], ("OERRS", 8, "oerrs")],
}
