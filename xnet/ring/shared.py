"""What both ends of a ring share: the page's geometry, and runs of slots."""

from __future__ import annotations

from collections.abc import Callable

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.ring import HEADER_SIZE, MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, nr_ents
from xnet.errors import XnetError


class RingError(XnetError):
    """The other end published an index that no correct driver can reach; `value` is the impossible distance."""

    def __init__(self, what: str, value: int) -> None:
        super().__init__(f"{what} ({value})")
        self.what = what
        self.value = value


Barrier = Callable[[], None] | None
"""A full memory barrier; None where both ends run in one thread, for there program order is enough."""


class SharedRing:
    """A ring's page seen as index words and slots. `page` is 4096 bytes of the local mapping, kept until `release`."""

    __slots__ = ("barrier", "indices", "nr_ents", "private", "slot_size", "slots")

    def __init__(self, page: memoryview, slot_size: int, barrier: Barrier) -> None:
        if len(page) != PAGE_SIZE or not 0 < slot_size <= PAGE_SIZE - HEADER_SIZE:
            raise ValueError(f"ring: slots of {slot_size} bytes in a page of {len(page)}")
        self.barrier = barrier
        self.slot_size = slot_size
        self.nr_ents = nr_ents(slot_size, PAGE_SIZE)
        self.indices = page[:16].cast("I")
        self.private = page[16:HEADER_SIZE]
        self.slots = page[HEADER_SIZE : HEADER_SIZE + self.nr_ents * slot_size]

    def init(self) -> None:
        """SHARED_RING_INIT, by the front only: nothing produced, each end wakes at the first entry."""
        indices = self.indices
        indices[REQ_PROD] = indices[RSP_PROD] = 0
        indices[REQ_EVENT] = indices[RSP_EVENT] = 1
        self.private[:] = bytes(len(self.private))

    def read(self, index: int, count: int) -> bytes:
        """A private copy of `count` slots from ring index `index` on. ValueError for more than there are."""
        at, size = index % self.nr_ents * self.slot_size, count * self.slot_size
        if not 0 <= size <= len(self.slots):
            raise ValueError(f"ring: {count} slots, of {self.nr_ents}")
        first = self.slots[at : at + size].tobytes()
        return first + self.slots[: size - len(first)].tobytes()

    def write(self, index: int, data: bytes) -> int:
        """Fill whole slots from ring index `index` on; the index behind them. ValueError for more than there are."""
        at, size = index % self.nr_ents * self.slot_size, len(data)
        if size % self.slot_size or size > len(self.slots):
            raise ValueError(f"ring: {size} bytes into {self.nr_ents} slots of {self.slot_size}")
        first = min(size, len(self.slots) - at)
        self.slots[at : at + first] = data[:first]
        self.slots[: size - first] = data[first:]
        return (index + size // self.slot_size) & MASK32

    def release(self) -> None:
        """Let go of the page, so that it can be unmapped; the ring is dead afterwards. Twice is allowed."""
        self.indices.release()
        self.private.release()
        self.slots.release()
