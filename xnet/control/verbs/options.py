"""Options that verbs share."""

from __future__ import annotations

from typing import Any

import click

from xnet.control.client import Client
from xnet.control.state import pick, run_root

lab_option = click.option("--lab", "lab_name", metavar="NAME", help="Which lab, when more than one is up.")
json_option = click.option("--json", "want_json", is_flag=True, help="The same as JSON.")
lab_file = click.argument("lab_path", metavar="LAB.toml", type=click.Path())
keep_option = click.option("--keep", is_flag=True, help="Keep the lab up even if vifs cannot connect, and tell why.")
domain_argument = click.argument("domain", metavar="DOM")
vif_argument = click.argument("vif", metavar="VIF")

ORDER_S = 45.0
"""How long an engine may take over an order; each step of one has its own bound."""


def order(lab_name: str | None, verb: str, **arguments: object) -> Any:
    """Have the engine of a lab do something: its answer."""
    with Client(run_root() / pick(lab_name).name, ORDER_S) as client:
        return client.call(verb, **arguments)
