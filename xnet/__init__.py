"""xnet: the network side of a Xen/xVM host, emulated byte for byte, with real Linux traffic through it.

The same lab as the commands give, for a program or a test (as root)::

    from xnet import Machine, load_lab

    async def main() -> None:
        async with Machine(load_lab("examples/pair.toml")) as machine:
            await machine.wait_connected(timeout_s=10)
            print(machine.describe())

The names below are imported when they are first used: ``import xnet`` alone costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xnet.control.config import load_lab, parse_lab
    from xnet.engine.lab import Lab
    from xnet.engine.machine import Machine
    from xnet.errors import XnetError

__all__ = ["Lab", "Machine", "XnetError", "load_lab", "parse_lab"]

HOMES = {
    "Lab": "xnet.engine.lab",
    "Machine": "xnet.engine.machine",
    "XnetError": "xnet.errors",
    "load_lab": "xnet.control.config",
    "parse_lab": "xnet.control.config",
}
"""Public name -> the module it lives in."""


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
