"""``xnet gc``."""

from __future__ import annotations

from dataclasses import asdict

import click

from xnet.control.show import as_json
from xnet.control.state import collect
from xnet.control.verbs.options import json_option


@click.command(short_help="Remove what a killed xnet left behind.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@json_option
def gc(dry_run: bool, want_json: bool) -> None:
    """Remove what a killed xnet left behind, and nothing else.

    Namespaces, devices and processes end with the engine by themselves; what can stay is its state under /run/xnet.

    Example:  sudo xnet gc --dry-run
    """
    found = collect(dry_run=dry_run)
    if want_json:
        as_json([asdict(leftover) for leftover in found])
        return
    verb = "would remove" if dry_run else "removed"
    for leftover in found:
        click.echo(f"{verb} {leftover.path} ({', '.join(leftover.removed)})")
        if leftover.kept:
            click.echo(f"  not ours, left alone: {', '.join(leftover.kept)}")
    if not found:
        click.echo("nothing to remove")
