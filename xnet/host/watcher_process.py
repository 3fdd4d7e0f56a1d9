"""The watcher: outlives the engine by a moment and takes away links that would stay. A script, imports nothing of xnet.

Only for links that the kernel would keep: a bridge made in the machine's own namespace (``[dom0] netns = "host"``). In
a namespace of ours they go with it. Run as ``python -I -S watcher_process.py ENGINE_PID`` with a pipe as stdin::

    + 17 xenbr0        remove interface 17 at the end, if it still has this name
    - 17 xenbr0        no longer

The end is the engine's death, seen by pidfd, or the end of the pipe. An index is never given twice by a running kernel,
so nothing else can be hit. Nobody kills the watcher: it runs in a session of its own, until the end it waits for.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys

SIOCGIFNAME = 0x8910
RTM_DELLINK = 17
NLM_F_REQUEST_ACK = 0x1 | 0x4
STDIN = 0


def watch(pidfd: int) -> dict[int, str]:
    """Read orders until the end; what is left to remove then, by index."""
    wanted: dict[int, str] = {}
    buffer = b""
    while True:
        ready = select.select([STDIN, pidfd], [], [])[0]
        if STDIN not in ready:  # all it ever wrote has been read
            return wanted
        data = os.read(STDIN, 4096)
        if not data:
            return wanted
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            order, index, name = line.decode().split(" ", 2)
            if order == "+":
                wanted[int(index)] = name
            else:
                wanted.pop(int(index), None)


def remove(index: int, name: str) -> None:
    """RTM_DELLINK (rtnetlink(7)) of the interface, if it is still there under that name."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        try:
            answer = fcntl.ioctl(sock, SIOCGIFNAME, struct.pack("=16si20x", b"", index))
        except OSError:
            return  # gone already
        if answer[:16].rstrip(b"\0").decode() != name:
            return  # renamed by somebody: theirs now
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0)  # struct ifinfomsg
        sock.send(struct.pack("=IHHII", 16 + len(body), RTM_DELLINK, NLM_F_REQUEST_ACK, 1, 0) + body)
        sock.recv(4096)


def main(engine: int) -> None:
    """Watch process `engine`, then remove."""
    try:
        pidfd = os.pidfd_open(engine)
    except ProcessLookupError:
        return  # it made nothing yet: it waits for us first
    os.chdir("/")
    os.write(1, b"\n")
    for index, name in watch(pidfd).items():
        remove(index, name)


if __name__ == "__main__":
    main(int(sys.argv[1]))
