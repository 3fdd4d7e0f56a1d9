"""``xnet run``."""

from __future__ import annotations

import signal
import time

import click

from xnet.control.verbs.options import keep_option, lab_file


@click.command(short_help="Run a lab in the foreground until Ctrl-C.")
@lab_file
@keep_option
def run(lab_path: str, keep: bool) -> None:
    """Run a lab in the foreground and tell what happens, until Ctrl-C takes it down.

    Example:  sudo xnet run examples/pair.toml
    """
    from xnet.control import daemon
    from xnet.control.config import load_lab
    from xnet.control.state import need_root

    began = time.monotonic()
    lab = load_lab(lab_path)
    need_root()
    vifs = sum(len(domain.vifs) for domain in lab.domains)

    def ready(problem: str) -> None:
        if problem:
            click.echo(f"xnet: {problem} (the lab is kept)", err=True)
            return
        took = time.monotonic() - began
        what = f"{len(lab.domains)} domains, {vifs} vifs connected in {took:.2f} s"
        click.echo(f'lab "{lab.name}" is up: {what}. Ctrl-C takes it down.')

    signum = daemon.run(lab, click.echo, ready, keep=keep)
    by = f" by {signal.Signals(signum).name}" if signum else ""
    click.echo(f'lab "{lab.name}" is down{by}')
