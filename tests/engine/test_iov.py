"""Frames in and out of a descriptor: how many, and the errno."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import PAGE_SIZE
from xnet.compiled import is_compiled
from xnet.engine.iov import receive, send
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, MOST_PAGES, Chain, Frames, own
from xnet.frame.ether import header_shape
from xnet.frame.gro import joined
from xnet.testing.frames import plain, tcp, udp

pytestmark = pytest.mark.integration

PLAIN, OTHER = bytes(10), b"\1" + bytes(9)
FRAME = MOST_PAGES * PAGE_SIZE
TSO = CSUM_BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
    yield pair
    for end in pair:
        end.close()


def got(
    end: socket.socket, size: int, most: int = 64, last: bytes = PLAIN, at: int = PAGE_SIZE
) -> tuple[list[bytes], int, bytes]:
    """Read frames into fresh memory: the frames, why there are no more, and the last header."""
    memory, header = memoryview(bytearray(at + size)), bytearray(10)
    lengths, result = receive(end.fileno(), memory, at, size, most, header, last)
    assert not any(memory[:at]), "nothing is written before the place"
    found = []
    for length in lengths:
        found.append(bytes(memory[at : at + length]))
        at += -(-length // PAGE_SIZE) * PAGE_SIZE
    return found, result, bytes(header)


def test_frames_lie_page_by_page_until_there_are_no_more(ends: tuple[socket.socket, socket.socket]) -> None:
    frames = [plain(60), plain(4096), plain(4097), plain(61)]
    for frame in frames:
        ends[0].send(PLAIN + frame)
    assert got(ends[1], 4 * FRAME) == (frames, -errno.EAGAIN, PLAIN)
    assert got(ends[1], 4 * FRAME) == ([], -errno.EAGAIN, PLAIN)


def test_as_many_are_read_as_are_asked_for_and_as_surely_fit(ends: tuple[socket.socket, socket.socket]) -> None:
    frames = [plain(60 + i) for i in range(6)]
    for frame in frames:
        ends[0].send(PLAIN + frame)
    assert got(ends[1], FRAME - 1) == ([], 1, PLAIN)
    assert got(ends[1], FRAME) == (frames[:1], 1, PLAIN)
    assert got(ends[1], FRAME + PAGE_SIZE) == (frames[1:3], 1, PLAIN)
    assert got(ends[1], 4 * FRAME, most=2) == (frames[3:5], 1, PLAIN)
    assert got(ends[1], 4 * FRAME, most=0) == ([], 1, PLAIN)


def test_another_header_ends_it(ends: tuple[socket.socket, socket.socket]) -> None:
    for header in (PLAIN, OTHER, OTHER, PLAIN):
        ends[0].send(header + plain(60))
    assert got(ends[1], 4 * FRAME) == ([plain(60)] * 2, 1, OTHER)
    assert got(ends[1], 4 * FRAME, last=OTHER) == ([plain(60)] * 2, 1, PLAIN)


def test_what_goes_wrong_in_reading_comes_behind_what_was_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].send(PLAIN + plain(60))
    ends[0].send(OTHER)
    ends[0].send(PLAIN + plain(61))
    assert got(ends[1], 4 * FRAME)[:2] == ([plain(60)], 0), "less than a header and a byte"
    assert got(ends[1], 4 * FRAME) == ([plain(61)], -errno.EAGAIN, PLAIN)
    memory = memoryview(bytearray(FRAME))
    assert receive(-1, memory, 0, FRAME, 9, bytearray(10), PLAIN) == ([], -errno.EBADF)


def read_all(end: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(end.recv(1 << 17))
        except BlockingIOError:
            return found


def laid(*frames: tuple[int, bytes]) -> tuple[memoryview, Frames]:
    """(word, bytes) in memory, each in two pieces with something in between."""
    memory = bytearray()
    found = Frames()
    for word, data in frames:
        cut = len(data) // 2
        pieces = []
        for part in (data[:cut], data[cut:]):
            memory += b"between"
            pieces.append((len(memory), len(part), 1, 2))
            memory += part
        found.append((word, len(data), tuple(pieces)))
    return memoryview(memory), found


def test_frames_of_one_kind_are_written_behind_one_header(ends: tuple[socket.socket, socket.socket]) -> None:
    here = ends[0].fileno()
    data = [tcp(bytes(3000), blank=True), tcp(bytes(4000), blank=True), udp(b"x")]
    memory, frames = laid((TSO, data[0]), (TSO, data[1]), (0, data[2]))
    shape = header_shape(TSO, memoryview(data[0]), len(data[0]))
    assert send(here, memory, frames, 0, OTHER, TSO, shape, False) == (2, 0, 0)
    assert send(here, memory, frames, 2, OTHER, TSO, shape, False) == (2, 0, 0), "of another word"
    assert send(here, memory, frames, 0, OTHER, TSO, 0x6000, False) == (0, 0, 0), "of another shape"
    assert send(here, memory, frames, 2, PLAIN, 0, 0, False) == (3, 0, 0)
    assert send(here, memory, frames, 1, PLAIN, 9, -1, False) == (2, 0, 0), "that one, whatever it is"
    assert send(here, memory, frames, 3, PLAIN, 0, 0, False) == (3, 0, 0), "there are no more"
    assert read_all(ends[1]) == [OTHER + data[0], OTHER + data[1], PLAIN + data[2], PLAIN + data[1]]


words = st.sampled_from(
    [0, CSUM_BLANK, DATA_VALIDATED, *[CSUM_BLANK | k | 1448 << GSO_SIZE_SHIFT for k in (GSO_TCPV4, GSO_TCPV6)], 0x300]
)
shapes = st.sampled_from(
    [plain(60), tcp(b"", blank=True), tcp(bytes(300), blank=True), tcp(bytes(300), v6=True), udp(b"x"), b"short"]
)


@given(words, shapes, st.lists(st.tuples(st.integers(0, 53), st.integers(0, 255)), max_size=2), st.data())
def test_a_frame_has_the_shape_that_a_thorough_look_finds(
    word: int, data: bytes, spoiled: list[tuple[int, int]], draw: st.DataObject
) -> None:
    """However it is cut."""
    frame = bytearray(data[: draw.draw(st.integers(1, len(data)))])
    for at, value in spoiled:
        if at < len(frame):
            frame[at] = value
    cut = draw.draw(st.integers(0, len(frame)))
    pieces = tuple((at, size, 1, 2) for at, size in ((0, cut), (cut, len(frame) - cut)) if size)
    shape = header_shape(word, memoryview(frame), len(frame))
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        for said in {shape, 0, 6, 0x5000, 0x8080} - {-1}:
            sent = send(
                near.fileno(), memoryview(frame), Frames([(word, len(frame), pieces)]), 0, PLAIN, word, said, True
            )
            assert sent == (int(said == shape), 0, 0)


def test_what_goes_wrong_in_writing_has_its_errno(ends: tuple[socket.socket, socket.socket]) -> None:
    memory, frames = memoryview(bytes(4096)), Frames([own(0, 0, 4096)] * 100000)
    at, error, _ = send(ends[0].fileno(), memory, frames, 0, PLAIN, 0, 0, False)
    assert (0 < at < 100000, error) == (True, errno.EAGAIN)
    assert send(-1, memory, frames, 7, PLAIN, 0, 0, False) == (7, errno.EBADF, 0)
    full = os.open("/dev/full", os.O_WRONLY)
    assert send(full, memory, frames, 7, PLAIN, 0, 0, False) == (7, errno.ENOSPC, 0)
    os.close(full)
    many = Frames([(0, 5000, ((0, 1, 1, 2),) * 5000)])
    assert send(ends[0].fileno(), memory, many, 0, PLAIN, 0, 0, False) == (0, errno.EINVAL, 0)


def test_rubbish_is_refused_and_nothing_is_held(ends: tuple[socket.socket, socket.socket]) -> None:
    buffer, here = bytearray(FRAME), ends[0].fileno()
    with pytest.raises((BufferError, TypeError)):
        receive(here, memoryview(bytes(FRAME)), 0, FRAME, 1, bytearray(10), PLAIN)
    nowhere = Frames([own(0, FRAME - 9, 10)])
    if is_compiled():
        with pytest.raises(ValueError, match="not in memory"):
            send(here, memoryview(buffer), nowhere, 0, PLAIN, 0, 0, True)
    buffer.clear()


def segments(sizes: list[int], starts: list[int], mss: int, cuts: list[int]) -> tuple[memoryview, Frames]:
    """TCP in plain IPv4, its sequence numbers where they are said to be, in pieces of one byte up to a cut."""
    memory, frames = bytearray(), Frames()
    for size, seq, cut in zip(sizes, starts, cuts, strict=True):
        data = tcp(bytes((seq + i) % 251 for i in range(size)), seq=seq, blank=True)
        word = CSUM_BLANK | (GSO_TCPV4 | mss << GSO_SIZE_SHIFT if size > mss else 0)
        at, pieces = len(memory), [(len(memory), len(data) - cut, 1, 2)]
        pieces += [(at + i, 1, 1, 2) for i in range(len(data) - cut, len(data))]
        frames.append((word, len(data), tuple(pieces)))
        memory += data
    return memoryview(memory), frames


@given(
    st.lists(st.sampled_from([1, 80, 81, 160, 240, 30000]), min_size=1, max_size=8),
    st.data(),
)
def test_segments_are_joined_as_gro_says(sizes: list[int], draw: st.DataObject) -> None:
    """Mostly in order, now and then not, in many pieces or few; what is not joined is sent alone."""
    starts, seq = [], 1000
    for size in sizes:
        seq += draw.draw(st.sampled_from([0, 0, 0, 0, 1]))
        starts.append(seq)
        seq += size
    cuts = [draw.draw(st.sampled_from([0, 1, 100 if size > 100 else 0])) for size in sizes]
    memory, frames = segments(sizes, starts, 80, cuts)
    chain, wanted, done = Chain(memory, frames), [], 0
    while done < len(frames):
        found = joined(chain, done)
        wanted.append(PLAIN + b"".join((found.headers, *found.data)) if found else PLAIN + chain.tobytes(frames[done]))
        done += 1 + (found.others if found else 0)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.setblocking(False)
        at = joins = 0
        while at < len(frames):
            word, data = frames[at][0], chain.tobytes(frames[at])
            shape = header_shape(word, memoryview(data), len(data))
            after, error, more = send(near.fileno(), memory, frames, at, PLAIN, word, shape, True)
            assert (error, after > at) == (0, True)
            at, joins = after, joins + more
        assert read_all(far) == wanted
    assert joins == len(frames) - len(wanted)


def test_a_frame_behind_that_is_not_in_memory_is_still_told(ends: tuple[socket.socket, socket.socket]) -> None:
    memory, frames = segments([8], [1000], 8, [0])
    frames.append((CSUM_BLANK, 62, ((len(memory) - 5, 62, 1, 2),)))
    if is_compiled():
        with pytest.raises(ValueError, match="not in memory"):
            send(ends[0].fileno(), memory, frames, 0, PLAIN, CSUM_BLANK, 6, True)
