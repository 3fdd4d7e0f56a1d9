"""What both ends of a ring share: the page's geometry, and runs of slots."""

from __future__ import annotations

from collections.abc import Callable

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.ring import HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, nr_ents
from xnet.errors import XnetError
from xnet.mem.view import View


class RingError(XnetError):
    """The other end published an index that no correct driver can reach; `value` is the impossible distance."""

    def __init__(self, what: str, value: int) -> None:
        super().__init__(f"{what} ({value})")
        self.what = what
        self.value = value


Barrier = Callable[[], None] | None
"""A full memory barrier; None where both ends run in one thread, for there program order is enough."""


class SharedRing:
    """A ring's page seen as index words and slots. `page` is 4096 bytes of the local mapping, kept for its life."""

    __slots__ = ("indices", "mask", "nr_ents", "private", "size", "slot_size", "slots")

    def __init__(self, page: memoryview, slot_size: int) -> None:
        self.slot_size = slot_size
        self.nr_ents = nr_ents(slot_size, PAGE_SIZE)
        self.mask = self.nr_ents - 1
        self.indices = View(page[:16].cast("I"))
        self.private = page[16:HEADER_SIZE]
        self.size = self.nr_ents * slot_size
        """Of all slots, in bytes."""
        self.slots = View(page[HEADER_SIZE : HEADER_SIZE + self.size])

    def init(self) -> None:
        """SHARED_RING_INIT, by the front only: nothing produced, each end wakes at the first entry."""
        indices = self.indices
        indices[REQ_PROD] = indices[RSP_PROD] = 0
        indices[REQ_EVENT] = indices[RSP_EVENT] = 1
        self.private[:] = bytes(len(self.private))

    def read(self, index: int, count: int) -> bytes:  # hot: 0.1 us
        """A private copy of `count` slots from ring index `index` on; `count` <= nr_ents."""
        at, size = (index & self.mask) * self.slot_size, count * self.slot_size
        room = self.size - at
        if size <= room:
            return self.slots.read(at, size)
        return self.slots.read(at, room) + self.slots.read(0, size - room)

    def write(self, index: int, data: bytes) -> None:  # hot: 0.1 us
        """Fill whole slots from ring index `index` on; `data` is a multiple of the slot size, at most a ringful."""
        at = (index & self.mask) * self.slot_size
        room = self.size - at
        if len(data) <= room:
            self.slots.write(at, data)
        else:
            self.slots.write(at, data[:room])
            self.slots.write(0, data[room:])

    def release(self) -> None:
        """Let go of the page, so that it can be unmapped; the ring is dead afterwards."""
        self.indices.release()
        self.private.release()
        self.slots.release()
