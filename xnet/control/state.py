"""Where a running lab keeps its state: ``/run/xnet/NAME/`` (``XNET_RUN`` moves ``/run/xnet``).

    lab.json        who owns the lab; locked (flock) for as long as the owner lives
    control.sock    the verbs' door (`xnet.control.server`)
    xenstored.sock  the xenstore wire protocol
    log             what an engine in the background had to say

lab.json holds ``mark`` (always "xnet"), ``name``, ``pid``, ``start`` (clock ticks, /proc/PID/stat field 22), ``boot``
(/proc/sys/kernel/random/boot_id) and ``source`` (the lab file). The lock decides who owns the name; pid, start and boot
tell, without taking the lock, whether the owner lives, and make sure that a signal reaches no stranger.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from xnet.errors import XnetError

MARK = "xnet"
LOCK = "lab.json"
DATALINKS = "datalink.json"
"""What dladm and flowadm were told to keep: whoever takes the name of a killed lab finds it (engine.datalinks)."""
FILES = ("control.sock", "xenstored.sock", "log", "datalink.new", DATALINKS, LOCK)
"""All that may be in a state directory, in the order it is removed."""
SOCKET_PATH_MAX = 107
"""Bytes of a Unix socket's path (unix(7), sun_path less the NUL)."""


@dataclass(slots=True, frozen=True)
class Owner:
    """The process that runs a lab, as lab.json tells."""

    name: str
    pid: int
    start: int
    boot: str
    source: str
    mark: str = MARK

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return self.boot == boot_id() and self.start == start_time(self.pid)

    def kill(self, signum: int) -> None:
        """Send a signal to that process and to no other; nothing happens when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive():  # after pidfd_open: the pid can no longer change hands
                signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until the process has ended; False if it has not in time."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


class Claim:
    """A lab's name, taken by this process until `release`; `path` is its state directory."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def release(self) -> None:
        """Remove the state directory and let the name go. Twice is allowed."""
        if self.fd >= 0:
            sweep(self.path)
            os.close(self.fd)
            self.fd = -1


def run_root() -> Path:
    """Where state directories are."""
    return Path(os.environ.get("XNET_RUN") or "/run/xnet")


def boot_id() -> str:
    """This boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 where there is none, or only its corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    fields = stat.rpartition(")")[2].split()  # the command before may hold anything, spaces and brackets too
    return -1 if fields[0] in ("Z", "X") else int(fields[19])


def need_root() -> None:
    """XnetError for users who cannot make namespaces and TAPs."""
    if os.geteuid() != 0:
        raise XnetError("labs need root, for namespaces and TAPs: use sudo")


def claim(name: str, source: str) -> Claim:
    """Take a lab's name. XnetError when a living process has it; what a dead one left is swept away."""
    path = run_root() / name
    longest = path / "xenstored.sock"
    if len(os.fsencode(longest)) > SOCKET_PATH_MAX:
        raise XnetError(f"{longest}: too long for a socket: set XNET_RUN to a shorter path")
    try:
        fd = lock(path, create=True)
        if fd is None:
            raise XnetError(already_up(path))
        for file in FILES[:-2]:
            (path / file).unlink(missing_ok=True)
    except PermissionError as error:
        raise XnetError(f"{error.filename}: permission denied: labs need root, use sudo") from None
    except OSError as error:
        raise XnetError(f"{error.filename or path}: {(error.strerror or str(error)).lower()}") from None
    owner = Owner(name, os.getpid(), start_time(os.getpid()), boot_id(), source)
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(asdict(owner)).encode(), 0)
    return Claim(path, fd)


def already_up(path: Path) -> str:
    """The line for who comes second."""
    owner = read_owner(path)
    who = f" (process {owner.pid})" if owner else ""
    return f'lab "{path.name}" is already up{who}: take it down first with "xnet down --lab {path.name}"'


def lock(path: Path, *, create: bool = False) -> int | None:
    """A descriptor that holds the lock on a state directory; None while somebody else does. Not inherited by exec."""
    while True:
        if create:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.mkdir(mode=0o750, exist_ok=True)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            fd = os.open(path / LOCK, flags, 0o640)
        except FileNotFoundError:
            if create:
                continue  # swept away between mkdir and open
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path / LOCK).st_ino == os.fstat(fd).st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass
        os.close(fd)  # a file that was swept away under us: look again
        if not create:
            raise FileNotFoundError(path / LOCK)


def sweep(path: Path) -> list[str]:
    """Remove a state directory's files, and itself if nothing else is in it; the names of what was not ours.

    Only with the lock held: lab.json goes last.
    """
    for file in FILES:
        (path / file).unlink(missing_ok=True)
    try:
        path.rmdir()
    except FileNotFoundError:
        return []
    except OSError:
        return sorted(os.listdir(path))
    return []


def read_owner(path: Path) -> Owner | None:
    """What lab.json in a state directory says; None where it is absent, empty or not ours."""
    try:
        owner = Owner(**json.loads((path / LOCK).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    except PermissionError:
        raise XnetError(f"{path}: permission denied: labs are root's, use sudo") from None
    return owner if owner.mark == MARK else None


def state_dirs() -> Iterator[Path]:
    """All state directories, by name; of the living and of the dead."""
    root = run_root()
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    except OSError as error:
        raise XnetError(f"{root}: {(error.strerror or str(error)).lower()}") from None
    yield from (root / name for name in names if (root / name).is_dir())


def running() -> list[Owner]:
    """The owners of all labs that are up."""
    owners = (read_owner(path) for path in state_dirs())
    return [owner for owner in owners if owner is not None and owner.is_alive()]


def pick(name: str | None) -> Owner:
    """The owner of the lab named, or of the only one there is. XnetError names what there is to choose from."""
    owners = running()
    names = ", ".join(owner.name for owner in owners)
    if not owners:
        raise XnetError('no lab is up: start one with "xnet up LAB.toml"')
    if name is not None:
        for owner in owners:
            if owner.name == name:
                return owner
        raise XnetError(f'lab "{name}" is not up; up are: {names}')
    if len(owners) > 1:
        raise XnetError(f"more than one lab is up: say --lab with one of {names}")
    return owners[0]


def bury(path: Path) -> None:
    """Remove a dead engine's state directory; nothing happens while it lives."""
    try:
        fd = lock(path)
    except OSError:
        return
    if fd is not None:
        sweep(path)
        os.close(fd)
