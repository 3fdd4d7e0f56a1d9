"""Hypervisor copy, both ways: GNTTABOP_copy in batches, own memory on the backend's side."""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_source_gref
from xnet.abi.xen.netif import XEN_NETIF_RSP_ERROR, XEN_NETIF_RSP_OKAY
from xnet.frame import Frame, Frames, own
from xnet.frame.arena import Arena
from xnet.hv.api import COPY_RUN, CopyOp, Xen
from xnet.netif.gather import Packet, Segment, take
from xnet.netif.slots import Gather, Scatter
from xnet.netif.transport.deliver import Deliver

Failure = tuple[str, list[int]]
"""Why a packet could not be fetched, as a counter's name, and the response status of each data slot; none of them: all
ERROR."""
NO_MEMORY: Final = "tx_no_memory"
GRANT_ERROR: Final = "tx_grant_error"

PAGE_MASK: Final = PAGE_SIZE - 1
FRAME_SHIFT: Final = 17
"""No packet takes as many bits of staging memory."""


class CopyFetch:
    """Guest pages to staging memory; the packet is the backend's own afterwards.

    With `heads_only` a long packet has its first page copied, and a place for the rest: whoever passes the packet on to
    another guest copies that from guest to guest, as Linux's netback does with pages it got from another one. What must
    be looked at is in the first page, which no guest changes any more.
    """

    def __init__(self, xen: Xen, domid: int, arena: Arena, heads_only: bool = False) -> None:
        self.xen = xen
        self.domid = domid
        self.arena = arena
        self.heads_only = heads_only
        self.gather = Gather(domid, heads_only)
        self.data = b""
        """Slots of a burst that went by without being read one by one."""
        self.fetched = Frames()
        """What it brought."""
        self.packets: list[Packet] = []
        self.placed: list[int] = []
        """Where each of them is, -1 for nowhere."""
        self.failures: dict[int, Failure] = {}
        """What failed, by its place among the packets."""

    def fetch_burst(self, data: bytes, most: int, room: int, frames: Frames) -> tuple[bytes, int]:  # hot
        """Copy what is plainly right of these slots, as `gather.take` would, adding it to `frames`: the response slots,
        and how many; none if there is nothing of that kind, or a copy failed. `bring` may find failures later."""
        ops: list[CopyOp] = []
        arena = self.arena
        answers, slots, size = self.gather.burst(data, most, room, arena.mark(), frames, ops)
        self.failures = {}
        if slots:
            arena.alloc(size)
            if self.xen.copy_grants(ops) is not None:
                frames.clear()
                return b"", 0
            self.data, self.fetched = data, frames
        return answers, slots

    def read(self) -> list[Packet]:
        """The packets of the burst, one by one."""
        if self.data:
            self.placed = [pieces[0][0] for _, _, pieces in self.fetched]
            self.packets, _ = take(self.data, len(self.placed), len(self.placed) << FRAME_SHIFT)
            self.data = b""
        return self.packets

    def fetch(self, packets: list[Packet], frames: Frames) -> None:
        """Copy whole packets, adding them to `frames`; what failed is in `failures`, and `bring` may add more."""
        ops: list[CopyOp] = []
        fetched: list[Frame] = []
        placed: list[int] = []
        failures: dict[int, Failure] = {}
        for index, packet in enumerate(packets):
            addr = -1
            if not packet.error:
                length, segments = packet.length, packet.segments
                # the first byte keeps its place in the page, so that page-aligned data needs one copy a page
                gref, skew, size = segments[0]
                addr = self.arena.alloc(length + skew)
                if addr < 0:
                    failures[index] = (NO_MEMORY, [])
                elif self.heads_only and size > PAGE_SIZE:
                    self.build([(gref, 0, PAGE_SIZE)], addr, ops)
                    later = (addr + PAGE_SIZE, length - PAGE_SIZE, self.domid, gref + 1)
                    fetched.append((packet.word, length, ((addr, PAGE_SIZE, DOMID_SELF, 0), later)))
                else:
                    addr += skew
                    self.build(segments, addr, ops)
                    fetched.append(own(packet.word, addr, length))
            placed.append(addr)
        self.data, self.packets, self.placed, self.failures = b"", packets, placed, failures
        if ops and self.xen.copy_grants(ops) is not None:
            fetched = [frame for index in range(len(packets)) for frame in self.fetch_again(index)]
        for frame in fetched:
            frames.append(frame)

    def bring(self, frames: Frames) -> Frames:
        """Copy what these frames of the burst left in the guest. A frame that fails is missing, and a failure."""
        ops: list[CopyOp] = []
        for _, _, pieces in frames:
            for addr, size, _, gref in pieces[1:]:
                self.build([(gref, 0, size)], addr, ops)
        if not ops or self.xen.copy_grants(ops) is None:
            return Frames([own(word, pieces[0][0], length) for word, length, pieces in frames])
        self.read()
        places = [self.placed.index(pieces[0][0]) for _, _, pieces in frames]
        return Frames([frame for index in places for frame in self.fetch_again(index)])

    def build(self, segments: list[Segment], addr: int, ops: list[CopyOp]) -> None:
        """The copies that lay `segments` out from `addr` on; neither side of one crosses a page."""
        domid, op = self.domid, CopyOp
        for gref, offset, size in segments:
            if size == 0:
                continue  # legal and empty (XSA-448)
            at = addr & PAGE_MASK
            fits = PAGE_SIZE - at
            if size > PAGE_SIZE:
                ops.append(op(gref, domid, 0, addr >> PAGE_SHIFT, DOMID_SELF, 0, size, GNTCOPY_source_gref | COPY_RUN))
            elif size <= fits:
                ops.append(op(gref, domid, offset, addr >> PAGE_SHIFT, DOMID_SELF, at, size, GNTCOPY_source_gref))
            else:
                page = addr >> PAGE_SHIFT
                ops.append(op(gref, domid, offset, page, DOMID_SELF, at, fits, GNTCOPY_source_gref))
                ops.append(op(gref, domid, offset + fits, page + 1, DOMID_SELF, 0, size - fits, GNTCOPY_source_gref))
            addr += size

    def fetch_again(self, index: int) -> list[Frame]:
        """The whole packet, slot by slot, to learn which of them fails: the frame, or none and a failure."""
        packet, addr = self.packets[index], self.placed[index]
        if addr < 0:
            return []
        statuses = []
        at = addr
        for segment in singly(packet.segments):
            ops: list[CopyOp] = []
            self.build([segment], at, ops)
            failed = ops and self.xen.copy_grants(ops) is not None
            statuses.append(XEN_NETIF_RSP_ERROR if failed else XEN_NETIF_RSP_OKAY)
            at += segment[2]
        if any(statuses):
            self.failures[index] = (GRANT_ERROR, statuses)
            return []
        return [own(packet.word, addr, packet.length)]

    def release(self) -> None:
        """Nothing is held after a copy."""


class CopyDeliver(Deliver):
    """Frames to the pages a guest posted, each slot filled from offset 0 (HVcopy); `scatter` makes the copies."""

    def __init__(self, xen: Xen, domid: int) -> None:
        super().__init__()
        self.xen = xen
        self.scatter = Scatter(domid)

    def burst(self, frames: Frames, requests: bytes) -> tuple[bytes, int, int, int]:  # hot
        """See `Deliver`."""
        ops: list[CopyOp] = []
        answers, slots, done, size = self.scatter.burst(frames, requests, ops)
        statuses = self.xen.copy_grants(ops) if done else None
        self.failed = None if statuses is None else failures(ops, statuses)
        return answers, slots, done, size

    def close(self) -> None:
        """See `Deliver`: nothing is held after a copy."""


def failures(ops: list[CopyOp], statuses: list[int]) -> dict[int, int]:
    """The grant references that could not be copied into, and their GNTST status."""
    failed: dict[int, int] = {}
    for op, status in zip(ops, statuses, strict=True):
        if status:  # of a run: all its slots, for nobody knows which of them arrived
            failed |= dict.fromkeys(range(op.dst, op.dst + max(1, (op.length + PAGE_MASK) >> PAGE_SHIFT)), status)
    return failed


def singly(segments: list[Segment]) -> list[Segment]:
    """The segments slot by slot: a run taken apart."""
    found: list[Segment] = []
    for gref, offset, size in segments:
        if size <= PAGE_SIZE:
            found.append((gref, offset, size))
        else:
            found += [
                (gref + i, 0, min(PAGE_SIZE, size - (i << PAGE_SHIFT))) for i in range((size + PAGE_MASK) >> PAGE_SHIFT)
            ]
    return found
