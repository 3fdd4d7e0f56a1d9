"""dladm: its subcommands."""

from __future__ import annotations

from typing import Any

from xnet.control.dl import fields
from xnet.control.dl.bundles import SUBS as BUNDLES
from xnet.control.dl.options import DlError, Options, Usage, number, properties
from xnet.control.dl.tool import LONGS_SHOW, NO_ACCOUNTING, Sub, Tool, in_intervals, ordering
from xnet.control.ofmt import Field, Row
from xnet.control.values import VLAN_MAX
from xnet.frame.ether import mac_bytes


def create_vnic(tool: Tool, options: Options) -> None:
    """-l link, and how its address is chosen."""
    link = options.value("l")
    if link is None:
        raise Usage
    [name] = options.need()
    if options.has("f") and not options.has("v"):
        raise DlError("-f option can only be used with -v")
    tool.call(
        do="create-vnic",
        name=name,
        over=link,
        mac=mac(options),
        vid=vid(options),
        force=options.has("f"),
        properties=properties(options.given.get("p")),
        temporary=options.has("t"),
    )


def mac(options: Options) -> dict[str, Any]:
    """What -m -n -r -V -A say. DlError."""
    how = options.value("m") or "auto"
    slot, prefix = options.value("n"), options.value("r")
    if slot is not None and (how != "factory" or not slot.isdecimal() or not int(slot)):
        raise DlError("invalid slot number")
    if prefix is not None and how != "random":
        raise Usage
    if how in ("auto", "factory"):
        return {"type": how} | ({"slot": int(slot)} if slot else {})
    if how == "random":
        return {"type": how} | ({"prefix": prefix} if prefix else {})
    if how == "vrrp":
        vrid, family = options.value("V"), options.value("A")
        if vrid is None or family not in ("inet", "inet6"):
            raise Usage
        return {"type": how, "vrid": int(vrid) if vrid.isdecimal() else 0, "af": family}
    if how == "fixed":
        raise DlError("'fixed' is not a valid MAC address")
    if mac_bytes(how) is None:
        raise DlError("invalid MAC address")
    return {"type": "fixed", "address": how}


def vid(options: Options) -> int:
    """-v. DlError."""
    text = options.value("v")
    if text is None:
        return 0
    found = number(text)
    if found is None or not 1 <= found <= VLAN_MAX:
        raise DlError(f"invalid VLAN identifier '{text}'")
    return found


def modify_vnic(tool: Tool, options: Options) -> None:
    """-l -m -v of Solaris 11."""
    [name] = options.need()
    address = mac(options) if options.has("m") else None
    wanted = vid(options) if options.has("v") else None
    tool.call(do="modify-vnic", name=name, over=options.value("l") or "", mac=address, vid=wanted)


def create_vlan(tool: Tool, options: Options) -> None:
    """-l link -v vid."""
    if options.value("l") is None or options.value("v") is None:
        raise Usage
    tool.call(
        do="create-vlan",
        name=options.operand(),
        over=options.value("l"),
        vid=vid(options),
        force=options.has("f"),
        temporary=options.has("t"),
    )


def rename(tool: Tool, options: Options) -> None:
    """old new."""
    old, new = options.need(2)
    tool.call(do="rename-link", old=old, new=new)


def set_linkprop(tool: Tool, options: Options) -> None:
    """-p prop=value[,...] link."""
    [link] = options.need()
    wanted = properties(options.given.get("p"))
    if not wanted:
        raise DlError("link property must be specified")
    tool.call(do="set-linkprop", link=link, properties=wanted, temporary=options.has("t"))


def reset_linkprop(tool: Tool, options: Options) -> None:
    """[-p prop,...] link."""
    [link] = options.need()
    tool.call(do="reset-linkprop", link=link, names=options.words("p") or None, temporary=options.has("t"))


# --- showing


def links(tool: Tool, options: Options, *kinds: str) -> list[Row]:
    """The links of these classes, or the one named. DlError."""
    name = options.operand()
    shot = tool.snapshot()
    found = [row for row in shot["links"] if not kinds or row["class"] in kinds]
    if options.has("P"):
        found = [row for row in found if not row["temporary"] or row["class"] == "phys"]
    if options.value("l") is not None:
        found = [row for row in found if options.value("l") in row["over"]]
    if name is not None:
        found = [row for row in found if row["name"] == name]
        if not found:
            raise DlError(f"invalid link name '{name}'")
    return found


def show(columns: list[Field], *kinds: str) -> Any:
    """A subcommand that lists links; with -s their statistics."""

    def run(tool: Tool, options: Options) -> None:
        if options.has("i") and not options.has("s"):
            raise DlError("the option -i can be used only with -s")
        if not options.has("s"):
            tool.table(columns, links(tool, options, *kinds), options)
            return
        in_intervals(
            options,
            lambda: links(tool, options, *kinds),
            lambda row: row["name"],
            since,
            lambda rows: tool.table(fields.LINK_S, rows, options),
        )

    return run


def since(row: Row, before: Row) -> Row:
    """What a link has done since then; all of it, if it is another one of that name."""
    now, then = row["statistics"], before["statistics"]
    if any(now[key] < then[key] for key in now):
        return row
    return row | {"statistics": {key: now[key] - then[key] for key in now}}


def show_phys(tool: Tool, options: Options) -> None:
    """[-m | -H] [link]."""
    rows = links(tool, options, "phys")
    if options.has("H"):
        who = {row["name"]: ",".join(["<default>", *(each["name"] for each in row["clients"])]) for row in rows}
        rings = (("RX", "rx"), ("TX", "tx"))
        listed = [
            {"name": row["name"], "ringtype": kind, "rings": span(len(row["lanes"][side])), "clients": who[row["name"]]}
            for row in rows
            for kind, side in rings
        ]
        tool.table(fields.PHYS_H, listed, options)
        return
    if not options.has("m"):
        tool.table(fields.PHYS, rows, options)
        return
    listed = []
    for row in rows:
        used = {"slot": "primary", "inuse": "yes" if row["user"] else "no", "client": row["user"]}
        listed.append(row | used)
        listed += [
            row | {"slot": "", "mac": each["mac"], "inuse": "yes", "client": each["name"]} for each in row["clients"]
        ]
    tool.table(fields.PHYS_M, listed, options)


def span(count: int) -> str:
    """``0-1``, of two."""
    return "" if not count else "0" if count == 1 else f"0-{count - 1}"


def show_ether(tool: Tool, options: Options) -> None:
    """[-x] [link]."""
    rows: list[Row] = []
    for row in links(tool, options, "phys"):
        speed = f"{row['speed_mbps'] // 1000}G-{row['duplex'][0]}"
        rest = {"auto": "no", "speed_duplex": speed, "pause": "none", "fault": "none"}
        rows.append({"name": row["name"], "ptype": "current", "state": row["state"], **rest})
        if options.has("x"):
            rows.append({"name": "", "ptype": "capable", "state": "", **rest})
            nothing = {"auto": "no", "speed_duplex": "", "pause": "none", "fault": "none"}
            rows += [{"name": "", "ptype": each, "state": "", **nothing} for each in ("adv", "peeradv")]
    tool.table(fields.ETHER, rows, options)


def delete_phys(tool: Tool, options: Options) -> None:
    """A device that is there stays."""
    options.need()
    links(tool, options, "phys")
    raise DlError("delete operation failed: link busy")


def show_usage(tool: Tool, options: Options) -> None:
    """There is nothing to show."""
    raise DlError(NO_ACCOUNTING)


def show_linkprop(tool: Tool, options: Options) -> None:
    """[-c -o f,..] [-p prop,..] [link]."""
    wanted = options.words("p")
    rows = []
    for link in links(tool, options):
        known = {each["name"]: each for each in link["properties"]}
        for name in wanted or known:
            if name not in known:
                tool.warn(f"warning: invalid link property '{name}'")
                continue
            rows.append({"link": link["name"], **known[name]})
    tool.table(fields.LINKPROP, rows, options, parsable="c")


SUBS: dict[str, Sub] = {
    **BUNDLES,
    "show-link": Sub("[-pP] [-o <field>,..] [-s [-i <interval>]] [<link>]", "pPo:si:", show(fields.LINK), LONGS_SHOW),
    "rename-link": Sub("<oldlink> <newlink>", "", rename),
    "create-vlan": Sub("[-ft] -l <link> -v <vid> [link]", "ftl:v:", create_vlan),
    "delete-vlan": Sub("[-t] <link>", "t", ordering("delete-vlan")),
    "show-vlan": Sub("[-pP] [-o <field>,..] [<link>]", "pPo:l:", show(fields.VLAN, "vlan"), LONGS_SHOW),
    "show-phys": Sub("[-m | -H] [-pP] [-o <field>,..] [<link>]", "mHpPo:", show_phys, LONGS_SHOW),
    "delete-phys": Sub("<link>", "", delete_phys),
    "show-ether": Sub("[-px] [-o <field>,..] [<link>]", "pxo:", show_ether, LONGS_SHOW),
    "show-usage": Sub(
        "[-a] -f <filename> [-p <plotfile> -F <format>] [-s <time>] [-e <time>] [<link>]", "af:p:F:s:e:", show_usage
    ),
    "set-linkprop": Sub("[-t] -p <prop>=<value>[,...] <name>", "tp:", set_linkprop),
    "reset-linkprop": Sub("[-t] [-p <prop>,...] <name>", "tp:", reset_linkprop),
    "show-linkprop": Sub("[-cP] [-o <field>,..] [-p <prop>,...] [<name>]", "cPo:p:", show_linkprop),
    "create-vnic": Sub(
        "[-t] -l <link> [-m <value> | auto | {factory [-n <slot-id>]} | {random [-r <prefix>]} | "
        "{vrrp -V <vrid> -A {inet | inet6}}] [-v <vid> [-f]] [-p <prop>=<value>[,...]] <vnic-link>",
        "tl:m:n:r:v:fp:V:A:",
        create_vnic,
    ),
    "modify-vnic": Sub("[-l <link>] [-m <value>] [-v <vid>] <vnic-link>", "l:m:n:r:v:V:A:", modify_vnic),
    "delete-vnic": Sub("[-t] <vnic-link>", "t", ordering("delete-vnic")),
    "show-vnic": Sub(
        "[-pP] [-l <link>] [-s [-i <interval>]] [<link>]", "pPl:si:o:", show(fields.VNIC, "vnic"), LONGS_SHOW
    ),
    "create-etherstub": Sub("[-t] <link>", "t", ordering("create-etherstub")),
    "delete-etherstub": Sub("[-t] <link>", "t", ordering("delete-etherstub")),
    "show-etherstub": Sub("[-t] [<link>]", "tpPo:", show(fields.ETHERSTUB, "etherstub"), LONGS_SHOW),
}
