"""Machine: the book of machine frames. Which domain owns each, how often others have it mapped, what has memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from xnet.abi.xen import PAGE_SHIFT
from xnet.errors import HostError, HypercallError
from xnet.mem.pool import Pool

FREE: Final = 0xFFFF
"""Owner of a frame that nobody has."""

UNPOPULATED: Final = 0x8000
"""Added to the owner's domid while no memory stands behind the frame (Xen: populate on demand)."""


class Window(Protocol):
    """A range of addresses with machine frames under it (xnet.host.memory.Window)."""

    @property
    def view(self) -> memoryview: ...

    def map(self, pfn: int, mfn: int, n: int = 1, readonly: bool = False) -> None:
        """Put n frames from mfn on under the pages from pfn on. Raises HostError, the window then as before."""

    def unmap(self, pfn: int, n: int = 1) -> None: ...

    def close(self) -> None: ...


class Backing(Protocol):
    """The machine's memory itself (xnet.host.memory.MachineMemory)."""

    @property
    def nframes(self) -> int: ...

    @property
    def view(self) -> memoryview: ...

    @property
    def move(self) -> Callable[[int, int, int], None]:
        """``move(to, start, count)``: copy bytes within the view."""

    def commit(self, first_mfn: int, n: int) -> None:
        """Have memory for these frames from now on; zeros where there was none. Raises HostError."""

    def uncommit(self, first_mfn: int, n: int) -> None:
        """Give the memory of these frames back; they read as zeros."""

    def window(self, npages: int) -> Window: ...


class Machine:
    """All frames of one machine. Frame numbers (mfn) count from 0 to `nframes` - 1."""

    def __init__(self, backing: Backing) -> None:
        self.backing = backing
        self.nframes = backing.nframes
        self.view = backing.view
        """Every frame, read-write: the hypervisor's own eyes."""
        self.move = backing.move
        self.owner = array("H", [FREE]) * self.nframes
        self._mapped = array("I", [0]) * self.nframes
        self._dying: set[int] = set()
        self._free = Pool(0, self.nframes)

    @property
    def room(self) -> int:
        """Frames that nobody owns."""
        return self._free.room

    def alloc(self, domid: int, count: int) -> list[tuple[int, int]]:
        """Give `count` frames to a domain, unpopulated: (first, n) runs, one run when there is one that long.

        HypercallError ENOMEM when the machine has not that many.
        """
        if count > self._free.room:
            raise HypercallError("ENOMEM", f"d{domid}: {count} frames asked, the machine has {self._free.room} left")
        runs: list[tuple[int, int]] = []
        while count:
            n = min(count, self._free.longest())
            first = self._free.take(n)
            assert first is not None
            self.owner[first : first + n] = array("H", [domid | UNPOPULATED]) * n
            runs.append((first, n))
            count -= n
        return runs

    def populate(self, domid: int, first: int, n: int) -> bool:
        """Put memory behind frames the domain owns: True when all of it is new (so it is zeros).

        HypercallError ENOMEM when the host has none; the frames are then as before.
        """
        fresh = [mfn for mfn in range(first, first + n) if self.owner[mfn] == domid | UNPOPULATED]
        if not fresh:
            return False
        try:
            for run, length in runs_of(fresh):
                self.backing.commit(run, length)
        except HostError as error:
            raise HypercallError("ENOMEM", f"d{domid}: {n} pages: {error}") from error
        for mfn in fresh:
            self.owner[mfn] = domid
        return len(fresh) == n

    def release(self, domid: int, first: int, n: int) -> None:
        """Free a domain's frames, but those that others have mapped only when the last of them lets go (`put`)."""
        for run, length in runs_of([mfn for mfn in range(first, first + n) if not self._mapped[mfn]]):
            self._reclaim(domid, run, length)
        if any(self._mapped[first : first + n]):
            self._dying.add(domid)

    def get(self, mfn: int) -> None:
        """One more domain has this frame mapped."""
        self._mapped[mfn] += 1

    def put(self, mfn: int) -> None:
        """One fewer. The last one frees a frame whose owner is dead."""
        self._mapped[mfn] -= 1
        domid = self.owner[mfn] & ~UNPOPULATED
        if not self._mapped[mfn] and domid in self._dying:
            self._reclaim(domid, mfn, 1)
            if not self.count(domid):
                self._dying.discard(domid)

    def count(self, domid: int) -> int:
        """Frames of one owner, populated or not."""
        return self.owner.count(domid) + self.owner.count(domid | UNPOPULATED)

    def populated(self, domid: int) -> int:
        """Frames of one owner that have memory."""
        return self.owner.count(domid)

    def mapped(self, mfn: int) -> int:
        """How many mappings other domains have on a frame."""
        return self._mapped[mfn]

    def page(self, mfn: int) -> memoryview:
        """The hypervisor's view of one frame."""
        return self.view[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT]

    def _reclaim(self, domid: int, first: int, n: int) -> None:
        for mfn in range(first, first + n):
            assert self.owner[mfn] & ~UNPOPULATED == domid, f"frame {mfn} is not d{domid}'s"
        if any(owner == domid for owner in self.owner[first : first + n]):
            self.backing.uncommit(first, n)
        self.owner[first : first + n] = array("H", [FREE]) * n
        self._free.give(first, n)


def runs_of(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(first, length) of every run of numbers that ascend one by one in a list."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield numbers[start], i - start
            start = i
