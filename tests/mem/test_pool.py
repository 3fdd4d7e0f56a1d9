from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnet.mem import Pool


def test_the_lowest_run_that_fits_is_handed_out() -> None:
    pool = Pool(8, 10)
    assert [pool.take(n) for n in (2, 3, 4)] == [8, 10, 13]
    pool.give(8, 2)
    assert pool.take(3) is None, "three are free, but not in a row"
    assert pool.take(1) == 8


def test_runs_given_back_join_their_neighbours() -> None:
    pool = Pool(0, 6)
    for _ in range(6):
        pool.take(1)
    for number in (0, 2, 4, 1, 5, 3):
        pool.give(number, 1)
    assert pool.longest() == 6
    assert pool.take(6) == 0


@pytest.mark.parametrize(
    ("first", "count"),
    [(0, 1), (3, 1), (2, 2), (9, 2), (-1, 1), (4, 0), (4, 5)],
    ids=["below", "free", "half free", "past the end", "negative", "none", "into the free ones behind"],
)
def test_what_is_not_out_cannot_be_given_back(first: int, count: int) -> None:
    pool = Pool(2, 8)
    assert pool.take(6) == 2
    pool.give(3, 1)
    with pytest.raises(ValueError, match="not out"):
        pool.give(first, count)
    assert pool.room == 3


def test_grown_numbers_come_after_the_old_ones() -> None:
    pool = Pool(8, 0)
    assert pool.take(1) is None
    pool.grow(4)
    pool.grow(4)
    assert pool.take(8) == 8
    assert (pool.size, pool.used, pool.room) == (8, 8, 0)


def test_a_run_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="run of 0"):
        Pool(0, 4).take(0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 7), st.integers(0, 20)), max_size=60))
def test_a_pool_is_a_set_of_free_numbers(steps: list[tuple[bool, int, int]]) -> None:
    pool, free, out = Pool(5, 32), set(range(5, 37)), list[tuple[int, int]]()
    for take, count, which in steps:
        if take:
            fits = [n for n in sorted(free) if all(n + i in free for i in range(count))]
            first = pool.take(count)
            assert first == (fits[0] if fits else None)
            if first is not None:
                free -= set(range(first, first + count))
                out.append((first, count))
        elif out:
            first, count = out.pop(which % len(out))
            pool.give(first, count)
            free |= set(range(first, first + count))
        assert pool.room == len(free)


def test_the_tail_is_the_free_run_at_the_end() -> None:
    pool = Pool(8, 6)
    assert pool.tail() == 6
    pool.take(4)
    assert pool.tail() == 2
    pool.take(2)
    assert pool.tail() == 0
    pool.give(9, 2)
    assert pool.tail() == 0
    pool.grow(3)
    assert pool.tail() == 3
