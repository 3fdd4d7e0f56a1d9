"""View: numbers and bytes of shared memory; the same in C and in Python, whichever this xnet has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.mem.view import View

FORMATS = {"B": 1, "I": 4, "Q": 8}


def made(form: str = "B", size: int = 16) -> tuple[View, bytearray]:
    memory = bytearray(range(size))
    return View(memoryview(memory).cast(form)), memory  # type: ignore[call-overload]


@pytest.mark.parametrize("form", FORMATS)
def test_items_are_those_of_the_memoryview_it_is_made_of(form: str) -> None:
    view, memory = made(form)
    same: Any = memoryview(memory).cast(form)  # type: ignore[call-overload]
    assert len(view) == len(same)
    assert [view[i] for i in range(len(view))] == list(same)
    assert view[-1] == same[-1]
    largest = 256 ** FORMATS[form] - 1
    view[1] = largest
    assert same[1] == view[1] == largest
    view[-1] = 0
    assert same[-1] == 0


@pytest.mark.parametrize("form", FORMATS)
def test_items_that_are_not_there_and_numbers_that_do_not_fit(form: str) -> None:
    view, memory = made(form)
    before = bytes(memory)
    for index in (len(view), -len(view) - 1, 1 << 40):
        with pytest.raises(IndexError):
            view[index]
        with pytest.raises(IndexError):
            view[index] = 0
    for number in (256 ** FORMATS[form], -1, 1 << 70):
        with pytest.raises((ValueError, OverflowError)):
            view[0] = number
    with pytest.raises(TypeError):
        view[0] = "1"  # type: ignore[assignment]
    assert memory == before


@given(at=st.integers(-2, 18), size=st.integers(-2, 18))
def test_bytes_are_copies_and_never_others_than_asked_for(at: int, size: int) -> None:
    view, memory = made("I")
    if at >= 0 and size >= 0 and at + size <= 16:
        got = view.read(at, size)
        assert type(got) is bytes
        assert got == memory[at : at + size]
        view.write(at, bytes(size))
        assert memory == bytes(range(at)) + bytes(size) + bytes(range(at + size, 16))
        return
    with pytest.raises(ValueError):
        view.read(at, size)
    if size >= 0:
        with pytest.raises(ValueError):
            view.write(at, bytes(size))
    assert memory == bytes(range(16))


def test_what_is_written_may_be_any_bytes() -> None:
    view, memory = made()
    view.write(0, memoryview(b"abc")[1:])
    view.write(2, bytearray(b"de"))  # type: ignore[arg-type]
    assert memory[:5] == b"bcde\x04"


@given(at=st.integers(-2, 18), size=st.integers(0, 18), wrong=st.none() | st.integers(0, 17))
def test_clear_takes_only_the_very_bytes_it_is_told(at: int, size: int, wrong: int | None) -> None:
    view, memory = made("Q")
    before = bytes(memory)
    if not 0 <= at <= 16 - size:
        with pytest.raises(ValueError):
            view.clear(at, bytes(size))
        assert memory == before
        return
    data = bytearray(memory[at : at + size])
    if wrong is not None and wrong < size:
        data[wrong] ^= 0x80
    same = data == memory[at : at + size]
    assert view.clear(at, memoryview(data)) is same
    assert memory == (before[:at] + bytes(size) + before[at + size :] if same else before)


def test_release_lets_the_memory_go() -> None:
    view, memory = made()
    with pytest.raises(BufferError):
        memory.clear()
    view.release()
    view.release()
    memory.clear()
    with pytest.raises(ValueError):
        view[0]
    with pytest.raises(ValueError):
        view.read(0, 1)
    with pytest.raises(ValueError):
        view.write(0, b"x")


def test_only_memory_that_can_be_written_in_items_it_knows() -> None:
    with pytest.raises((BufferError, TypeError)):
        View(memoryview(b"read-only"))[0] = 1
    with pytest.raises(TypeError):
        View(b"no view"[0])  # type: ignore[arg-type]
