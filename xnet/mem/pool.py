"""Pool: whole numbers (frames, pages, grant references) handed out in runs of neighbours."""

from __future__ import annotations

from bisect import bisect_right


class Pool:
    """The numbers first .. first + count - 1, all free at first. First fit; runs given back join their neighbours.

    Free runs are two parallel sorted lists, so taking is a short walk and giving back a bisection.
    """

    __slots__ = ("_ends", "_first", "_starts", "room", "size")

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self.size = count
        self.room = count
        """How many are free, in runs of any length."""
        self._starts = [first] if count else []
        self._ends = [first + count] if count else []

    @property
    def used(self) -> int:
        """How many are out."""
        return self.size - self.room

    def longest(self) -> int:
        """Length of the longest free run."""
        return max((end - start for start, end in zip(self._starts, self._ends, strict=True)), default=0)

    def tail(self) -> int:
        """Length of the free run at the end of the numbers: what `grow` makes longer."""
        if not self._ends or self._ends[-1] != self._first + self.size:
            return 0
        return self._ends[-1] - self._starts[-1]

    def take(self, count: int) -> int | None:
        """First of `count` consecutive free numbers, no longer free; None when there is no such run."""
        if count < 1:
            raise ValueError(f"a run of {count}")
        for i, start in enumerate(self._starts):
            if self._ends[i] - start >= count:
                if self._ends[i] - start == count:
                    del self._starts[i], self._ends[i]
                else:
                    self._starts[i] = start + count
                self.room -= count
                return start
        return None

    def give(self, first: int, count: int) -> None:
        """Take a run back. ValueError when any of it is free already or was never ours."""
        end = first + count
        i = bisect_right(self._starts, first)
        free_before = i > 0 and self._ends[i - 1] > first
        free_after = i < len(self._starts) and self._starts[i] < end
        if count < 1 or free_before or free_after or first < self._first or end > self._first + self.size:
            raise ValueError(f"{first}+{count} is not out")
        self._insert(i, first, end)
        self.room += count

    def grow(self, count: int) -> None:
        """Add the next `count` numbers, free."""
        first = self._first + self.size
        self.size += count
        self.give(first, count)

    def _insert(self, i: int, first: int, end: int) -> None:
        joins_before = i > 0 and self._ends[i - 1] == first
        joins_after = i < len(self._starts) and self._starts[i] == end
        if joins_before and joins_after:
            self._ends[i - 1] = self._ends[i]
            del self._starts[i], self._ends[i]
        elif joins_before:
            self._ends[i - 1] = end
        elif joins_after:
            self._starts[i] = first
        else:
            self._starts.insert(i, first)
            self._ends.insert(i, end)
