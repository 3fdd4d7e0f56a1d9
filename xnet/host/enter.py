"""A user's command inside a guest, with the user's own terminal: what ``xnet exec`` does once it holds the
descriptors.

::

    xnet exec (the caller's process group)     setns: pid mnt net uts
        |  waits, forwards SIGTERM and SIGHUP
        `--fork--> CMD (same process group, a process of the guest's pid namespace)

One process group, so the terminal's Ctrl-C, Ctrl-\\ and Ctrl-Z reach the command as if it had been started by the
shell; while it runs the caller ignores the first two. The command gets SIGHUP when the caller dies, and SIGKILL with
the guest.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ..errors import HostError
from .libc import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, set_parent_death_signal, setns
from .netns import NamespaceFds

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""A shell's exit statuses for a command that is not there, or cannot be run."""

STDERR = 2
IGNORED_WHILE_WAITING = (signal.SIGINT, signal.SIGQUIT)
FORWARDED = (signal.SIGTERM, signal.SIGHUP)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""A command would inherit it, and ``yes | head`` would never end."""


def enter(fds: NamespaceFds) -> None:
    """Move this process into the guest. The pid namespace holds for its children only. No other thread may run.

    Raises HostError; the process may then be half inside, and should end.
    """
    for fd, kind in (
        (fds.pid, CLONE_NEWPID),
        (fds.net, CLONE_NEWNET),
        (fds.uts, CLONE_NEWUTS),
        (fds.mnt, CLONE_NEWNS),
    ):
        try:
            setns(fd, kind)
        except OSError as error:
            reason = f"{error.strerror}; run as root" if isinstance(error, PermissionError) else error.strerror
            raise HostError(f"cannot enter the guest: {reason}", errno=error.errno or 0, call="setns") from error


def enter_and_exec(fds: NamespaceFds, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run `argv` inside the guest and return its exit status as a shell would: 128 + n after signal n.

    The command keeps the caller's terminal, open files 0 to 2, and current directory if the guest has it, else ``/``.
    127 and one line on stderr when there is no such command. The calling process ends up inside the guest as well: it
    is meant to exit with the result. Raises HostError when the guest cannot be entered.
    """
    cwd = _current_directory()
    enter(fds)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_WHILE_WAITING}
    try:
        caller = os.pidfd_open(os.getpid())
        child = os.fork()
        if child == 0:
            for number, handler in before.items():
                signal.signal(number, handler if handler is signal.SIG_IGN else signal.SIG_DFL)
            _become(caller, cwd, argv, env)
        os.close(caller)
        for number in FORWARDED:
            before[number] = signal.signal(number, lambda received, _: _forward(child, received))
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def end_guest_command(pid: int) -> None:
    """Kill a `guest_command` by nsenter's pid: the command first, so that nsenter reaps it and ends by itself.

    Killed together, the command's corpse would go to the machine's first process, and the guest's own could not end
    before that one has reaped it: a second here, for ever in a container whose first process does not reap.
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for victim in map(int, children or [str(pid)]):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def guest_command(fds: NamespaceFds, argv: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """`argv` inside the guest for a caller that stays outside: a command line and the ``pass_fds`` it needs.

    By nsenter(1), whose child the command is: end it with `end_guest_command`.
    """
    files = {"net": fds.net, "mount": fds.mnt, "pid": fds.pid, "uts": fds.uts}
    options = [f"--{kind}=/proc/self/fd/{fd}" for kind, fd in files.items()]
    return ["nsenter", *options, "--", *argv], fds.fds()


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed under us
        return "/"


def _forward(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass  # it ended; waitpid is about to say so


def _become(caller: int, cwd: str, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """In the child: follow the caller in death, go to its directory, become the command. Never returns."""
    try:
        for number in IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        set_parent_death_signal(signal.SIGHUP)
        if _is_dead(caller):
            os._exit(128 + signal.SIGHUP)
        try:
            os.chdir(cwd)
        except OSError:
            os.chdir("/")
        os.execvpe(argv[0], list(argv), env)
    except FileNotFoundError:
        _complain(f"xnet: {argv[0]}: command not found")
        os._exit(NOT_FOUND)
    except OSError as error:
        _complain(f"xnet: {argv[0]}: {error.strerror}")
        os._exit(NOT_EXECUTABLE)
    except BaseException as error:
        _complain(f"xnet: {argv[0]}: {error}")
        os._exit(NOT_EXECUTABLE)


def _is_dead(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def _complain(line: str) -> None:
    os.write(STDERR, f"{line}\n".encode())
