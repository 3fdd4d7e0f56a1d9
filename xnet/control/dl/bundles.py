"""dladm's subcommands for aggregations and bridges of links."""

from __future__ import annotations

from typing import Any

from xnet.control.dl import fields
from xnet.control.dl.options import DlError, Options, Usage
from xnet.control.dl.tool import LONGS_SHOW, Sub, Tool, ordering
from xnet.control.ofmt import Row

NO_LACP = "LACP is not spoken here: leave -L and -T out, and -u for the first port has its address"
PROTECT = "stp"


def policy(options: Options) -> str:
    """-P, and no -L -T -u. DlError."""
    if options.has("L") or options.has("T") or options.has("u"):
        raise DlError(NO_LACP)
    return options.value("P") or "L4"


def create_aggr(tool: Tool, options: Options) -> None:
    """[-P policy] [-m mode] -l link ... name."""
    [name] = options.need()
    links = options.words("l")
    if not links:
        raise Usage
    tool.call(
        do="create-aggr",
        name=name,
        links=links,
        policy=policy(options),
        mode=options.value("m") or "trunk",
        temporary=options.has("t"),
    )


def modify_aggr(tool: Tool, options: Options) -> None:
    """-P policy name."""
    [name] = options.need()
    wanted = policy(options)
    if not options.has("P"):
        raise Usage
    tool.call(do="modify-aggr", name=name, policy=wanted, temporary=options.has("t"))


def changing(do: str) -> Any:
    """A subcommand that takes -l link ... and a name."""

    def run(tool: Tool, options: Options) -> None:
        [name] = options.need()
        links = options.words("l")
        if not links:
            raise Usage
        tool.call(do=do, name=name, links=links, temporary=options.has("t"))

    return run


def create_bridge(tool: Tool, options: Options) -> None:
    """[-P stp|none] [-l link ...] name."""
    [name] = options.need()
    protect = options.value("P") or PROTECT
    if protect not in ("stp", "none"):
        raise DlError(f"protection '{protect}' is not spoken here: use stp or none")
    tool.call(do="create-bridge", name=name, links=options.words("l"), protect=protect, temporary=options.has("t"))


def show_aggr(tool: Tool, options: Options) -> None:
    """[-x|-s] [name]."""
    name = options.operand()
    found = [row for row in tool.snapshot()["links"] if row["class"] == "aggr" and name in (None, row["name"])]
    if name is not None and not found:
        raise DlError(f"invalid link name '{name}'")
    if options.has("P"):
        found = [row for row in found if not row["temporary"]]
    if options.has("L"):
        raise DlError(NO_LACP)
    if options.has("x"):
        tool.table(fields.AGGR_X, [port for row in found for port in with_ports(row)], options)
    elif options.has("s"):
        tool.table(fields.AGGR_S, [port for row in found for port in with_shares(row)], options)
    else:
        tool.table(fields.AGGR, found, options)


def with_ports(row: Row) -> list[Row]:
    """The aggregation, then its ports."""
    whole: Row = {**row, "port": "", "portstate": ""}
    ports = [
        {
            "name": row["name"],
            "port": port["name"],
            "speed_mbps": port["speed_mbps"],
            "duplex": row["duplex"],
            "state": port["state"],
            "mac": port["mac"],
            "portstate": "attached" if port["active"] else "standby",
        }
        for port in row["ports"]
    ]
    return [whole, *ports]


COUNTERS = ("ipackets", "rbytes", "opackets", "obytes")


def with_shares(row: Row) -> list[Row]:
    """What went by which port, of all there was."""
    total = {name: sum(port[name] for port in row["ports"]) for name in COUNTERS}
    listed: list[Row] = [{"name": row["name"], "port": "", "ipktdist": "", "opktdist": "", **total}]
    for port in row["ports"]:
        shares = {
            key: f"{100 * port[name] / total[name]:.1f}" if total[name] else ""
            for key, name in (("ipktdist", "ipackets"), ("opktdist", "opackets"))
        }
        listed.append({"name": row["name"], "port": port["name"], **{each: port[each] for each in COUNTERS}, **shares})
    return listed


def show_bridge(tool: Tool, options: Options) -> None:
    """[-l|-f] [-s] [name]."""
    name = options.operand()
    found = [row for row in tool.snapshot()["bridges"] if name in (None, row["name"])]
    if name is not None and not found:
        raise DlError(f"'{name}' is not a bridge")
    if (options.has("l") or options.has("f")) and name is None:
        raise DlError("bridge name required for -l, -f, or -t")
    if options.has("f"):
        tool.table(fields.BRIDGE_F, [entry for row in found for entry in row["fdb"]], options)
    elif options.has("l"):
        nothing = dict.fromkeys(("index", "uptime", "role", "desroot", "cfgbpdu", "txbpdu"), "")
        members = [nothing | member for row in found for member in row["members"]]
        tool.table(fields.BRIDGE_LS if options.has("s") else fields.BRIDGE_L, members, options)
    else:
        tool.table(fields.BRIDGE_S if options.has("s") else fields.BRIDGE, found, options)


SUBS: dict[str, Sub] = {
    "create-aggr": Sub(
        "[-t] [-P <policy>] [-m {trunk | dlmp}] -l <link> [-l <link>...] <link>",
        "tP:m:L:T:u:l:",
        create_aggr,
        many="l",
    ),
    "delete-aggr": Sub("[-t] <link>", "t", ordering("delete-aggr")),
    "add-aggr": Sub("[-t] -l <link> [-l <link>...] <link>", "tl:", changing("add-aggr"), many="l"),
    "remove-aggr": Sub("[-t] -l <link> [-l <link>...] <link>", "tl:", changing("remove-aggr"), many="l"),
    "modify-aggr": Sub("[-t] -P <policy> <link>", "tP:L:T:u:", modify_aggr),
    "show-aggr": Sub("[-pPx] [-s] [-o <field>,..] [<link>]", "pPxsLo:", show_aggr, LONGS_SHOW),
    "create-bridge": Sub("[-t] [-P {stp | none}] [-l <link>]... <bridge>", "tP:l:", create_bridge, many="l"),
    "delete-bridge": Sub("[-t] <bridge>", "t", ordering("delete-bridge")),
    "add-bridge": Sub("[-t] -l <link> [-l <link>]... <bridge>", "tl:", changing("add-bridge"), many="l"),
    "remove-bridge": Sub("[-t] -l <link> [-l <link>]... <bridge>", "tl:", changing("remove-bridge"), many="l"),
    "show-bridge": Sub(
        "[-p] [-o <field>,..] [-s] [<bridge>] | {-l [-s] | -f} <bridge>", "plfso:", show_bridge, LONGS_SHOW
    ),
}
