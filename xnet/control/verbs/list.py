"""``xnet list``."""

from __future__ import annotations

from typing import Any

import click

from xnet.control.client import Client
from xnet.control.show import as_json, strong, table
from xnet.control.state import pick, run_root
from xnet.control.verbs.options import json_option, lab_option


@click.command(short_help="List domains and their vifs.")
@lab_option
@click.option("-l", "--long", "want_long", is_flag=True, help="Every vif, with its features and counters.")
@json_option
def list_(lab_name: str | None, want_long: bool, want_json: bool) -> None:
    """List the domains of a running lab: name, id, memory in MiB, type, state as xl writes it, vifs.

    Example:  sudo xnet list -l
    """
    with Client(run_root() / pick(lab_name).name) as client:
        machine = client.call("list")
    if want_json:
        as_json(machine)
        return
    domains = machine["domains"]
    rows = [
        (d["name"], d["id"], d["memory_mib"], d["type"], d["state"], ", ".join(map(brief, d["vifs"])) or "-")
        for d in domains
    ]
    table(("Name", "ID", "Mem", "Type", "State", "VIFs"), rows, right=("ID", "Mem"))
    for domain in domains:
        for vif in domain["vifs"]:
            if want_long:
                describe(domain["name"], vif)
            elif vif["reason"]:
                click.echo(f"{domain['name']} {vif['device']}: {vif['reason']}")


def brief(vif: dict[str, Any]) -> str:
    """A vif in the table; its state only where it is not the one that is wanted."""
    state = vif["state"] if vif["state"] != "Connected" else "link down" if vif["link"] == "down" else ""
    return f"{vif['name']}@{vif['attached']}" + (f" ({state})" if state else "")


def describe(domain: str, vif: dict[str, Any]) -> None:
    """A vif with all it has."""
    click.echo()
    click.echo(strong(f"{vif['name']}: {domain}'s {vif['device']} on {vif['attached']}"))
    facts = {
        "backend": vif["backend"],
        "state": vif["state"],
        "link": vif["link"] + ("" if vif["carrier"] else ", no carrier in dom0"),
        **({"reason": vif["reason"]} if vif["reason"] else {}),
        "mac": vif["mac"],
        "mtu": vif["mtu"],
        "ip": " ".join(vif["ip"]) or "-",
        "profiles": f"{vif['frontend_profile']} frontend, {vif['backend_profile'] or 'no'} backend",
        "transport": f"{vif['tx_mode']} out of the guest, {vif['rx_mode']} into it",
        **({"headroom": f"{vif['xdp_headroom']} bytes in each page"} if vif["xdp_headroom"] else {}),
        **({"rate": "{bytes} bytes in {usec} us".format(**vif["rate"])} if vif["rate"] else {}),
        "rings and channels": f"{counted(vif['queues'], 'queue')}, {channels(vif)}",
        **({"hashing": hashing(vif["hashing"])} if vif["hashing"] else {}),
        "agreed toward dom0": features(vif["features"]["to_backend"]),
        "agreed toward the guest": features(vif["features"]["to_guest"]),
    }
    for name, value in [*facts.items(), *flat(vif["statistics"])]:
        click.echo(f"    {name:<28} {value}")


def counted(count: int, what: str) -> str:
    """``1 queue``, ``2 queues``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def channels(vif: dict[str, Any]) -> str:
    """How events travel: feature-split-event-channels or not."""
    channels, queues = vif["event_channels"], vif["queues"]
    if not channels:
        return "no event channel"
    return (
        ("one event channel" if queues == 1 else "one event channel each")
        if channels == queues
        else "event channels split for tx and rx"
    )


def hashing(told: dict[str, Any]) -> str:
    """How the guest wants its flows hashed (control ring)."""
    mapping = told["mapping"]
    queues = f"{len(mapping)} entries to {counted(len(set(mapping)), 'queue')}" if mapping else "no mapping"
    return f"{told['algorithm']} of {', '.join(told['kinds']) or 'nothing'}; {queues}"


def features(agreed: dict[str, bool]) -> str:
    """Names with a sign each: ``+sg -gso-tcpv4``."""
    return " ".join(f"{'+' if on else '-'}{name}" for name, on in agreed.items()) or "-"


def flat(counters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested counters as one list of dotted names."""
    rows: list[tuple[str, Any]] = []
    for name, value in counters.items():
        rows += flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return rows
