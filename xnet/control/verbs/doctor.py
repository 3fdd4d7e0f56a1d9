"""``xnet doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click

from xnet.control.show import as_json, coloured, table
from xnet.control.verbs.options import json_option


@click.command(short_help="Tell what this machine lacks, and how to get it.")
@json_option
def doctor(want_json: bool) -> int:
    """Tell what this machine lacks, and how to get it. Exit status 0 when nothing that must be there is missing.

    Example:  sudo xnet doctor
    """
    from xnet.host.survey import survey

    checks = survey()
    missing = [check for check in checks if not check.ok and check.needed == "must"]
    if want_json:
        as_json([asdict(check) for check in checks])
        return 1 if missing else 0
    rows = [(mark(check.ok, check.needed), check.name, check.detail) for check in checks]
    table(("", "what", "found"), rows)
    fixes = [(check.name, check.fix) for check in checks if not check.ok]
    if fixes:
        click.echo()
        table(("missing", "get it by"), fixes)
    verdict = "this machine cannot run labs yet" if missing else "this machine can run labs"
    click.echo()
    click.echo(coloured(verdict, not missing))
    return 1 if missing else 0


def mark(is_ok: bool, needed: str) -> str:
    """One word for the left column."""
    return "ok" if is_ok else "MISSING" if needed == "must" else "missing"
