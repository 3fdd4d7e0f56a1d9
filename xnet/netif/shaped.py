"""The frontend's end of one queue as others than Linux have it: the same rings, pages and rules, another `Shape`.

A frame still lies at the start of a page of the run when it is committed. From there it is cut into the slots that this
frontend would use: from where it lies; its headers in a buffer of their own (Windows); or all of it in pages that stay
granted (MirageOS). Ids are of the frontend's own choosing, so what is out is kept by id. What the backend answers is
looked at slot by slot, with the eyes of that frontend: where its code asserts or raises, the connection is broken here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RING_SLOTS,
    RX_REQUEST,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    TX_REQUEST,
    TX_RESPONSE,
    TX_SLOT_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_RSP_DROPPED,
    XEN_NETIF_RSP_ERROR,
    XEN_NETIF_RSP_NULL,
    XEN_NETIF_RSP_OKAY,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xnet.errors import HypercallError
from xnet.frame import (
    CSUM_BLANK,
    GSO_SIZE_SHIFT,
    GSO_TYPE_MASK,
    GSO_TYPE_SHIFT,
    MOST_PAGES,
    Chain,
    Client,
    Frames,
    bytes_for,
)
from xnet.hv.api import Xen
from xnet.netif.assemble import read
from xnet.netif.blocks import Blocks, headers_of
from xnet.netif.counters import Counters
from xnet.netif.front_bounced import BouncedQueue
from xnet.netif.front_flip import FlipQueue
from xnet.netif.front_queue import GRANT_SIZE, FrontQueue
from xnet.netif.gather import BadRing
from xnet.netif.lent import give_back
from xnet.netif.posted import EXTRA_PADDING, Posted, filled
from xnet.netif.profile import Shape
from xnet.netif.repair import blanked
from xnet.ring import RingError

Cut = list[tuple[int, int, bool]]
"""A frame's data slots: (offset in the frame, bytes, whether they are copied into a block)."""
LAZY_SLOTS: Final = RING_SLOTS // 4
"""A frontend that looks late at tx responses looks when fewer request slots are free."""
NOTHING: Final = -1


class ShapedQueue(FrontQueue):
    """A `FrontQueue` with a `Shape`. `fail` is told of a broken backend when nobody else could be."""

    def __init__(
        self,
        xen: Xen,
        backend: int,
        *,
        shape: Shape,
        fail: Callable[[str], None],
        device: Client,
        tx_port: int,
        rx_port: int,
        counters: Counters,
    ) -> None:
        self.shape = shape
        self.fail = fail
        self.cuts: list[Cut] = []
        """Of the frames in `unsent`."""
        self.out: dict[int, tuple[int, int, int]] = {}
        """tx requests that are out, by id: page of the run, or block and its bytes; NOTHING for none."""
        self.last_id = len(shape.ids) - 1
        self.starved = False
        """Request slots ran out, and a response is waited for."""
        self.over = False
        """The backend was found broken where nobody else could be told."""
        self.rx_expected = list(range(RING_SLOTS))
        """Id of the request in each rx slot."""
        self.rx_serial = 0
        super().__init__(xen, backend, device=device, tx_port=tx_port, rx_port=rx_port, counters=counters)
        self.blocks: Blocks | None = None
        size = shape.block or shape.header
        if size:
            pages = RING_SLOTS if shape.block else RING_SLOTS * size // PAGE_SIZE
            try:
                self.blocks = Blocks(xen, backend, pages, size)
            except HypercallError:
                super().close()
                raise
            self.pages += pages

    # --- tx: away from the guest

    def reserve(self) -> tuple[int, int] | None:
        """As `FrontQueue.reserve`, with this frontend's idea of room."""
        lazy = self.shape.lazy
        if lazy and self.free_slots() < LAZY_SLOTS:
            self.reap_late(ask=False)
        found = self.room()
        if found is None and lazy:
            self.starved = True
            self.reap_late(ask=True)
            found = self.room()
        return None if self.over else found

    def free_slots(self) -> int:
        """See `FrontQueue`. One that was answered with NULL, and was no extra's, is free; its id and block are not."""
        return min(super().free_slots(), RING_SLOTS - len(self.out) - self.unsent_slots)

    def room(self) -> tuple[int, int] | None:
        """Memory for frames, as far as request slots go."""
        free = self.free_slots()
        found = super().reserve() if free >= self.shape.free_slots else None
        if found is None:
            return None
        # with headers apart a page may take three slots: headers, the rest, and the GSO extra
        size = max(free // 3, MOST_PAGES) << PAGE_SHIFT if self.shape.header else bytes_for(free)
        return found[0], min(found[1], size)

    def reap_late(self, *, ask: bool) -> None:
        """Look at the tx responses that are there; if wished, ask for an event at the next."""
        ring = self.tx_ring
        try:
            count = ring.unconsumed_responses()
            while count:
                self.reap(ring.take_responses(count))
                count = ring.unconsumed_responses()
            if ask and ring.final_check_responses():
                self.reap_late(ask=True)
        except (RingError, BadRing) as error:
            self.over = True
            self.fail(str(error))

    def place(self, word: int, length: int) -> None:
        """The frame at the head goes with the burst."""
        addr = self.tx_addr + (self.tx_head << PAGE_SHIFT)
        least = self.shape.min_frame
        if length < least:
            self.memory[addr + length : addr + least] = bytes(least - length)
            length = least
        cut = self.cut(self.memory[addr : addr + length])
        self.cuts.append(cut)
        self.unsent.append((self.tx_head, word, length))
        self.unsent_slots += len(cut) + (word & GSO_TYPE_MASK > 0)
        self.unsent_bytes += length
        self.tx_head += filled(length)

    def cut(self, view: memoryview) -> Cut:
        """How a frame is laid out in slots."""
        shape, length = self.shape, len(view)
        cut: Cut = []
        at = 0
        if shape.header:
            at = min(headers_of(view), shape.header)
            cut.append((0, at, True))
        while at < length:
            size = min(length - at, PAGE_SIZE - at % PAGE_SIZE)
            cut.append((at, size, shape.block > 0))
            at += size
        return cut

    def stage(self) -> None:
        """Grant the pages of the burst so far and fill its slots."""
        unsent = self.unsent
        if not unsent:
            return
        if not self.shape.block:
            page, _, _ = unsent[0]
            self.xen.grant(self.tx_refs + page, self.tx_grants[page * GRANT_SIZE : self.tx_head * GRANT_SIZE])
            self.in_flight.extend(unsent)
        ring, group = self.tx_ring, 0
        for posted, cut in zip(unsent, self.cuts, strict=True):
            slots = self.slots_for(posted, cut)
            ring.add_requests(b"".join(slots))
            group += len(slots)
            if group >= self.shape.group:
                self.push()
                group = 0
        self.staged()
        self.cuts.clear()

    def slots_for(self, posted: Posted, cut: Cut) -> list[bytes]:
        """The request slots of one frame; they count as out from now on."""
        first, word, length = posted
        flags = self.shape.blank if word & CSUM_BLANK else word & self.shape.blank & NETTXF_data_validated
        flags |= NETTXF_extra_info if word & GSO_TYPE_MASK else 0
        slots: list[bytes] = []
        for at, size, copied in cut:
            page = first + (at >> PAGE_SHIFT)
            gref, offset, block = self.tx_refs + page, at % PAGE_SIZE, NOTHING
            if copied and self.blocks is not None:
                block = self.blocks.take(size)
                addr, gref, offset = self.blocks.place(block)
                start = self.tx_addr + (first << PAGE_SHIFT) + at
                self.memory[addr : addr + size] = self.memory[start : start + size]
                if self.shape.block or at + size < min(length, PAGE_SIZE):
                    page = NOTHING  # what follows is sent from it, or nothing is
            ident = self.next_id()
            self.out[ident] = (page, block, size)
            more = NETTXF_more_data if at + size < length else 0
            slots.append(TX_REQUEST.pack(gref, offset, flags | more, ident, size if at else length))
            flags = 0
        if word & GSO_TYPE_MASK:
            kind, mss = (word & GSO_TYPE_MASK) >> GSO_TYPE_SHIFT, word >> GSO_SIZE_SHIFT
            slots.insert(1, EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, mss, kind, 0, 0) + EXTRA_PADDING)
        return slots

    def next_id(self) -> int:
        """An id that is not out: the next one round. There are as many as request slots, or more."""
        ids = self.shape.ids
        while True:
            self.last_id = (self.last_id + 1) % len(ids)
            if ids[self.last_id] not in self.out:
                return ids[self.last_id]

    def dummy_id(self) -> int:
        """As any other."""
        ident = self.next_id()
        self.out[ident] = (NOTHING, NOTHING, 0)
        return ident

    def on_tx(self) -> None:
        """The backend answered tx requests; who looks late does so only when he waits for it."""
        if not self.shape.lazy or self.starved:
            self.starved = False
            super().on_tx()

    def reap(self, data: bytes) -> None:
        """Take responses, slot by slot."""
        for at in range(0, len(data), TX_SLOT_SIZE):
            ident, status = TX_RESPONSE.unpack_from(data, at)
            if status == XEN_NETIF_RSP_NULL:
                continue  # an extra's
            found = self.out.pop(ident, None)
            if found is None:
                raise BadRing(f"tx response for a request that is not out (id {ident})")
            if ident in self.dummies:
                self.dummy_answered(ident, status)
                continue
            page, block, size = found
            if block != NOTHING and self.blocks is not None:
                self.blocks.give_back(block, size)
            if page != NOTHING:
                self.page_answered(page)
            if status != XEN_NETIF_RSP_OKAY:
                self.not_sent(status)

    def not_sent(self, status: int) -> None:
        """The backend did not take a frame's slot."""
        if self.shape.status_checked and status not in (XEN_NETIF_RSP_ERROR, XEN_NETIF_RSP_DROPPED):
            raise BadRing(f"unknown status in a tx response ({status})")
        if self.shape.tells_dropped and status == XEN_NETIF_RSP_DROPPED:
            self.counters.count("tx_dropped")
        else:
            self.counters.count("tx_errors")

    # --- rx: toward the guest

    def post(self) -> None:
        """Grant and post every free rx buffer."""
        if self.shape.rx_ids == "running":
            ring = self.rx_ring
            requests = bytearray(self.rx_requests)
            for index in range(ring.req_prod_pvt, ring.req_prod_pvt + ring.free_requests()):
                slot = index % RING_SLOTS
                RX_REQUEST.pack_into(requests, slot * RX_SLOT_SIZE, self.rx_serial, 0, self.rx_refs + slot)
                self.rx_expected[slot] = self.rx_serial
                self.rx_serial = (self.rx_serial + 1) & 0xFFFF
            self.rx_requests = bytes(requests)
        super().post()

    def receive(self, data: bytes, first: int, count: int) -> None:
        """Frames out of response slots, as far as this frontend takes them."""
        found = Frames()
        at = 0
        while at < count:
            frame, after = read(data, at, first, self.rx_addr)
            known = self.judge(data, at, after, first)
            if frame is None or not known:
                self.counters.count("rx_errors")
            else:
                found.append(frame)
            at = after
        kept = blanked(self.memory, found)
        if len(kept) < len(found):
            self.counters.count("rx_errors", len(found) - len(kept))
        if kept:
            self.arrived(Chain(self.memory, kept), count)

    def judge(self, data: bytes, at: int, after: int, first: int) -> bool:
        """Whether this frontend knows all that is in the slots of one frame. BadRing where its code would stop."""
        shape = self.shape
        _, _, flags, _ = RX_RESPONSE.unpack_from(data, at * RX_SLOT_SIZE)
        extra, known = bool(flags & NETRXF_extra_info), True
        for i in range(at, after):
            if extra and i > at:
                extra = bool(data[i * RX_SLOT_SIZE + 1] & XEN_NETIF_EXTRA_FLAG_MORE)
                known = self.judge_extra(data, i, flags) and known
                continue
            slot = (first + i) % RING_SLOTS
            ident, _, _, status = RX_RESPONSE.unpack_from(data, i * RX_SLOT_SIZE)
            if shape.rx_by_id and ident != self.rx_expected[slot]:
                raise BadRing(f"rx response with an id that was not posted there (id {ident} in slot {slot})")
            if shape.rx_unsigned and status < 0:
                raise BadRing(f"rx response longer than a page ({status & 0xFFFF})")
        return known

    def judge_extra(self, data: bytes, i: int, flags: int) -> bool:
        """Whether the extra in slot `i` is one this frontend knows."""
        kind, _, size, _, _, _ = EXTRA_GSO.unpack_from(data, i * RX_SLOT_SIZE)
        known = kind in self.shape.rx_extras
        if self.shape.rx_asserts:
            both = NETRXF_csum_blank | NETRXF_data_validated
            if not known:
                raise BadRing(f"unknown extra in an rx response (type {kind})")
            if kind == XEN_NETIF_EXTRA_TYPE_GSO and (not size or flags & both != both):
                raise BadRing(f"GSO without size or blank checksum in an rx response (size {size}, flags {flags})")
        return known

    def close(self) -> None:
        """Give back pages and references."""
        super().close()
        if self.blocks is not None:
            for addr, ref, entry in self.blocks.grants():
                give_back(self.xen, self.counters, addr, ref, entry)


def front_queue(
    xen: Xen,
    backend: int,
    shape: Shape | None,
    *,
    flip: bool,
    bounce: bool,
    fail: Callable[[str], None],
    device: Client,
    tx_port: int,
    rx_port: int,
    counters: Counters,
) -> FrontQueue:
    """A queue of this shape; of Linux's, without one, whose pages may be flipped."""
    if shape is None:
        make = FlipQueue if flip else BouncedQueue if bounce else FrontQueue
        return make(xen, backend, device=device, tx_port=tx_port, rx_port=rx_port, counters=counters)
    return ShapedQueue(
        xen, backend, shape=shape, fail=fail, device=device, tx_port=tx_port, rx_port=rx_port, counters=counters
    )
