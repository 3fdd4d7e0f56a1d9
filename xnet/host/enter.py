"""A user's command inside a guest, with the user's own terminal: what ``xnet exec`` does once it holds the
descriptors.

::

    xnet exec (the caller)      setns: mnt net uts
        |  waits, passes SIGTERM and SIGHUP on
        `--fork--> minder       setns: pid, for its child
                      |  likewise
                      `--fork--> CMD (a process of the guest's pid namespace)

One process group, so the terminal's Ctrl-C, Ctrl-\\ and Ctrl-Z reach the command as if it had been started by the
shell; while it runs, caller and minder ignore the first two. The command gets SIGHUP when the caller dies, and
SIGKILL with the guest. Should the caller be killed, the minder is still there to reap the command: as an orphan it
would fall to the machine's first process, and until that one cares for it the guest's own could not end.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import HostError
from .libc import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, set_parent_death_signal, setns
from .netns import NamespaceFds

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""A shell's exit statuses for a command that is not there, or cannot be run."""

STDERR = 2
IGNORED_WHILE_WAITING = (signal.SIGINT, signal.SIGQUIT)
FORWARDED = (signal.SIGTERM, signal.SIGHUP)
AWAITED = (*FORWARDED, signal.SIGCHLD)
"""Blocked and waited for, so that none can slip in between a look and a sleep."""
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""A command would inherit it, and ``yes | head`` would never end."""


@dataclass(slots=True, frozen=True)
class Command:
    """What is to run, and the signals as the caller found them."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    handlers: Mapping[signal.Signals, Any]
    mask: set[int]


def enter(fds: NamespaceFds) -> None:
    """Move this process into the guest; the pid namespace holds for its children only. No other thread may run.

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
    outside = os.open("/proc/self/ns/pid", os.O_RDONLY)
    enter(fds)
    setns(outside, CLONE_NEWPID)  # the minder is none of the guest's
    os.close(outside)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_WHILE_WAITING}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        caller = os.pidfd_open(os.getpid())
        minder = os.fork()
        if minder == 0:
            _mind(caller, fds.pid, Command(argv, env, cwd, before, mask))
        os.close(caller)
        return _tend(minder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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


def _mind(caller: int, pid_namespace: int, command: Command) -> NoReturn:
    """In the minder: start the command and end as it did. Never returns."""
    minder = os.pidfd_open(os.getpid())
    _follow(caller)
    try:
        setns(pid_namespace, CLONE_NEWPID)
        child = os.fork()
    except OSError as error:  # ENOMEM is what fork says in a pid namespace whose first process is dead
        dead = error.errno == errno.ENOMEM
        _complain(f"xnet: nothing can be run there: {'its first process is dead' if dead else error.strerror}")
        os._exit(1)
    if child == 0:
        _become(minder, command)
    os._exit(_tend(child))


def _tend(child: int) -> int:
    """Pass signals on to a child until it ends: its exit status as a shell would tell it."""
    while True:
        number = signal.sigwait(AWAITED)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:  # and not only stopped
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _follow(parent: int) -> None:
    """Get SIGHUP when the parent behind this pidfd dies; end if it did before that was arranged."""
    set_parent_death_signal(signal.SIGHUP)
    if select.select([parent], [], [], 0)[0]:
        os._exit(128 + signal.SIGHUP)


def _become(minder: int, command: Command) -> NoReturn:
    """In the child: follow the minder in death, go to its directory, become the command. Never returns."""
    argv = command.argv
    try:
        for number, handler in command.handlers.items():
            signal.signal(number, handler if handler is signal.SIG_IGN else signal.SIG_DFL)
        for number in IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        _follow(minder)
        signal.pthread_sigmask(signal.SIG_SETMASK, command.mask)
        try:
            os.chdir(command.cwd)
        except OSError:
            os.chdir("/")
        os.execvpe(argv[0], list(argv), command.env)
    except FileNotFoundError:
        _complain(f"xnet: {argv[0]}: command not found")
        os._exit(NOT_FOUND)
    except OSError as error:
        _complain(f"xnet: {argv[0]}: {error.strerror}")
        os._exit(NOT_EXECUTABLE)
    except BaseException as error:
        _complain(f"xnet: {argv[0]}: {error}")
        os._exit(NOT_EXECUTABLE)


def _complain(line: str) -> None:
    os.write(STDERR, f"{line}\n".encode())
