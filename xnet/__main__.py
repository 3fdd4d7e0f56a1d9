"""``python -m xnet``, and the command ``xnet``."""

from __future__ import annotations

import os
import signal
import sys

TOOLS = ("dladm", "flowadm", "dlstat", "flowstat")
"""Verbs that are commands of their own when a symbolic link to ``xnet`` has their name."""


def main() -> None:
    """Run ``xnet``; never returns.

    Until a verb has something to undo, and says so by handlers of its own, Ctrl-C just ends the process: an exception
    in the midst of an import would be a traceback, or lost.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from xnet.control.cli import main as verbs

    name = os.path.basename(sys.argv[0])
    verbs([name, *sys.argv[1:]] if name in TOOLS else None, prog_name="xnet")


if __name__ == "__main__":
    main()
