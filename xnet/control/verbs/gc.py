"""``xnet gc``."""

from __future__ import annotations

from dataclasses import asdict

import click

from xnet.control.show import as_json
from xnet.control.verbs.options import json_option


@click.command(short_help="Remove what a killed xnet left behind.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@json_option
def gc(dry_run: bool, want_json: bool) -> None:
    """Remove what a killed xnet left behind, and nothing else.

    Guests, their networks and processes end with the engine by themselves. What can stay is its directory under
    /run/xnet, and a bridge in the machine's own network if the process that watches it was killed too.

    Example:  sudo xnet gc --dry-run
    """
    from xnet.control.collect import collect

    found = collect(dry_run=dry_run)
    if want_json:
        as_json([asdict(leftover) for leftover in found])
        return
    for leftover in found:
        files = f" ({', '.join(leftover.ours)})" if leftover.ours else ""
        click.echo(f"{'would remove' if dry_run else 'removed'} {leftover.name}{files}")
        if leftover.kept:
            click.echo(f"  not ours, left alone: {', '.join(leftover.kept)}")
    if not found:
        click.echo("nothing to remove")
