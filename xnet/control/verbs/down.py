"""``xnet down``."""

from __future__ import annotations

import signal

import click

from xnet.control.client import Client
from xnet.control.state import Owner, bury, pick, run_root, running
from xnet.control.verbs.options import lab_option
from xnet.errors import XnetError

GRACE_S = 3.0
"""How long the engine has for an orderly end; it allows itself less."""


@click.command(short_help="Take a lab down.")
@lab_option
@click.option("--all", "every", is_flag=True, help="All labs that are up.")
def down(lab_name: str | None, every: bool) -> None:
    """Take a lab down: its guests, everything that runs in them, and its network.

    Example:  sudo xnet down
    """
    if every and lab_name is not None:
        raise click.UsageError("--all and --lab exclude each other")
    for owner in running() if every else [pick(lab_name)]:
        end(owner)


def end(owner: Owner) -> None:
    """Ask the engine; where it does not listen tell the process, and in the end the kernel."""
    try:
        with Client(run_root() / owner.name, timeout_s=GRACE_S) as client:
            client.call("end")
    except XnetError:
        owner.kill(signal.SIGTERM)
    if not owner.wait_gone(GRACE_S):
        owner.kill(signal.SIGKILL)
        if not owner.wait_gone(GRACE_S):
            raise XnetError(f'lab "{owner.name}": process {owner.pid} does not end, not even when killed')
    bury(run_root() / owner.name)
