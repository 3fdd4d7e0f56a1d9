"""``xnet pause`` and ``xnet unpause``."""

from __future__ import annotations

import click

from xnet.control.verbs.options import domain_argument, lab_option, order


@click.command(short_help="Stop a guest where it is.")
@lab_option
@domain_argument
def pause(lab_name: str | None, domain: str) -> None:
    """Stop guest DOM where it is, as xl pause does: it answers no event, takes no frame and sends none.

    What is on its way to it waits in its rings and in dom0, which drops by name what waits too long. Its processes go
    on: what they send waits in its interfaces.

    Example:  sudo xnet pause a
    """
    order(lab_name, "pause", domain=domain)


@click.command(short_help="Let a paused guest go on.")
@lab_option
@domain_argument
def unpause(lab_name: str | None, domain: str) -> None:
    """Let paused guest DOM go on, as xl unpause does. One that is not paused goes on, too.

    Example:  sudo xnet unpause a
    """
    order(lab_name, "unpause", domain=domain)
