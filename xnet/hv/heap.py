"""Heap: the frames the hypervisor keeps for itself, and gives out when a domain's reservation grows.

Its own shared_info and grant table frames come from here. So do the frames that a driver asks for when it has to give
pages away (XENMEM_increase_reservation), and here come back those that a domain gives up (XENMEM_decrease_reservation).
Frames change hands for good, so the numbers it has change; how many there are in all does not: what a domain dies
without, having given it up, is handed on to the machine for the next domain (`settle`).

A frame that comes back is wiped, and goes to the end of the queue: what was given up as a run is given out as one, and
costs one remap.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.errors import HypercallError
from xnet.mem import Machine
from xnet.mem.machine import UNPOPULATED, runs_of

DOMID_XEN: Final = 0x7FF2
"""Owner of the hypervisor's own frames. Source: public/xen.h."""
ZEROS: Final = bytes(PAGE_SIZE)


class Heap:
    """`pages` frames of the machine at first. HypercallError ENOMEM when it has not that many."""

    def __init__(self, machine: Machine, pages: int) -> None:
        self.machine = machine
        self.size = pages
        """What it was made with."""
        self.used = 0
        """Frames in the hypervisor's own use."""
        self.owed = 0
        """Frames that dead domains had given up, still to be handed on to the machine."""
        self._free = deque(mfn for first, n in machine.alloc(DOMID_XEN, pages) for mfn in range(first, first + n))

    @property
    def room(self) -> int:
        """Frames that are free."""
        return len(self._free)

    def alloc(self) -> int:
        """A zeroed frame for the hypervisor's own use. HypercallError ENOMEM."""
        frames = self.take(DOMID_XEN, 1)
        if not frames:
            raise HypercallError("ENOMEM", f"the hypervisor's heap of {self.size} pages is used up")
        self.used += 1
        return frames[0]

    def free(self, mfn: int) -> None:
        """Take a frame back from the hypervisor's own use."""
        self.used -= 1
        self.give([mfn])

    def take(self, domid: int, count: int) -> list[int]:
        """Up to `count` zeroed frames, as many as there are, for a domain to own. HypercallError ENOMEM from the host:
        then none."""
        free = self._free
        frames = [free.popleft() for _ in range(min(count, len(free)))]
        try:
            for first, n in runs_of(frames):
                self.machine.populate(DOMID_XEN, first, n)
        except HypercallError:
            free.extendleft(reversed(frames))
            raise
        for mfn in frames:
            self.machine.owner[mfn] = domid
        return frames

    def give(self, frames: list[int]) -> None:
        """Take frames from whoever owned them: their bytes go now."""
        machine = self.machine
        for mfn in frames:
            if machine.owner[mfn] & UNPOPULATED:
                machine.owner[mfn] = DOMID_XEN | UNPOPULATED
            else:
                machine.view[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT] = ZEROS
                machine.owner[mfn] = DOMID_XEN
        self._free.extend(frames)
        self.settle(0)

    def settle(self, owed: int) -> None:
        """A domain died with `owed` frames less than it was made with: they go to the machine, as soon as they are
        here. If it had more, they come from there."""
        self.owed += owed
        while self.owed > 0 and self._free:
            self.machine.release(DOMID_XEN, self._free.pop(), 1)
            self.owed -= 1
        while self.owed < 0 and self.machine.room:
            [(mfn, _)] = self.machine.alloc(DOMID_XEN, 1)
            self._free.append(mfn)
            self.owed += 1
