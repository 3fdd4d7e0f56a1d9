"""``xnet network-attach``, ``network-detach``, ``link`` and ``restart-backend``: a running guest's vifs."""

from __future__ import annotations

import click

from xnet.control.verbs.options import domain_argument, lab_option, order, vif_argument


@click.command("network-attach", short_help="Plug a vif into a running guest.")
@lab_option
@domain_argument
@click.argument("words", metavar="KEY=VALUE...", nargs=-1)
def network_attach(lab_name: str | None, domain: str, words: tuple[str, ...]) -> None:
    """Plug a vif into running guest DOM. The keys are those of a vif in the lab file, written as in xl.cfg: bridge or
    link, mac, ip, mtu, rate and so on; without bridge or link it is plugged into xenbr0.

    Example:  sudo xnet network-attach a bridge=xenbr0 ip=10.0.0.9/24
    """
    made = order(lab_name, "network-attach", domain=domain, words=list(words))
    click.echo(f"{made['domain']}: {made['device']} (vif {made['handle']}), {made['mac']}")


@click.command("network-detach", short_help="Unplug a vif from a running guest.")
@lab_option
@domain_argument
@vif_argument
def network_detach(lab_name: str | None, domain: str, vif: str) -> None:
    """Unplug a vif from running guest DOM. VIF is its number, its device in the guest, or its MAC address.

    Example:  sudo xnet network-detach a eth1
    """
    order(lab_name, "network-detach", domain=domain, vif=vif)


@click.command(short_help="Put a vif's cable in, or pull it out.")
@lab_option
@domain_argument
@vif_argument
@click.argument("state", metavar="up|down", type=click.Choice(["up", "down"]))
def link(lab_name: str | None, domain: str, vif: str, state: str) -> None:
    """Put the cable of guest DOM's VIF in (up), or pull it out (down): neither end has a carrier then, and nothing
    passes. VIF is its number, its device in the guest, or its MAC address.

    Example:  sudo xnet link a eth0 down
    """
    order(lab_name, "link", domain=domain, vif=vif, up=state == "up")


@click.command("restart-backend", short_help="Let a vif's backend driver die and start anew.")
@lab_option
@domain_argument
@vif_argument
def restart_backend(lab_name: str | None, domain: str, vif: str) -> None:
    """Let the backend driver of guest DOM's VIF die without a word, and start another, which goes on with the same
    rings where the old one stopped. Connections live on. VIF is its number, its device in the guest, or its MAC.

    Example:  sudo xnet restart-backend a eth0
    """
    order(lab_name, "restart-backend", domain=domain, vif=vif)
