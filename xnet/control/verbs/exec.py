"""``xnet exec``."""

from __future__ import annotations

import os

import click

from xnet.control.client import Client
from xnet.control.state import pick, run_root
from xnet.control.verbs.options import lab_option


@click.command(
    short_help="Run a command in a guest.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@lab_option
@click.argument("domain", metavar="DOM")
@click.argument("command", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(lab_name: str | None, domain: str, command: tuple[str, ...]) -> int:
    """Run CMD in domain DOM (or dom0), with this terminal; its exit status is ours.

    The command sees the guest's network, processes, host name, /sys and /etc/resolv.conf; files are this machine's.

    Example:  sudo xnet exec a -- ping -c 3 10.0.0.2
    """
    from xnet.host.enter import enter_and_exec
    from xnet.host.netns import NamespaceFds

    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError(f"no command: xnet exec {domain} -- ip address")
    with Client(run_root() / pick(lab_name).name) as client:
        spaces = NamespaceFds(**client.namespaces(domain))
    return enter_and_exec(spaces, command, os.environ)
