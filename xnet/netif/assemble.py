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
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TYPE_SHIFT, Frame, Piece

WORDS: Final = (0, DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED)
"""Low bits of the offload word by netif's two low rx flags (data_validated 1, csum_blank 2)."""
assert (NETRXF_data_validated, NETRXF_csum_blank) == (1, 2)
GSO_TYPES: Final = (XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6)


def assemble(data: bytes, first: int, base: int) -> tuple[list[Frame], int]:  # hot: 1.5 us a frame of one slot, 6 of 17
    """Frames out of response slots, and how many were dropped. Slot `first` is that of the first response; the page of
    slot k is at address ``base + k * 4096``.
    """
    count = len(data) // RX_SLOT_SIZE
    if count == 1:
        _, offset, flag, size = RX_RESPONSE.unpack(data)
        if flag & (NETRXF_extra_info | NETRXF_more_data) or size < 0 or offset + size > PAGE_SIZE:
            return [], 1
        return [(WORDS[flag & 3], size, ((base + (first << PAGE_SHIFT) + offset, size, DOMID_SELF, 0),))], 0
    columns = memoryview(data)
    offsets, flags = columns.cast("H")[1::4].tolist(), columns.cast("H")[2::4].tolist()
    sizes = columns.cast("h")[3::4].tolist()
    frames: list[Frame] = []
    at = bad = 0
    while at < count:
        start, flag = at, flags[at]
        word = WORDS[flag & 3]
        at += 1
        if flag & NETRXF_extra_info:
            at, gso = read_extras(data, at, count)
            word |= gso
        end = at
        if flag & NETRXF_more_data:
            while end < count and flags[end] & NETRXF_more_data:
                end += 1
            end += 1
        if word < 0 or end > count:
            bad += 1
        else:
            frame = gathered(word, first, base, start, at, end, offsets, sizes)
            if frame is None:
                bad += 1
            else:
                frames.append(frame)
        at = end
    return frames, bad


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


def gathered(
    word: int, first: int, base: int, start: int, at: int, end: int, offsets: list[int], sizes: list[int]
) -> Frame | None:  # hot
    """The frame of slot `start` and slots `at` to `end`; None when one of them failed or lies."""
    offset, length = offsets[start], sizes[start]
    if length < 0 or offset + length > PAGE_SIZE:
        return None
    addr = base + ((first + start & RING_SLOTS - 1) << PAGE_SHIFT) + offset
    if at == end:
        return (word, length, ((addr, length, DOMID_SELF, 0),))
    pieces: list[Piece] = [(addr, length, DOMID_SELF, 0)]
    page = first + at & RING_SLOTS - 1
    last = sizes[end - 1]
    if (
        page + end - at <= RING_SLOTS
        and 0 <= last <= PAGE_SIZE
        and sizes[at : end - 1].count(PAGE_SIZE) == end - 1 - at
        and not any(offsets[at:end])
    ):
        rest = (end - 1 - at) * PAGE_SIZE + last  # the usual frame: whole pages, side by side
        pieces.append((base + (page << PAGE_SHIFT), rest, DOMID_SELF, 0))
        length += rest
    else:
        for slot in range(at, end):
            offset, size = offsets[slot], sizes[slot]
            if size < 0 or offset + size > PAGE_SIZE:
                return None
            pieces.append((base + ((first + slot & RING_SLOTS - 1) << PAGE_SHIFT) + offset, size, DOMID_SELF, 0))
            length += size
    return (word, length, tuple(pieces)) if length <= XEN_NETIF_MAX_TX_SIZE else None
