"""``python -m xnet``, and the command ``xnet``."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run ``xnet``; never returns.

    Until a verb has something to undo, and says so by handlers of its own, Ctrl-C just ends the process: an exception
    in the midst of an import would be a traceback, or lost.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from xnet.control.cli import main as verbs

    verbs(prog_name="xnet")


if __name__ == "__main__":
    main()
