"""flowadm: its subcommands."""

from __future__ import annotations

from xnet.control.dl import fields
from xnet.control.dl.options import DlError, Options, Usage, properties
from xnet.control.dl.tool import NO_ACCOUNTING, Sub, Tool
from xnet.control.ofmt import Row
from xnet.mac.flow import ATTRIBUTES


def add_flow(tool: Tool, options: Options) -> None:
    """-l link -a attr=value[,...] [-p prop=value] flow."""
    link = options.value("l")
    if link is None:
        raise DlError("link is required")
    if not options.operands:
        raise DlError("flow name is required")
    [name] = options.need()
    attributes: dict[str, str] = {}
    for word in (options.value("a") or "").split(","):
        key, equals, value = word.partition("=")
        if key not in ATTRIBUTES or not equals or not value or key in attributes:
            raise DlError("invalid flow attribute specified")
        attributes[key] = value
    wanted = properties(options.given.get("p"))
    tool.call(do="add-flow", name=name, link=link, attributes=attributes, properties=wanted, temporary=options.has("t"))


def remove_flow(tool: Tool, options: Options) -> None:
    """{-l link | flow}."""
    name, link = options.operand(), options.value("l")
    if (name is None) == (link is None):
        raise Usage
    tool.call(do="remove-flow", name=name, link=link, temporary=options.has("t"))


def set_flowprop(tool: Tool, options: Options) -> None:
    """-p prop=value flow."""
    [name] = options.need()
    wanted = properties(options.given.get("p"))
    if not wanted:
        raise DlError("flow property must be specified")
    tool.call(do="set-flowprop", flow=name, properties=wanted, temporary=options.has("t"))


def reset_flowprop(tool: Tool, options: Options) -> None:
    """[-p prop,...] flow."""
    [name] = options.need()
    tool.call(do="reset-flowprop", flow=name, names=options.words("p") or None, temporary=options.has("t"))


def flows(tool: Tool, options: Options) -> list[Row]:
    """Those of a link, or the one named. DlError."""
    name, link = options.operand(), options.value("l")
    shot = tool.snapshot()
    found = [row for row in shot["flows"] if link in (None, row["link"])]
    if link is not None and link not in {row["name"] for row in shot["links"]}:
        raise DlError(f"invalid link name '{link}'")
    if name is not None:
        found = [row for row in found if row["name"] == name]
        if not found:
            raise DlError(f"invalid flow: '{name}'")
    return found


def show_flow(tool: Tool, options: Options) -> None:
    """[-l link] [flow]."""
    tool.table(fields.FLOW, flows(tool, options), options)


def show_flowprop(tool: Tool, options: Options) -> None:
    """[-l link] [-p prop,...] [flow]."""
    wanted = options.words("p")
    rows = [
        {"flow": flow["name"], **each}
        for flow in flows(tool, options)
        for each in flow["properties"]
        if not wanted or each["name"] in wanted
    ]
    tool.table(fields.FLOWPROP, rows, options, parsable="c")


def show_usage(tool: Tool, options: Options) -> None:
    """There is nothing to show."""
    raise DlError(NO_ACCOUNTING)


SUBS: dict[str, Sub] = {
    "add-flow": Sub("[-t] -l <link> -a <attr>=<value>[,...] [-p <prop>=<value>,...] <flow>", "tl:a:p:", add_flow),
    "remove-flow": Sub("[-t] {-l <link> | <flow>}", "tl:", remove_flow),
    "set-flowprop": Sub("[-t] -p <prop>=<value>[,...] <flow>", "tp:", set_flowprop),
    "reset-flowprop": Sub("[-t] [-p <prop>,...] <flow>", "tp:", reset_flowprop),
    "show-flow": Sub("[-p] [-l <link>] [-o <field>,..] [<flow>]", "pl:o:", show_flow),
    "show-usage": Sub(
        "[-a] -f <filename> [-p <plotfile> -F <format>] [-s <time>] [-e <time>] [<flow>]", "af:p:F:s:e:", show_usage
    ),
    "show-flowprop": Sub("[-c] [-l <link>] [-o <field>,..] [-p <prop>,...] [<flow>]", "cl:o:p:", show_flowprop),
}
