"""`readv` and `writev` of a TAP: a frame with its vnet header in front, in or out of several buffers.

A TAP never blocks, and that it has nothing more is the end of every burst, so neither lets other threads run nor raises
an exception: what went wrong is the negative errno. That is most of what Python's own ones cost; they are used where
`_iov.c` was not compiled.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.engine._iov import readv, writev
else:
    try:
        from xnet.engine._iov import readv, writev
    except ImportError:

        def readv(fd: int, header: bytearray, data: memoryview) -> int:
            try:
                return os.readv(fd, (header, data))
            except OSError as error:
                return -(error.errno or 0)

        def writev(fd: int, buffers: list[bytes | memoryview]) -> int:
            try:
                return os.writev(fd, buffers)
            except OSError as error:
                return -(error.errno or 0)


__all__ = ["readv", "writev"]
