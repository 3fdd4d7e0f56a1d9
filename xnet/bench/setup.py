"""A setup: guests joined by something, in which Linux's own tools can be run, and whose pump can be timed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from xnet.errors import HostError

GUESTS = ("a", "b")
PREFIX_LEN = 24
Tool = subprocess.Popen[str]


class Setup(Protocol):
    """Guests that reach each other's `address` when the setup is handed out: ``a`` and ``b``, or `guests_of` pairs."""

    @property
    def name(self) -> str:
        """``kernel``, ``relay`` or ``lab``: the column of the report."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that move the frames, whose CPU time is counted; none if the kernel does it alone."""

    def exec(self, guest: str, argv: Sequence[str], keep: Sequence[int] = ()) -> Tool:
        """Start `argv` in `guest`, its output piped, text, errors among it. It must die with this process, and inherit
        the descriptors `keep`."""

    def address(self, guest: str) -> str:
        """The guest's IPv4 address."""


def guests_of(pairs: int) -> tuple[str, ...]:
    """The guests of so many pairs, peers side by side: ``a b``, or ``a1 b1 a2 b2`` and so on."""
    return GUESTS if pairs == 1 else tuple(f"{guest}{pair}" for pair in range(1, pairs + 1) for guest in GUESTS)


def address_of(guest: str) -> str:
    """The IPv4 address of a guest: in every setup the same, one subnet for all."""
    return f"10.77.0.{2 * int(guest[1:] or 1) - 1 + GUESTS.index(guest[0])}"


@contextmanager
def running(setup: Setup, guest: str, argv: Sequence[str], keep: Sequence[int] = ()) -> Iterator[Tool]:
    """A tool in `guest`, ended and reaped at the latest when the block is left."""
    tool = setup.exec(guest, argv, keep)
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


def wait_connected(setup: Setup, timeout_s: float = 10.0, between: Sequence[str] = GUESTS) -> None:
    """Return when a ping between two guests was answered; `HostError` with ping's last words after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with running(setup, between[0], ["ping", "-n", "-c", "1", "-W", "1", setup.address(between[1])]) as ping:
            words = output(ping, timeout_s)
        if ping.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise HostError(f"bench: {setup.name}: the guests do not reach each other: {words.strip()}")
        time.sleep(0.05)


def _command(tool: Tool) -> str:
    return " ".join(map(str, tool.args)) if isinstance(tool.args, list) else str(tool.args)
