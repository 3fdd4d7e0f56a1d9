"""Namespaces by file descriptor: what the engine holds of a guest, and how to do something inside one.

A namespace here has no name and no mount: it lives as long as somebody holds a descriptor of it or runs in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ..errors import HostError
from .libc import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, setns, unshare

T = TypeVar("T")

PINNED = "/run/netns"
"""Where ``ip netns`` keeps its namespaces."""
OWN_NET = "/proc/thread-self/ns/net"

KINDS = (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS), ("pid", CLONE_NEWPID), ("uts", CLONE_NEWUTS))
"""Field of `NamespaceFds` and kind of namespace, in the order in which descriptors are sent."""


@dataclass(slots=True, frozen=True)
class NamespaceFds:
    """Descriptors of one guest's four namespaces; whoever holds this object owns them and calls `close` once."""

    net: int
    mnt: int
    pid: int
    uts: int

    def fds(self) -> tuple[int, int, int, int]:
        """All four, in the order of `KINDS`, for SCM_RIGHTS."""
        return self.net, self.mnt, self.pid, self.uts

    def close(self) -> None:
        """Give the descriptors up. The namespaces go once nothing runs in them either."""
        for fd in self.fds():
            os.close(fd)


def own_namespaces() -> NamespaceFds:
    """The caller's own namespaces, for a dom0 that is the machine itself (``[dom0] netns = "host"``)."""
    fds: list[int] = []
    try:
        for name, _ in KINDS:
            fds.append(os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise HostError(f"own namespaces: {error.strerror}", errno=error.errno or 0, call="open") from error
    return NamespaceFds(*fds)


def new_netns() -> int:
    """A network namespace of nobody: all that is in it goes when the descriptor does. HostError."""

    def inside() -> int:
        unshare(CLONE_NEWNET)
        return os.open(OWN_NET, os.O_RDONLY | os.O_CLOEXEC)

    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(inside).result()
        except OSError as error:
            reason = f"{error.strerror}; run as root" if isinstance(error, PermissionError) else error.strerror
            raise HostError(f"new network namespace: {reason}", errno=error.errno or 0, call="unshare") from error


def pinned_netns(name: str) -> int:
    """A descriptor of the namespace ``ip netns`` knows by this name, or of the one at this path. HostError."""
    path = name if "/" in name else f"{PINNED}/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        pinned = path != name and isinstance(error, FileNotFoundError)
        reason = f"no such network namespace; make it (ip netns add {name})" if pinned else error.strerror
        raise HostError(f"{name}: {reason}", errno=error.errno or 0, call="open", device=name) from error
    try:
        open_in_netns(fd, lambda: None)
    except HostError as error:
        os.close(fd)
        raise HostError(f"{path}: not a network namespace", errno=error.errno, call="setns", device=name) from error
    return fd


def open_in_netns(netns_fd: int | None, func: Callable[[], T]) -> T:
    """Call `func` inside the network namespace and return what it returns; None means where the caller is.

    What it opens there (a TAP, a socket, a file below /proc/sys/net) belongs to that namespace for ever. setns(2)
    moves one thread, so it is done in a thread that ends with the call: 0.1 ms. Exceptions of
    `func` come through unchanged; HostError when the namespace cannot be entered.
    """
    if netns_fd is None:
        return func()
    results: list[T] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            _go_inside(netns_fd)
            results.append(func())
        except BaseException as error:  # carried to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=inside, name="xnet-netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _go_inside(netns_fd: int) -> None:
    try:
        setns(netns_fd, CLONE_NEWNET)
    except OSError as error:
        reason = f"{error.strerror}; run as root" if isinstance(error, PermissionError) else error.strerror
        text = f"cannot enter the network namespace: {reason}"
        raise HostError(text, errno=error.errno or 0, call="setns") from error
