"""Arena: whole pages in order, all taken back at a mark."""

from __future__ import annotations

import pytest

from xnet.frame import Arena

PAGE = 4096


def test_every_allocation_begins_a_page_of_its_own() -> None:
    arena = Arena(memoryview(bytearray(8 * PAGE)), PAGE, 6 * PAGE)
    assert [arena.alloc(size) for size in (1, PAGE, PAGE + 1, 60)] == [PAGE, 2 * PAGE, 3 * PAGE, 5 * PAGE]
    assert arena.free() == PAGE


def test_what_does_not_fit_is_refused_and_takes_nothing() -> None:
    arena = Arena(memoryview(bytearray(2 * PAGE)), 0, 2 * PAGE)
    assert arena.alloc(2 * PAGE + 1) == -1
    assert arena.alloc(2 * PAGE) == 0
    assert arena.alloc(1) == -1


def test_marks_nest() -> None:
    arena = Arena(memoryview(bytearray(4 * PAGE)), 0, 4 * PAGE)
    outer = arena.mark()
    arena.alloc(1)
    inner = arena.mark()
    arena.alloc(2 * PAGE)
    arena.release(inner)
    assert arena.free() == 3 * PAGE
    arena.release(outer)
    assert arena.free() == 4 * PAGE


@pytest.mark.parametrize(("addr", "size"), [(1, PAGE), (0, PAGE - 1), (PAGE, 2 * PAGE), (-PAGE, PAGE), (0, -PAGE)])
def test_an_arena_is_whole_pages_inside_its_memory(addr: int, size: int) -> None:
    with pytest.raises(ValueError, match="not whole pages"):
        Arena(memoryview(bytearray(2 * PAGE)), addr, size)
