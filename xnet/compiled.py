"""Whether this xnet runs compiled: the build (setup.py) leaves the hot modules plain Python where there is no compiler.

A byte costs several times the CPU then, so whoever reports a figure or a version says which it was.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES


def is_compiled() -> bool:
    """Whether the hot modules are extension modules; all of them are, or none."""
    from xnet.netif import gather

    return gather.__file__.endswith(tuple(EXTENSION_SUFFIXES))
