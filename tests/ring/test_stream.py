"""The byte rings of the xenstore and console pages: layout, wrap, partial writes, lies."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.ring.shared import RingError
from xnet.ring.stream import CONSOLE, XENSTORE, ByteStream, StreamLayout

STARTS = [0, 0x7FFF_FFF0, 0xFFFF_FFF0]


class Offsets(NamedTuple):
    """A page's bytes as the header has them, independently of the code: where the domain's output and input live."""

    layout: StreamLayout
    out: int
    out_size: int
    out_cons: int
    out_prod: int
    into: int
    into_size: int
    into_cons: int
    into_prod: int


PAGES = {
    "xenstore": Offsets(XENSTORE, 0, 1024, 2048, 2052, 1024, 1024, 2056, 2060),
    "console": Offsets(CONSOLE, 1024, 2048, 3080, 3084, 0, 1024, 3072, 3076),
}


@pytest.fixture(params=PAGES.values(), ids=PAGES.keys())
def at(request: pytest.FixtureRequest) -> Offsets:
    offsets: Offsets = request.param
    return offsets


def word(page: memoryview, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 4], "little")


def set_word(page: memoryview, offset: int, value: int) -> None:
    page[offset : offset + 4] = value.to_bytes(4, "little")


def page_starting_at(at: Offsets, start: int) -> memoryview:
    page = memoryview(bytearray(b"\xa5" * 4096))
    for offset in (at.out_cons, at.out_prod, at.into_cons, at.into_prod):
        set_word(page, offset, start)
    return page


def ends(page: memoryview, at: Offsets) -> tuple[ByteStream, ByteStream]:
    return ByteStream.front(page, at.layout), ByteStream.back(page, at.layout)


def test_bytes_lie_where_the_header_says(at: Offsets) -> None:
    page = page_starting_at(at, 0)
    front, back = ends(page, at)
    assert (front.write(b"to the back"), back.write(b"to the front")) == (11, 12)
    expected = bytearray(b"\xa5" * 4096)
    expected[at.out : at.out + 11] = b"to the back"
    expected[at.into : at.into + 12] = b"to the front"
    for offset, value in ((at.out_cons, 0), (at.out_prod, 11), (at.into_cons, 0), (at.into_prod, 12)):
        expected[offset : offset + 4] = value.to_bytes(4, "little")
    assert bytes(page) == expected
    assert (back.read(), front.read()) == (b"to the back", b"to the front")
    assert (word(page, at.out_cons), word(page, at.into_cons)) == (11, 12)


@pytest.mark.parametrize("start", STARTS)
def test_indices_run_on_past_the_buffer_and_past_2_to_the_32(at: Offsets, start: int) -> None:
    page = page_starting_at(at, start)
    front, back = ends(page, at)
    sent = received = b""
    for size in (700, 1, 323, 900, 1000, 24, 1024):
        data = bytes((len(sent) + i) % 251 for i in range(size))
        assert front.write(data) == size
        assert back.unread() == size
        sent += data
        received += back.read()
    assert received == sent
    assert word(page, at.out_cons) == word(page, at.out_prod) == (start + len(sent)) & 0xFFFF_FFFF


@pytest.mark.parametrize("start", STARTS)
def test_a_full_ring_takes_only_what_fits(at: Offsets, start: int) -> None:
    front, back = ends(page_starting_at(at, start), at)
    assert front.room() == at.out_size
    assert front.write(b"x" * (at.out_size - 3)) == at.out_size - 3
    assert front.write(b"abcdef") == 3
    assert front.write(b"def") == 0
    assert front.room() == 0
    assert back.read() == b"x" * (at.out_size - 3) + b"abc"
    assert back.read() == b""
    assert front.write(b"def") == 3


@pytest.mark.parametrize("start", STARTS)
def test_a_producer_past_the_ring_is_refused(at: Offsets, start: int) -> None:
    page = page_starting_at(at, start)
    _, back = ends(page, at)
    set_word(page, at.out_prod, (start + at.out_size) & 0xFFFF_FFFF)
    assert back.unread() == at.out_size
    for distance in (at.out_size + 1, 0x8000_0000, 0xFFFF_FFFF):
        set_word(page, at.out_prod, (start + distance) & 0xFFFF_FFFF)
        with pytest.raises(RingError) as error:
            back.read()
        assert error.value.value == distance


@pytest.mark.parametrize("start", STARTS)
def test_a_consumer_past_the_producer_is_refused(at: Offsets, start: int) -> None:
    page = page_starting_at(at, start)
    _, back = ends(page, at)
    back.write(b"abc")
    set_word(page, at.into_cons, (start + 4) & 0xFFFF_FFFF)
    with pytest.raises(RingError):
        back.write(b"d")
    with pytest.raises(RingError):
        back.room()


def test_an_end_does_not_believe_its_own_index_in_the_page(at: Offsets) -> None:
    page = page_starting_at(at, 0)
    front, back = ends(page, at)
    front.write(b"abc")
    assert back.read() == b"abc"
    set_word(page, at.out_cons, 1)  # the domain rewinds the store's index
    set_word(page, at.into_prod, 77)
    front.write(b"d")
    assert back.read() == b"d"
    back.write(b"reply")
    assert (word(page, at.out_cons), word(page, at.into_prod)) == (4, 5)


def test_a_released_stream_lets_its_page_go(at: Offsets) -> None:
    memory = bytearray(4096)
    page = memoryview(memory)
    front, back = ends(page, at)
    front.release()
    back.release()
    page.release()
    memory.append(0)  # BufferError if a view were left


@given(
    start=st.sampled_from(STARTS) | st.integers(0, 0xFFFF_FFFF),
    steps=st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=1500)), max_size=30),
)
def test_what_is_taken_comes_out_in_order(start: int, steps: list[bytes | None]) -> None:
    page = page_starting_at(PAGES["xenstore"], start)
    front, back = ends(page, PAGES["xenstore"])
    waiting = b""
    for data in steps:
        if data is None:
            assert back.read() == waiting
            waiting = b""
        else:
            taken = front.write(data)
            assert taken == min(len(data), 1024 - len(waiting))
            waiting += data[:taken]
        assert (back.unread(), front.room()) == (len(waiting), 1024 - len(waiting))
