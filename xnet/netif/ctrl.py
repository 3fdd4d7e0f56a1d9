"""The control ring, the backend's end: the guest says how its flows are to be hashed, and which queue has which.

One ring and one event channel a vif (`ctrl-ring-ref`, `event-channel-ctrl`), offered by `feature-ctrl-ring`. Requests
are carried out in order and answered at once. What a request points to is copied out of the guest before it is judged,
and what is wrong in it changes nothing. Source: public/io/netif.h; verdicts: Linux's xen-netback/hash.c, which says
INVALID_PARAMETER where the header has BUFFER_OVERFLOW.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack
from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_source_gref
from xnet.abi.xen.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    CTRL_SLOT_SIZE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
)
from xnet.frame.arena import Arena
from xnet.hv.api import CopyOp, Xen
from xnet.netif.hashing import ALL_KINDS, KEY_SIZE, MOST_ENTRIES, Hashing
from xnet.ring import BackRing

ENTRY: Final = 4
"""Bytes of a mapping's entry: u32."""
SUCCESS: Final = XEN_NETIF_CTRL_STATUS_SUCCESS
NOT_SUPPORTED: Final = XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED
INVALID: Final = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
Operation = Callable[[int, int, int], tuple[int, int]]
"""The three data words of a request to status and data."""


class BackControl:
    """The ring is mapped and the port bound by the device. `changed` is called when frames are to take their hashes
    along, or no longer are."""

    def __init__(
        self,
        xen: Xen,
        domid: int,
        page: memoryview,
        port: int,
        *,
        arena: Arena,
        hashing: Hashing,
        queues: int,
        changed: Callable[[], None],
    ) -> None:
        """RingError on an absurd page."""
        self.xen = xen
        self.domid = domid
        self.port = port
        self.arena = arena
        self.hashing = hashing
        self.queues = queues
        self.changed = changed
        self.ring = BackRing.attach_at_rsp_prod(page, CTRL_SLOT_SIZE)
        self.operations: dict[int, Operation] = {
            XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS: self.get_flags,
            XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS: self.set_flags,
            XEN_NETIF_CTRL_TYPE_SET_HASH_KEY: self.set_key,
            XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE: self.get_mapping_size,
            XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE: self.set_mapping_size,
            XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING: self.set_mapping,
            XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM: self.set_algorithm,
        }

    def on_event(self) -> None:
        """The guest pushed requests. RingError."""
        ring, told = self.ring, self.hashing.told
        while data := ring.next_requests():
            ring.consume(len(data) // CTRL_SLOT_SIZE)
            answers = [self.answer(at, data) for at in range(0, len(data), CTRL_SLOT_SIZE)]
            if self.hashing.told is not told:
                told = not told
                self.changed()
            if ring.push_responses(b"".join(answers)):
                self.xen.send(self.port)

    def answer(self, at: int, data: bytes) -> bytes:
        """Carry out the request at a byte of `data`; the slot that answers it."""
        ident, kind, *words = CTRL_REQUEST.unpack_from(data, at)
        operation = self.operations.get(kind)
        status, result = (NOT_SUPPORTED, 0) if operation is None else operation(*words)
        return CTRL_RESPONSE.pack(ident, kind, status, result).ljust(CTRL_SLOT_SIZE, b"\0")

    # --- operations

    def set_algorithm(self, algorithm: int, *_: int) -> tuple[int, int]:
        """None or Toeplitz."""
        if algorithm not in (XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ):
            return INVALID, 0
        self.hashing.algorithm = algorithm
        return SUCCESS, 0

    def get_flags(self, *_: int) -> tuple[int, int]:
        """Kinds of flows there can be hashes of."""
        return (SUCCESS, ALL_KINDS) if self.hashing.on else (NOT_SUPPORTED, 0)

    def set_flags(self, flags: int, *_: int) -> tuple[int, int]:
        """Kinds of flows that have one; 0: none."""
        if flags & ~ALL_KINDS or not self.hashing.on:
            return INVALID, 0
        self.hashing.flags = flags
        return SUCCESS, 0

    def set_key(self, gref: int, size: int, *_: int) -> tuple[int, int]:
        """The key, at the beginning of a granted page."""
        key = self.fetch(gref, size) if size <= KEY_SIZE else None
        if key is None:
            return INVALID, 0
        self.hashing.key = key.ljust(KEY_SIZE, b"\0")
        return SUCCESS, 0

    def get_mapping_size(self, *_: int) -> tuple[int, int]:
        """The most entries a mapping may have."""
        return SUCCESS, MOST_ENTRIES

    def set_mapping_size(self, size: int, *_: int) -> tuple[int, int]:
        """So many entries, all of them queue 0; 0: no mapping."""
        if size > MOST_ENTRIES:
            return INVALID, 0
        self.hashing.mapping = [0] * size
        return SUCCESS, 0

    def set_mapping(self, gref: int, count: int, first: int) -> tuple[int, int]:
        """Some of the entries, from the beginning of a granted page; all of them are queues there are, or none is
        taken."""
        mapping = self.hashing.mapping
        if first + count > len(mapping) or count * ENTRY > PAGE_SIZE:
            return INVALID, 0
        data = self.fetch(gref, count * ENTRY)
        entries = () if data is None else unpack(f"<{count}I", data)
        if data is None or any(entry >= self.queues for entry in entries):
            return INVALID, 0
        mapping[first : first + count] = entries
        return SUCCESS, 0

    def fetch(self, gref: int, size: int) -> bytes | None:
        """A private copy of the beginning of a granted page; None: it cannot be had."""
        if not size:
            return b""
        mark = self.arena.mark()
        try:
            addr = self.arena.alloc(size)
            if addr < 0:
                return None
            op = CopyOp(
                gref, self.domid, 0, addr >> PAGE_SHIFT, DOMID_SELF, addr % PAGE_SIZE, size, GNTCOPY_source_gref
            )
            if self.xen.copy_grants([op]) is not None:
                return None
            return bytes(self.xen.window[addr : addr + size])
        finally:
            self.arena.release(mark)
