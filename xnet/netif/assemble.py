"""From rx slots to whole frames: what `gather` is to tx, on the frontend's side.

Every slot says how many bytes its own page holds. A frame whose backend failed or lied in one of its slots is dropped
as a whole, and so is one that is not all there: a correct backend publishes whole frames (Linux's netfront drops it,
too). Pages that lie side by side, as posted buffers do, become one piece.
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RING_SLOTS,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_MAX_TX_SIZE,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TYPE_SHIFT, Buffers, Chain, Frame, Piece
from xnet.netif.known import guess_end, remember

WORDS: Final = (0, DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED)
"""Low bits of the offload word by netif's two low rx flags (data_validated 1, csum_blank 2)."""
assert (NETRXF_data_validated, NETRXF_csum_blank) == (1, 2)
GSO_TYPES: Final = (XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6)
FLAGS_AT: Final = 4
"""Byte of a slot where its flags are."""


class Known:
    """A frame as its slots lay it out."""

    __slots__ = ("buffers", "frame", "slots")

    def __init__(self, slots: bytes, frame: Frame, buffers: Buffers) -> None:
        self.slots = slots
        self.frame = frame
        self.buffers = buffers
        """Its pages never change place, so their views are cut out once."""


class Assemble:
    """Frames out of the slots of one ring; the page of slot k is at address ``base + k * 4096`` of `memory`."""

    __slots__ = ("base", "known", "last", "memory")

    def __init__(self, memory: memoryview, base: int) -> None:
        self.memory = memory
        self.base = base
        self.last: list[Known | None] = [None] * RING_SLOTS
        """The frame that came last, by its first slot: most often the next one there is laid out the same."""
        self.known: dict[tuple[int, bytes], Known] = {}
        """Frames by their first slot and what is in the slots: none is over before its slots say so."""

    def take(self, data: bytes, first: int) -> tuple[Chain, int]:  # hot: 0.4 us a frame seen before
        """Frames out of response slots, and how many were dropped. Slot `first` is that of the first response."""
        frames: list[Frame] = []
        buffers: list[Buffers] = []
        at, count, bad = 0, len(data), 0
        while at < count:
            slot = first + at // RX_SLOT_SIZE & RING_SLOTS - 1
            known = self.last[slot]
            if known is None or data[at : at + len(known.slots)] != known.slots:
                known, end = self.look_up(data, at, slot)
                if known is None:
                    bad += 1
                    at = end
                    continue
            frames.append(known.frame)
            buffers.append(known.buffers)
            at += len(known.slots)
        return Chain(self.memory, frames, None, buffers), bad

    def look_up(self, data: bytes, at: int, slot: int) -> tuple[Known | None, int]:
        """The frame that begins at byte `at`, which is `slot` of the ring, or None; where the next begins."""
        end = guess_end(data, at, RX_SLOT_SIZE, FLAGS_AT)
        known = self.known.get((slot, data[at:end])) if end else None
        if known is None:
            frame, over = self.read(data, at // RX_SLOT_SIZE, slot)
            end = over * RX_SLOT_SIZE
            if frame is None:
                return None, end
            slots = data[at:end]
            known = Known(slots, frame, Chain(self.memory).to_write(frame))
            remember(self.known, (slot, slots), known)
        self.last[slot] = known
        return known, end

    def read(self, data: bytes, at: int, slot: int) -> tuple[Frame | None, int]:  # 15 us for 17 slots
        """The frame that begins in `data` at slot `at`, which is `slot` of the ring, or None; where the next begins."""
        count = len(data) // RX_SLOT_SIZE
        base, start, gso, length, good, more = self.base, at, 0, 0, True, True
        word = WORDS[data[at * RX_SLOT_SIZE + FLAGS_AT] & 3]
        pieces: list[Piece] = []
        while more and at < count:
            _, offset, flags, size = RX_RESPONSE.unpack_from(data, at * RX_SLOT_SIZE)
            good = good and size >= 0 and offset + size <= PAGE_SIZE
            addr = base + ((slot + at - start & RING_SLOTS - 1) << PAGE_SHIFT) + offset
            if pieces and pieces[-1][0] + pieces[-1][1] == addr:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + size, DOMID_SELF, 0)
            else:
                pieces.append((addr, size, DOMID_SELF, 0))
            length += size
            at += 1
            more = bool(flags & NETRXF_more_data)
            if at == start + 1 and flags & NETRXF_extra_info:
                at, gso = read_extras(data, at, count)
        if more or gso < 0 or not good or length > XEN_NETIF_MAX_TX_SIZE:
            return None, at
        return (word | gso, length, tuple(pieces)), at


def read_extras(data: bytes, at: int, count: int) -> tuple[int, int]:
    """Past the chain of extras from slot `at` on: (next slot, GSO bits of the offload word, -1 for a bad chain)."""
    gso, more = 0, True
    while more:
        if at >= count:
            return at, -1
        kind, flags, size, gso_type, _, _ = EXTRA_GSO.unpack_from(data, at * RX_SLOT_SIZE)
        at += 1
        more = bool(flags & XEN_NETIF_EXTRA_FLAG_MORE)
        if kind == XEN_NETIF_EXTRA_TYPE_GSO and size and gso_type in GSO_TYPES:
            gso |= gso_type << GSO_TYPE_SHIFT | size << GSO_SIZE_SHIFT
        else:
            gso = -1
    return at, gso
