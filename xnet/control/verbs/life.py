"""``xnet create``, ``shutdown``, ``reboot``, ``destroy``, ``suspend``, ``resume``: a guest's life, in xl's words."""

from __future__ import annotations

import click

from xnet.control.verbs.options import domain_argument, lab_option, order


@click.command(short_help="Start a guest of the lab that does not run.")
@lab_option
@domain_argument
def create(lab_name: str | None, domain: str) -> None:
    """Start guest DOM of the lab: one with autostart = false, or one that was shut down or destroyed.

    Returns when its vifs are Connected, or says why they are not.

    Example:  sudo xnet create b
    """
    order(lab_name, "create", domain=domain)


@click.command(short_help="Shut a guest down in order.")
@lab_option
@domain_argument
def shutdown(lab_name: str | None, domain: str) -> None:
    """Shut guest DOM down: its drivers close their vifs, what runs in it ends, its domain goes.

    Drivers that do not close are waited for ten seconds.

    Example:  sudo xnet shutdown b
    """
    order(lab_name, "shutdown", domain=domain)


@click.command(short_help="Shut a guest down and start it anew.")
@lab_option
@domain_argument
def reboot(lab_name: str | None, domain: str) -> None:
    """Reboot guest DOM: it comes back with a new domain id, its vifs (those attached later, too), addresses, routes and
    sysctls. What ran in it is gone.

    Example:  sudo xnet reboot b
    """
    order(lab_name, "reboot", domain=domain)


@click.command(short_help="End a guest at once.")
@lab_option
@domain_argument
def destroy(lab_name: str | None, domain: str) -> None:
    """End guest DOM at once, as if its plug were pulled: nothing in it is asked.

    Example:  sudo xnet destroy b
    """
    order(lab_name, "destroy", domain=domain)


@click.command(short_help="Let a guest suspend itself.")
@lab_option
@domain_argument
def suspend(lab_name: str | None, domain: str) -> None:
    """Let guest DOM suspend itself, as xl suspend does: it keeps its memory and its place, and does nothing until it is
    resumed.

    Example:  sudo xnet suspend b
    """
    order(lab_name, "suspend", domain=domain)


@click.command(short_help="Let a suspended guest go on.")
@lab_option
@domain_argument
def resume(lab_name: str | None, domain: str) -> None:
    """Let suspended guest DOM go on, as xl resume does. Its drivers connect anew; its connections live on.

    Example:  sudo xnet resume b
    """
    order(lab_name, "resume", domain=domain)
