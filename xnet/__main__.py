"""``python -m xnet``."""

from __future__ import annotations

from xnet.control.cli import main

main(prog_name="xnet")
