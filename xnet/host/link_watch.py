"""LinkWatch: hears when an interface of a namespace comes or goes, or has its carrier or loses it (rtnetlink(7))."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from .netlink import NETLINK_ROUTE
from .netns import open_in_netns

RTMGRP_LINK = 1


def open_group() -> socket.socket:
    """A netlink socket of the calling thread's namespace that hears of links."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_ROUTE)
    sock.bind((0, RTMGRP_LINK))
    return sock


class LinkWatch:
    """Calls `changed` for each batch of news; what they are, who is called finds out himself."""

    def __init__(self, netns_fd: int | None, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """`netns_fd` None: the caller's namespace."""
        self.sock = open_in_netns(netns_fd, open_group)
        self.loop = loop
        self.changed = changed
        loop.add_reader(self.sock.fileno(), self.read)

    def read(self) -> None:
        """There are news; more than the socket holds are news, too."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                raise
        self.changed()

    def close(self) -> None:
        """Hear no more. Twice is allowed."""
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.sock.close()
