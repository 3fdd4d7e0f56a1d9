"""The engine's end of the watcher: links in the machine's own namespace that must not outlive the engine."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from ..errors import HostError

SCRIPT = Path(__file__).with_name("watcher_process.py")
INDICES = range(1 << 20, 1 << 30)


class Watcher:
    """Removes the guarded links when the engine dies, however it dies, also by ``kill -9``.

    Needed only for what the kernel keeps: bridges under ``[dom0] netns = "host"``. `reserve` an index, then make the
    link with it: there is no moment at which it exists unguarded.
    """

    def __init__(self) -> None:
        """Start the process and wait until it watches. Raises HostError."""
        command = [sys.executable, "-I", "-S", str(SCRIPT), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"no watcher process: {error.strerror}", errno=error.errno or 0, call="fork") from error
        assert self._process.stdout is not None, "a pipe was asked for"
        with self._process.stdout as stdout:
            if not stdout.read(1):
                self._process.wait()
                raise HostError("the watcher process ended at once", call="watcher")

    def reserve(self, name: str) -> int:
        """An interface index nobody has, for a link about to be made as `name`: it goes when the engine dies.

        Unless it has another name by then. Indices the kernel gives by itself are small and count up; these are not.
        """
        index = secrets.choice(INDICES)
        self._order("+", index, name)
        return index

    def release(self, index: int, name: str) -> None:
        """It is removed, or to stay."""
        self._order("-", index, name)

    def close(self) -> None:
        """End the watching; what is still guarded is removed before this returns. Twice is allowed."""
        assert self._process.stdin is not None, "a pipe was asked for"
        self._process.stdin.close()
        self._process.wait()

    def _order(self, sign: str, index: int, name: str) -> None:
        assert self._process.stdin is not None, "a pipe was asked for"
        try:
            self._process.stdin.write(f"{sign} {index} {name}\n".encode())
        except OSError as error:
            raise HostError("the watcher process is gone", errno=error.errno or 0, call="watcher") from error
