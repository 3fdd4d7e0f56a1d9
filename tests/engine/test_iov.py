"""readv and writev: bytes, or the negative errno."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from xnet.engine.iov import readv, writev

pytestmark = pytest.mark.integration


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
    yield pair[0].fileno(), pair[1].fileno()
    for end in pair:
        end.close()


def test_a_frame_crosses_with_its_header_in_front(ends: tuple[int, int]) -> None:
    here, there = ends
    header, data = bytearray(4), bytearray(16)
    assert writev(here, [b"head", b"", memoryview(b"xpayloadx")[1:-1]]) == 11
    assert writev(here, (b"heap",)) == 4
    assert readv(there, header, memoryview(data)) == 11
    assert (header, data) == (b"head", b"payload".ljust(16, b"\0"))
    assert readv(there, header, memoryview(data)) == 4
    assert header == b"heap"
    assert readv(there, header, memoryview(data)) == -errno.EAGAIN


def test_what_goes_wrong_is_the_negative_errno(ends: tuple[int, int]) -> None:
    here, _ = ends
    for _ in range(100000):
        result = writev(here, [bytes(4096)])
        if result < 0:
            break
    assert result == -errno.EAGAIN
    assert writev(-1, [b"x"]) == -errno.EBADF
    assert readv(-1, bytearray(1), memoryview(bytearray(1))) == -errno.EBADF
    full = os.open("/dev/full", os.O_WRONLY)
    assert writev(full, [b"x"]) == -errno.ENOSPC
    os.close(full)
    assert writev(here, [b"x"] * 5000) == -errno.EINVAL


def test_what_is_no_memory_is_refused_and_nothing_is_held(ends: tuple[int, int]) -> None:
    buffer = bytearray(4)
    with pytest.raises(TypeError):
        writev(ends[0], [memoryview(buffer), "text"])  # type: ignore[list-item]
    with pytest.raises((BufferError, TypeError)):
        readv(ends[0], buffer, memoryview(b"read-only"))
    buffer.clear()
