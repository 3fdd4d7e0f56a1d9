"""Options that verbs share."""

from __future__ import annotations

import click

lab_option = click.option("--lab", "lab_name", metavar="NAME", help="Which lab, when more than one is up.")
json_option = click.option("--json", "want_json", is_flag=True, help="The same as JSON.")
lab_file = click.argument("lab_path", metavar="LAB.toml", type=click.Path())
