"""``xnet check``."""

from __future__ import annotations

import json

import click

from xnet.control.verbs.options import json_option, lab_option, order


@click.command(short_help="Look for anything that nobody accounts for.")
@lab_option
@json_option
def check(lab_name: str | None, want_json: bool) -> None:
    """Look whether every page, grant, port, mapping, interface, bridge port, vnic and xenstore directory of a running
    lab belongs to somebody. Exit status 1 if not.

    Example:  sudo xnet check
    """
    found = order(lab_name, "check")
    problems = found["problems"]
    if want_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for problem in problems:
            click.echo(problem)
        if not problems:
            counts = ", ".join(f"{count} {name}" for name, count in found.items() if name != "problems")
            click.echo(f"ok: {counts}, all accounted for")
    if problems:
        raise SystemExit(1)
