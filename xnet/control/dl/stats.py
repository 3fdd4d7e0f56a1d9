"""dlstat and flowstat: counters of links, their lanes and flows; with -i what they did in each interval."""

from __future__ import annotations

from collections.abc import Callable

from xnet.control.dl import fields
from xnet.control.dl.flowadm import flows
from xnet.control.dl.options import DlError, Options
from xnet.control.dl.tool import Sub, Tool, in_intervals
from xnet.control.ofmt import Row

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
    """The row's numbers since then."""
    return {
        name: value - before[name]
        if isinstance(value, int) and name not in fields.WORDS and isinstance(before.get(name), int)
        else value
        for name, value in row.items()
    }


def links(tool: Tool, options: Options) -> list[Row]:
    """Links with their counters. DlError."""
    name = options.operand()
    found = [row for row in tool.snapshot()["links"] if row["class"] != "etherstub" and name in (None, row["name"])]
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


def lanes(tool: Tool, options: Options) -> list[Row]:
    """A row a lane."""
    rows: list[Row] = []
    for link in links(tool, options):
        for side in ("rx", "tx"):
            if way(options) not in ("", side[0]):
                continue
            for lane in link["lanes"][side]:
                index = "--" if lane["index"] is None else lane["index"]
                packets, size = ("ipkts", "rbytes") if side == "rx" else ("opkts", "obytes")
                both = {"pkts": lane[packets], "bytes": lane[size]}
                rows.append({**lane, **both, "name": link["name"], "type": side, "index": index})
    return rows


def dlstat(tool: Tool, options: Options) -> None:
    """[-r|-t] [link]."""
    report(fields.DLSTAT[way(options)], totals, lambda row: (row["name"],))(tool, options)


def show_link(tool: Tool, options: Options) -> None:
    """Lane by lane."""
    columns = fields.DLSTAT[f"link {way(options)}".strip()]
    report(columns, lanes, lambda row: (row["name"], row["type"], row["id"], row["index"]))(tool, options)


def flowstat(tool: Tool, options: Options) -> None:
    """[-r|-t] [-l link] [flow]."""

    def rows(tool: Tool, options: Options) -> list[Row]:
        return [{"name": flow["name"], **flow["statistics"]} for flow in flows(tool, options)]

    report(fields.FLOWSTAT[way(options)], rows, lambda row: (row["name"],))(tool, options)


DLSTAT = Sub("[-r | -t] [-i <interval>] [-p] [-o <field>,..] [-u R|K|M|G|T|P] [<link>]", "rti:po:u:", dlstat)
DLSTAT_SUBS: dict[str, Sub] = {
    "show-link": Sub(
        "[-r | -t] [-i <interval>] [-p] [-o <field>,..] [-u R|K|M|G|T|P] [<link>]", "rti:po:u:", show_link
    ),
}
FLOWSTAT = Sub(
    "[-r | -t] [-i <interval>] [-l <link>] [-p] [-o <field>,..] [-u R|K|M|G|T|P] [<flow>]", "rti:l:po:u:", flowstat
)
