"""The multicast groups that a namespace's interfaces are in, as its kernel lists them.

The kernel tells nobody when an interface joins or leaves one (for Ethernet addresses there is no netlink message), so
who needs to know looks again and again: 10 us a look.
"""

from __future__ import annotations

import errno
import os

from ..errors import HostError
from .netns import open_in_netns

PATH = "/proc/thread-self/net/dev_mcast"
CHUNK = 1 << 14


class GroupList:
    """``/proc/net/dev_mcast`` of one namespace, kept open: ``index name users global address`` a line."""

    def __init__(self, netns_fd: int | None = None) -> None:
        """HostError when there is none."""
        try:
            self._fd = open_in_netns(netns_fd, lambda: os.open(PATH, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise HostError(f"{PATH}: {error.strerror}", errno=error.errno or 0, call="open") from error

    def of(self, device: str) -> frozenset[bytes]:
        """Ethernet addresses of the groups that `device` is in. HostError."""
        text = b""
        try:
            while chunk := os.pread(self._fd, CHUNK, len(text)):
                text += chunk
        except OSError as error:
            raise HostError(f"{PATH}: {error.strerror}", errno=error.errno or errno.EIO, call="read") from error
        rows = [line.split() for line in text.decode().splitlines()]
        return frozenset(bytes.fromhex(row[4]) for row in rows if len(row) == 5 and row[1] == device)

    def close(self) -> None:
        """Give the descriptor up. Twice is allowed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
