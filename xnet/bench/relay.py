"""The yardstick where there is no gcc: `relay.c` in Python, as fast as plain Python goes.

``python relay.py FD FD [FD FD ...]``: each pair of inherited, non-blocking TAP fds is joined both ways. One
thread, one buffer, no event loop; a frame keeps its vnet header. A readable fd is given 64 frames, then the next
one has its turn. Ends when standard input does, that is with its parent. Stands alone: imports nothing of xnet.
"""

from __future__ import annotations

import os
import select
import sys

FRAMES_A_WAKE = 64
FRAME_MAX = 17 * 4096
"""64 KiB of packet, its headers, rounded up to pages."""


def relay(pairs: list[tuple[int, int]], until: int) -> None:
    """Pump frames between the fds of each pair until the fd `until` is readable. Refused writes are lost frames."""
    peer_of = dict(pairs) | {right: left for left, right in pairs}
    poll = select.epoll()
    for fd in (*peer_of, until):
        poll.register(fd, select.EPOLLIN)
    frame = memoryview(bytearray(FRAME_MAX))
    buffers = [frame]
    readv, write, wait = os.readv, os.write, poll.poll
    while True:
        for fd, _ in wait():
            if fd == until:
                return
            peer = peer_of[fd]
            try:
                for _ in range(FRAMES_A_WAKE):
                    write(peer, frame[: readv(fd, buffers)])
            except OSError:  # EAGAIN: empty, the usual end; or a refused write, which costs this fd its turn
                pass


def main(arguments: list[str]) -> int:
    """Run the relay on the fds named in `arguments`; exit status 2 if they are no pairs."""
    fds = [int(argument) for argument in arguments]
    if not fds or len(fds) % 2:
        print("usage: relay.py FD FD [FD FD ...]", file=sys.stderr)
        return 2
    relay(list(zip(fds[::2], fds[1::2], strict=True)), sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
