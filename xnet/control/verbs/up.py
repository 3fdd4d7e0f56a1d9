"""``xnet up``."""

from __future__ import annotations

import click

from xnet.control.verbs.options import keep_option, lab_file


@click.command(short_help="Start a lab in the background.")
@lab_file
@keep_option
def up(lab_path: str, keep: bool) -> None:
    """Start a lab in the background; returns when every vif is Connected, or says why not.

    Example:  sudo xnet up examples/pair.toml
    """
    from xnet.control.config import load_lab
    from xnet.control.daemon import start
    from xnet.control.show import Progress
    from xnet.control.state import need_root

    lab = load_lab(lab_path)
    need_root()
    with Progress() as progress:
        start(lab, progress.say, keep)
