"""A TAP's frames, each with its vnet header in front, by the burst: `readv` and `writev` in C (`_iov.c`).

`receive(fd, memory, addr, size, most, header, last)` reads up to `most` frames into `memory`, the first at `addr`, each
at the start of a page, as long as one of any length fits in what is left of `size` bytes. It ends behind a frame whose
header is not `last`. The lengths; and why there are no more: 1 nothing is wrong, 0 less than a header was read, else
the negative errno. `header` holds what was read last.

`send(fd, memory, frames, at, header, word, shape, gro)` writes frames from number `at` on behind the same header, as
long as they have this word and shape (`ether.header_shape`); with a shape of -1, that one frame. With `gro`, segments
of one TCP stream are joined (`frame.gro`), whatever word those behind the first have. The number of the first that was
not written, its errno, 0 if it wants another header or is not there, and how many went as part of the one before them.

A TAP never blocks, and that it has nothing more is the end of every burst, so neither lets other threads run nor raises
an exception for it. That is most of what Python's own ones cost; they are used where nothing was compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from xnet.abi.xen import PAGE_SIZE
from xnet.frame import FRAME_MAX

if TYPE_CHECKING:
    from xnet.engine._iov import receive, send
else:
    try:
        from xnet.engine._iov import receive, send
    except ImportError:
        from xnet.frame import Chain, head
        from xnet.frame.ether import header_shape
        from xnet.frame.gro import joined

        def receive(fd, memory, addr, size, most, header, last):
            def take(addr):
                return max(0, os.readv(fd, (header, memory[addr : addr + FRAME_MAX])) - len(header))

            return burst(take, addr, size, most, header, last)

        def send(fd, memory, frames, at, header, word, shape, gro):
            chain, joins = Chain(memory, frames), 0
            while at < len(frames):
                frame = frames[at]
                if shape >= 0 and (frame[0] != word or header_shape(word, head(chain, frame), frame[1]) != shape):
                    break
                more = joined(chain, at) if gro and shape >= 0 else None
                try:
                    os.writev(fd, [header, more.headers, *more.data] if more else [header, *chain.views(frame)])
                except OSError as error:
                    return at, error.errno or 0, joins
                at += 1 + (more.others if more else 0)
                joins += more.others if more else 0
                if shape < 0:
                    break
            return at, 0, joins


def burst(
    take: Callable[[int], int], addr: int, size: int, most: int, header: bytearray, last: bytes
) -> tuple[list[int], int]:
    """`receive` where nothing was compiled: `take` reads a frame to an address and says how long it is, 0 for less than
    a header, or raises OSError."""
    lengths: list[int] = []
    while size >= FRAME_MAX and len(lengths) < most:
        try:
            length = take(addr)
        except OSError as error:
            return lengths, -(error.errno or 0)
        if not length:
            return lengths, 0
        lengths.append(length)
        taken = (length + PAGE_SIZE - 1) & -PAGE_SIZE
        addr += taken
        size -= taken
        if header != last:
            break
    return lengths, 1


__all__ = ["burst", "receive", "send"]
