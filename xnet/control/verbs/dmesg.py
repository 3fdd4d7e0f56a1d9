"""``xnet dmesg``."""

from __future__ import annotations

import time

import click

from xnet.control.client import Client
from xnet.control.state import pick, run_root
from xnet.control.verbs.options import lab_option

FOLLOW_S = 0.2
"""How often a follower looks."""


@click.command(short_help="Show the hypervisor's console.")
@lab_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is said from now on, until Ctrl-C.")
def dmesg(lab_name: str | None, follow: bool) -> None:
    """Show what the hypervisor and the backends had to say, as xl dmesg does.

    Example:  sudo xnet dmesg -f
    """
    with Client(run_root() / pick(lab_name).name) as client:
        seen: list[str] = []
        while True:
            lines = client.call("dmesg")
            for line in unseen(seen, lines):
                click.echo(line)
            if not follow:
                return
            seen = lines
            time.sleep(FOLLOW_S)


def unseen(before: list[str], now: list[str]) -> list[str]:
    """What the console ring has now after what it had before, the oldest of which it may have dropped."""
    dropped = 0
    while before[dropped:] != now[: len(before) - dropped]:
        dropped += 1
    return now[len(before) - dropped :]
