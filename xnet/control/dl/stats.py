"""dlstat and flowstat: counters of links, their lanes and flows; with -i what they did in each interval."""

from __future__ import annotations

import json
from collections.abc import Callable

from xnet.control.dl import fields
from xnet.control.dl.flowadm import flows
from xnet.control.dl.options import DlError, Options
from xnet.control.dl.tool import NO_ACCOUNTING, Sub, Tool, in_intervals
from xnet.control.ofmt import Row

NO_COUNTERS = ("etherstub", "bridge")
Rows = Callable[[Tool, Options], list[Row]]


def way(options: Options) -> str:
    """r, t or neither. DlError."""
    if options.has("r") and options.has("t"):
        raise DlError("the option -r cannot be used with -t")
    return "r" if options.has("r") else "t" if options.has("t") else ""


def report(
    columns: list[tuple[str, int, str]], rows: Rows, key: Callable[[Row], tuple[object, ...]]
) -> Callable[..., None]:
    """Print the rows, once or in intervals."""

    def run(tool: Tool, options: Options) -> None:
        if options.has("h") or options.has("f"):
            raise DlError(NO_ACCOUNTING)
        if options.has("a") or options.has("A"):
            dump(tool, options, rows)
            return
        unit = options.value("u")
        if unit is not None and (len(unit) != 1 or unit.upper() not in "RKMGTP"):
            raise DlError(f"invalid unit '{unit}'")
        if options.has("p") and unit is not None:
            raise DlError("the option -u cannot be used with -p")
        shown = None if options.has("p") else fields.amount if unit is None else fields.in_unit(unit.upper())
        chosen = fields.stats(columns, shown)
        in_intervals(
            options,
            lambda: rows(tool, options),
            key,
            since,
            lambda found: tool.table(chosen, found, options, right=True),
        )

    return run


def since(row: Row, before: Row) -> Row:
    """The row's numbers since then; all of them, if it is of another one of that name."""
    numbers = {
        name: value - before[name]
        for name, value in row.items()
        if isinstance(value, int) and name not in fields.WORDS and isinstance(before.get(name), int)
    }
    return row if any(value < 0 for value in numbers.values()) else row | numbers


def dump(tool: Tool, options: Options, rows: Rows) -> None:
    """-a: every number of the rows; -A: every number there is, of links or flows as they are. DlError."""
    letter = "A" if options.has("A") else "a"
    for other in "poui" if letter == "a" else "pouirt":
        if options.has(other):
            raise DlError(f"the option -{other} cannot be used with -{letter}")
    shown = rows(tool, options) if letter == "a" else [row | flat(row) for row in everything(tool, options)]
    if tool.want_json:
        tool.say(json.dumps(shown, indent=2))
        return
    for row in shown:
        words = [str(row[name]) for name in ("name", "type", "id", "index") if row.get(name) not in (None, "--")]
        tool.say(" ".join(words))
        for name, value in row.items():
            if isinstance(value, int) and not isinstance(value, bool) and name not in fields.WORDS:
                tool.say(f"    {name:<24}{value}")


def everything(tool: Tool, options: Options) -> list[Row]:
    """Links or flows, whole."""
    return flows(tool, options) if tool.name == "flowstat" else links(tool, options)


def flat(row: Row) -> Row:
    """A link's or flow's counters, those of lanes with the lane in front."""
    found: Row = {**row.get("statistics", {}), **row.get("misc", {})}
    for side, lanes_of in row.get("lanes", {}).items():
        for lane in lanes_of:
            index = "" if lane["index"] is None else lane["index"]
            numbers = {key: value for key, value in lane.items() if isinstance(value, int) and key != "index"}
            found |= {f"{side}_{lane['id']}lane{index}_{key}": value for key, value in numbers.items()}
    return found


def links(tool: Tool, options: Options, *kinds: str) -> list[Row]:
    """Links with their counters. DlError."""
    name = options.operand()
    found = [
        row
        for row in tool.snapshot()["links"]
        if row["class"] not in NO_COUNTERS and (not kinds or row["class"] in kinds) and name in (None, row["name"])
    ]
    if name is not None and not found:
        raise DlError(f"invalid link name '{name}'")
    return found


def totals(tool: Tool, options: Options) -> list[Row]:
    """A row a link."""
    rows = []
    for link in links(tool, options):
        counters = link["statistics"]
        row: Row = {
            "name": link["name"],
            "ipkts": counters["ipackets"],
            "rbytes": counters["rbytes"],
            "opkts": counters["opackets"],
            "obytes": counters["obytes"],
        }
        for lane in (*link["lanes"]["rx"], *link["lanes"]["tx"]):
            for name in ("intrs", "polls", "ch10", "ch10_50", "ch50", "blkcnt", "ublkcnt"):
                if lane.get(name) is not None:
                    row[name] = row.get(name, 0) + lane[name]
        rows.append(row)
    return rows


def lanes(tool: Tool, options: Options, *kinds: str) -> list[Row]:
    """A row a lane."""
    rows: list[Row] = []
    for link in links(tool, options, *kinds):
        for side in ("rx", "tx"):
            if way(options) not in ("", side[0]):
                continue
            for lane in link["lanes"][side]:
                index = "--" if lane["index"] is None else lane["index"]
                packets, size = ("ipkts", "rbytes") if side == "rx" else ("opkts", "obytes")
                both = {"pkts": lane[packets], "bytes": lane[size]}
                rows.append({**lane, **both, "name": link["name"], "type": side, "index": index, "fout": "--"})
    return rows


def dlstat(tool: Tool, options: Options) -> None:
    """[-r|-t] [link]."""
    report(fields.DLSTAT[way(options)], totals, lambda row: (row["name"],))(tool, options)


def show_link(tool: Tool, options: Options) -> None:
    """Lane by lane. -F: their fanout, which is none."""
    kind = f"link {way(options)}".strip()
    if options.has("F"):
        if way(options) != "r":
            raise DlError("the option -F can be used only with -r")
        kind += " fanout"
    columns = fields.DLSTAT[kind]
    report(columns, lanes, lambda row: (row["name"], row["type"], row["id"], row["index"]))(tool, options)


def show_phys(tool: Tool, options: Options) -> None:
    """Ring by ring of a wire."""
    columns = fields.DLSTAT[f"phys {way(options)}".strip()]
    key = ("name", "type", "index")
    report(columns, lambda tool, options: lanes(tool, options, "phys"), lambda row: tuple(row[name] for name in key))(
        tool, options
    )


def show_aggr(tool: Tool, options: Options) -> None:
    """Aggregations and their ports."""

    def rows(tool: Tool, options: Options) -> list[Row]:
        names = (("ipkts", "ipackets"), ("rbytes", "rbytes"), ("opkts", "opackets"), ("obytes", "obytes"))
        found: list[Row] = []
        for link in links(tool, options, "aggr"):
            total = {short: sum(port[name] for port in link["ports"]) for short, name in names}
            found.append({"name": link["name"], "port": "--", **total})
            for port in link["ports"]:
                found.append({"name": link["name"], "port": port["name"], **{s: port[name] for s, name in names}})
        return found

    report(fields.DLSTAT["aggr"], rows, lambda row: (row["name"], row["port"]))(tool, options)


def flowstat(tool: Tool, options: Options) -> None:
    """[-r|-t] [-l link] [flow]."""

    def rows(tool: Tool, options: Options) -> list[Row]:
        return [{"name": flow["name"], **flow["statistics"]} for flow in flows(tool, options)]

    report(fields.FLOWSTAT[way(options)], rows, lambda row: (row["name"],))(tool, options)


MORE = "[-i <interval>] [-p] [-o <field>,..] [-u R|K|M|G|T|P] [<link>]"
DLSTAT = Sub(f"[-r | -t] {MORE} | -a | -A", "rtaAi:po:u:", dlstat)
DLSTAT_SUBS: dict[str, Sub] = {
    "show-link": Sub(f"[-r [-F] | -t] {MORE} | -a | -h -f <filename>", "rtFaAhf:i:po:u:", show_link),
    "show-phys": Sub(f"[-r | -t] {MORE} | -a", "rtaAi:po:u:", show_phys),
    "show-aggr": Sub(f"{MORE} | -a", "aAi:po:u:", show_aggr),
}
FLOWSTAT = Sub(
    "[-r | -t] [-i <interval>] [-l <link>] [-p] [-o <field>,..] [-u R|K|M|G|T|P] [<flow>] | -A | -h -f <filename>",
    "rtAhf:i:l:po:u:",
    flowstat,
)
