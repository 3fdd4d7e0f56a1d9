"""A setup: two guests joined by something, in which Linux's own tools can be run and whose pump can be timed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from xnet.errors import HostError

GUESTS = ("a", "b")
ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
PREFIX_LEN = 24
Tool = subprocess.Popen[str]


class Setup(Protocol):
    """Two guests, ``a`` and ``b``, that reach each other's `address` when the setup is handed out."""

    @property
    def name(self) -> str:
        """``kernel``, ``relay`` or ``lab``: the column of the report."""

    @property
    def pid(self) -> int | None:
        """The process that moves the frames, whose CPU time is counted; None if the kernel does it alone."""

    def exec(self, guest: str, argv: Sequence[str]) -> Tool:
        """Start `argv` in `guest`, its output piped, text, errors among it. It must die with this process."""

    def address(self, guest: str) -> str:
        """The guest's IPv4 address."""


@contextmanager
def running(setup: Setup, guest: str, argv: Sequence[str]) -> Iterator[Tool]:
    """A tool in `guest`, ended and reaped at the latest when the block is left."""
    tool = setup.exec(guest, argv)
    try:
        yield tool
    finally:
        end(tool)


def end(tool: subprocess.Popen[str], grace_s: float = 2.0) -> None:
    """Ask the process to end, make it end, reap it and close its pipes. One that has ended already is only reaped."""
    if tool.poll() is None:
        tool.terminate()
        try:
            tool.wait(grace_s)
        except subprocess.TimeoutExpired:
            tool.kill()
            tool.wait()
    for pipe in (tool.stdin, tool.stdout, tool.stderr):
        if pipe is not None:
            pipe.close()


def output(tool: Tool, timeout_s: float) -> str:
    """All that the tool says until it ends; `HostError` if that takes longer than `timeout_s`."""
    try:
        return tool.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        raise HostError(f"{_command(tool)}: not done after {timeout_s:g} s", call=_command(tool)) from None


def wait_connected(setup: Setup, timeout_s: float = 10.0) -> None:
    """Return when a ping from ``a`` to ``b`` was answered; `HostError` with ping's last words after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with running(setup, "a", ["ping", "-n", "-c", "1", "-W", "1", setup.address("b")]) as ping:
            words = output(ping, timeout_s)
        if ping.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise HostError(f"bench: {setup.name}: the guests do not reach each other: {words.strip()}")
        time.sleep(0.05)


def _command(tool: Tool) -> str:
    return " ".join(map(str, tool.args)) if isinstance(tool.args, list) else str(tool.args)
