"""From whole frames to rx slots: what `gather` is to tx, on the way into the guest.

A frame takes a slot for each page it fills, from offset 0 on, and a GSO frame one more, the second, for its extra:
that slot's buffer goes back unused. Each request's id is echoed in its own slot. Source: Linux 6.12, xen-netback/rx.c.
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RX_REQUEST,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xnet.frame import GSO_SIZE_SHIFT, GSO_TYPE_MASK, GSO_TYPE_SHIFT, Piece
from xnet.hv.api import COPY_RUN, CopyOp

FLAGS: Final = (
    0,
    NETRXF_csum_blank | NETRXF_data_validated,
    NETRXF_data_validated,
    NETRXF_csum_blank | NETRXF_data_validated,
)
"""netif rx flags by the two low bits of the offload word; a blank checksum is always also validated data."""
PAGE_MASK: Final = PAGE_SIZE - 1


def answer(word: int, length: int, requests: bytes) -> tuple[bytes, list[int]]:
    """What the slots of a frame say, and the references of the pages it fills."""
    out = bytearray(len(requests))
    grefs = []
    left, gso, mss = length, word & GSO_TYPE_MASK, word >> GSO_SIZE_SHIFT
    for at in range(0, len(requests), RX_SLOT_SIZE):
        ident, _, gref = RX_REQUEST.unpack_from(requests, at)
        if at == RX_SLOT_SIZE and gso:
            EXTRA_GSO.pack_into(out, at, XEN_NETIF_EXTRA_TYPE_GSO, 0, mss, gso >> GSO_TYPE_SHIFT, 0, 0)
            continue
        size = min(left, PAGE_SIZE)
        left -= size
        flags = NETRXF_more_data if left else 0
        if not at:
            flags |= FLAGS[word & 3] | (NETRXF_extra_info if gso else 0)
        RX_RESPONSE.pack_into(out, at, ident, 0, flags, size)
        grefs.append(gref)
    return bytes(out), grefs


def copies(domid: int, pieces: tuple[Piece, ...], grefs: list[int]) -> list[CopyOp]:
    """The copies that lay a frame's pieces into its pages; whole pages that are neighbours on both sides are one."""
    found: list[CopyOp] = []
    filled = src = dst = run = 0  # the run at hand: where it began, and its bytes
    holder = DOMID_SELF
    offset = (0, 0)

    def emit() -> None:
        if run:
            flags = GNTCOPY_dest_gref | (GNTCOPY_source_gref if holder != DOMID_SELF else 0)
            flags |= COPY_RUN if run > PAGE_SIZE else 0
            found.append(CopyOp(src, holder, offset[0], dst, domid, offset[1], run, flags))

    for start, length, owner, gref in pieces:
        addr, left = start, length
        while left:
            at, to = addr & PAGE_MASK, filled & PAGE_MASK
            size = min(left, PAGE_SIZE - max(at, to))
            page = (addr >> PAGE_SHIFT) + (0 if owner == DOMID_SELF else gref - (start >> PAGE_SHIFT))
            into = grefs[filled >> PAGE_SHIFT]
            whole = run and offset == (0, 0) and not run & PAGE_MASK and not at and not to
            if whole and (owner, page, into) == (holder, src + (run >> PAGE_SHIFT), dst + (run >> PAGE_SHIFT)):
                run += size
            else:
                emit()
                src, holder, dst, offset, run = page, owner, into, (at, to), size
            addr += size
            left -= size
            filled += size
    emit()
    return found
