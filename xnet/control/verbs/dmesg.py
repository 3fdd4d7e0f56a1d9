"""``xnet dmesg``."""

from __future__ import annotations

import click

from xnet.control.client import Client
from xnet.control.state import pick, run_root
from xnet.control.verbs.options import lab_option


@click.command(short_help="Show the hypervisor's console.")
@lab_option
def dmesg(lab_name: str | None) -> None:
    """Show what the hypervisor and the backends had to say, as xl dmesg does.

    Example:  sudo xnet dmesg
    """
    with Client(run_root() / pick(lab_name).name) as client:
        for line in client.call("dmesg"):
            click.echo(line)
