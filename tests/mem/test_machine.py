"""The book of frames, over a backing that only remembers what it was asked."""

from __future__ import annotations

import pytest

from xnet.errors import HostError, HypercallError
from xnet.mem import FREE, UNPOPULATED, Machine, Window
from xnet.mem.machine import runs_of

PAGE = 4096


class Ledger:
    """A backing of plain bytes: commit and uncommit are written down, and refused while `poor`."""

    def __init__(self, nframes: int) -> None:
        self.nframes = nframes
        self.view = memoryview(bytearray(nframes * PAGE))
        self.calls: list[tuple[str, int, int]] = []
        self.poor = False

    def move(self, to: int, start: int, count: int) -> None:
        raise AssertionError("the book copies nothing")

    def commit(self, first_mfn: int, n: int) -> None:
        if self.poor:
            raise HostError("machine memory: none left")
        self.calls.append(("commit", first_mfn, n))

    def uncommit(self, first_mfn: int, n: int) -> None:
        self.calls.append(("uncommit", first_mfn, n))

    def window(self, npages: int) -> Window:
        raise AssertionError("the book needs no window")


def machine(nframes: int = 16) -> tuple[Machine, Ledger]:
    ledger = Ledger(nframes)
    return Machine(ledger), ledger


def test_a_domain_gets_one_run_when_there_is_one() -> None:
    book, _ = machine()
    assert book.alloc(1, 4) == [(0, 4)]
    assert book.alloc(2, 4) == [(4, 4)]
    book.release(1, 0, 4)
    assert book.alloc(3, 6) == [(8, 6)]


def test_else_it_gets_the_longest_runs_there_are() -> None:
    book, _ = machine()
    for domid in range(1, 5):
        book.alloc(domid, 4)
    book.release(1, 0, 4)
    book.release(3, 8, 3)
    assert book.alloc(5, 6) == [(0, 4), (8, 2)]
    assert book.room == 1


def test_more_than_the_machine_has_is_ENOMEM_and_takes_nothing() -> None:
    book, _ = machine()
    book.alloc(1, 10)
    with pytest.raises(HypercallError) as refused:
        book.alloc(2, 7)
    assert refused.value.status == "ENOMEM"
    assert (book.room, book.count(2)) == (6, 0)


def test_memory_is_taken_from_the_host_when_it_is_populated_not_before() -> None:
    book, ledger = machine()
    book.alloc(1, 8)
    assert ledger.calls == []
    assert list(book.owner[:2]) == [1 | UNPOPULATED] * 2
    assert book.populate(1, 2, 3) is True
    assert book.populate(1, 1, 5) is False, "three of the five may hold old bytes"
    assert book.populate(1, 1, 5) is False
    assert ledger.calls == [("commit", 2, 3), ("commit", 1, 1), ("commit", 5, 1)]
    assert (book.populated(1), book.count(1)) == (5, 8)


def test_a_host_without_memory_is_ENOMEM_and_populates_nothing() -> None:
    book, ledger = machine()
    book.alloc(1, 4)
    ledger.poor = True
    with pytest.raises(HypercallError) as refused:
        book.populate(1, 0, 2)
    assert refused.value.status == "ENOMEM"
    assert book.populated(1) == 0


def test_freed_memory_goes_back_to_the_host_and_nothing_that_never_had_any() -> None:
    book, ledger = machine()
    book.alloc(1, 8)
    book.populate(1, 0, 2)
    ledger.calls.clear()
    book.release(1, 4, 4)
    book.release(1, 0, 4)
    assert ledger.calls == [("uncommit", 0, 4)]
    assert book.room == 16
    assert set(book.owner) == {FREE}


def test_a_frame_others_have_mapped_is_freed_by_the_last_of_them() -> None:
    book, ledger = machine()
    book.alloc(1, 4)
    book.populate(1, 0, 4)
    book.get(2)
    book.get(2)
    book.release(1, 0, 4)
    assert (book.count(1), book.owner[2], book.room) == (1, 1, 15)
    book.put(2)
    assert (book.count(1), book.mapped(2)) == (1, 1)
    book.put(2)
    assert (book.count(1), book.room) == (0, 16)
    assert ledger.calls[-1] == ("uncommit", 2, 1)


def test_unmapping_a_living_domains_frame_frees_nothing() -> None:
    book, _ = machine()
    book.alloc(1, 4)
    book.get(1)
    book.put(1)
    assert book.count(1) == 4


@pytest.mark.parametrize(
    ("numbers", "runs"),
    [
        ([], []),
        ([3], [(3, 1)]),
        ([1, 2, 3], [(1, 3)]),
        ([1, 3, 4, 9], [(1, 1), (3, 2), (9, 1)]),
        ([5, 4], [(5, 1), (4, 1)]),
    ],
)
def test_runs_of_neighbours(numbers: list[int], runs: list[tuple[int, int]]) -> None:
    assert list(runs_of(numbers)) == runs
