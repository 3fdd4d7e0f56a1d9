"""The frontend's end of one queue: the pages, grants and rings of a netfront.

tx. A run of own pages (`arena`) takes frames as the device hands them over, each at the start of a page; page i has
request id i and grant reference tx_refs + i, so a burst's grants are a slice of a table made once. The device reserves
room for the largest frame, reads into it, commits the true length, and flushes the burst.

rx. 256 pages, one a ring slot, posted in ring order: slot k is page k, id k, reference rx_refs + k, as Linux's and
Windows' frontends do it. A frame's pages therefore lie side by side, but for an extra's in between.

A page is granted for as long as a request for it is out, and ended at the response. An end that is refused because
the backend still holds the page means a broken backend (XSA-396): BadRing, and nothing more is used with it.
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.abi.xen.netif import (
    RING_SLOTS,
    RX_REQUEST,
    RX_SLOT_SIZE,
    TX_RESPONSE,
    TX_SLOT_SIZE,
    XEN_NETIF_NR_SLOTS_MIN,
    XEN_NETIF_RSP_NULL,
    XEN_NETIF_RSP_OKAY,
)
from xnet.errors import HypercallError
from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    FRAME_MAX,
    GSO_TYPE_MASK,
    MOST_PAGES,
    Chain,
    Client,
    Sink,
    bytes_for,
)
from xnet.frame.ether import ETH_P_IPV6, ip_end, network, transport
from xnet.frame.offload import KIND, Accepts, finish_checksum, segment
from xnet.hv.api import Xen
from xnet.netif.counters import Counters
from xnet.netif.gather import BadRing
from xnet.netif.lent import give_back
from xnet.netif.posted import Posted, filled, pages_of, slots_of
from xnet.netif.repair import assembled
from xnet.netif.slots import answered, frames, requests
from xnet.ring import FrontRing

GRANT_SIZE: Final = GRANT_ENTRY_V1.size
TX_PAGES: Final = RING_SLOTS + 2 * MOST_PAGES
"""A ringful of pages in flight, and still a run free for the next frame, the end of the arena notwithstanding."""
QUEUE_PAGES: Final = 2 + RING_SLOTS + TX_PAGES
"""Of the guest's memory, and as many grant references: the rings, the rx buffers, the tx pages."""
TX_SLOTS: Final = XEN_NETIF_NR_SLOTS_MIN + 2
"""Free request slots wanted before a frame is read: data slots, the GSO extra, and one more, as Linux has it, which
stops at 237 requests in flight."""


class FrontQueue(Sink):
    """Rings, pages and grants of one queue; made for a connect, given up by `close`."""

    def __init__(
        self,
        xen: Xen,
        backend: int,
        *,
        device: Client,
        tx_port: int,
        rx_port: int,
        counters: Counters,
    ) -> None:
        self.xen = xen
        self.device = device
        self.tx_port = tx_port
        self.rx_port = rx_port
        self.counters = counters
        self.accepts = Accepts()
        """What the backend takes; set before the first frame."""
        self.pages = QUEUE_PAGES
        """What it has of the domain's memory, each with a grant reference."""
        self.addr = xen.alloc_pages(QUEUE_PAGES)
        try:
            self.refs = xen.alloc_grefs(QUEUE_PAGES)
        except HypercallError:
            xen.free_pages(self.addr, QUEUE_PAGES)
            raise
        self.memory = window = xen.window
        self.tx_ring = FrontRing(window[self.addr : self.addr + PAGE_SIZE], TX_SLOT_SIZE)
        self.rx_ring = FrontRing(window[self.addr + PAGE_SIZE : self.addr + 2 * PAGE_SIZE], RX_SLOT_SIZE)
        self.tx_ring.init()
        self.rx_ring.init()
        self.ring_grants = xen.prepare_grants(backend, self.addr, 2, readonly=False)
        xen.grant(self.refs, self.ring_grants)
        # rx: page k, id k, reference rx_refs + k
        self.rx_addr = self.addr + 2 * PAGE_SIZE
        self.rx_refs = self.refs + 2
        self.rx_grants = self.prepare_rx(backend)
        self.rx_requests = b"".join([RX_REQUEST.pack(k, 0, self.rx_refs + k) for k in range(RING_SLOTS)])
        # tx: page i, id i, reference tx_refs + i
        self.tx_addr = self.rx_addr + RING_SLOTS * PAGE_SIZE
        self.tx_refs = self.rx_refs + RING_SLOTS
        self.tx_grants = xen.prepare_grants(backend, self.tx_addr, TX_PAGES, readonly=True)
        self.tx_head = 0
        self.tx_clear = TX_PAGES
        """The pages from the head up to here are free, as far as is known."""
        self.unsent: list[Posted] = []
        """Frames of the burst that are not on the ring yet, side by side in the run of pages."""
        self.unsent_slots = self.unsent_bytes = 0
        self.in_flight: list[Posted] = []
        """Frames whose responses are awaited, in ring order; each lies behind the one before, or at page 0."""
        self.answered: set[int] = set()
        """Pages of these whose response came out of order; their grants have ended."""
        self.dummies: set[int] = set()
        """Requests without a page, for a multicast filter, that are out; `refused`: it had no place for a group."""
        self.refused = False
        self.post()

    # --- tx: away from the guest

    def reserve(self) -> tuple[int, int] | None:  # hot
        """Memory for frames, or None while ring or pages are full: wait for `on_tx`."""
        free = self.tx_ring.free_requests() - self.unsent_slots
        if free < TX_SLOTS:
            return None
        head = self.tx_head
        if head + MOST_PAGES > self.tx_clear:
            if head + MOST_PAGES > TX_PAGES:
                self.stage()
                self.tx_head = head = 0
            in_flight = self.in_flight
            oldest = in_flight[0][0] if in_flight else -1
            self.tx_clear = oldest if oldest >= head else TX_PAGES  # behind the head: the way is free up to the end
            if head + MOST_PAGES > self.tx_clear:
                return None
        addr = self.tx_addr + (head << PAGE_SHIFT)
        if not self.accepts.all:
            return addr, FRAME_MAX  # what has to be segmented takes the place behind it
        return addr, min(self.tx_clear - head << PAGE_SHIFT, bytes_for(free))

    def free_slots(self) -> int:
        """Request slots that may still be filled."""
        return self.tx_ring.free_requests() - self.unsent_slots

    def commit(self, word: int, lengths: list[int]) -> None:  # hot
        """The reserved memory holds frames: they go with the burst."""
        accepts = self.accepts
        taken = word & KIND in accepts.kinds
        for length in lengths:
            if not taken:
                self.finish(word, length)
            elif length > accepts.max_frame:
                self.counters.count("tx_oversize")
                self.stage()  # what is side by side ends here
                self.tx_head += filled(length)
            else:
                self.place(word, length)

    def finish(self, word: int, length: int) -> None:
        """The device left undone what the backend does not do: checksum or segment here, where the frame lies."""
        addr = self.tx_addr + (self.tx_head << PAGE_SHIFT)
        view = self.memory[addr : addr + length]
        place, found = transport(view, length), network(view, length)
        if place is None or found is None:
            return self.counters.count("tx_malformed")
        blank = self.accepts.csum6 if found[1] == ETH_P_IPV6 else self.accepts.csum4
        if word & GSO_TYPE_MASK:
            return self.place_segments(segment(bytes(view), length, word, finish=not blank), blank)
        if length > self.accepts.max_frame:
            return self.counters.count("tx_oversize")
        if not blank:
            finish_checksum(view, ip_end(view, length), place[0], place[1])
        return self.place(word if blank else 0, length)

    def place_segments(self, parts: list[bytearray] | None, blank: bool) -> None:
        """Put what a frame was segmented into on the ring; the first is the longest."""
        if parts is None:
            return self.counters.count("tx_malformed")
        if len(parts[0]) > self.accepts.max_frame:
            return self.counters.count("tx_oversize")
        for part in parts:
            room = self.reserve()
            if room is None:
                return self.counters.count("tx_no_room")
            addr, _ = room
            self.memory[addr : addr + len(part)] = part
            self.place(CSUM_BLANK | DATA_VALIDATED if blank else 0, len(part))
        return None

    def place(self, word: int, length: int) -> None:  # hot
        """The frame at the head goes with the burst."""
        self.unsent.append((self.tx_head, word, length))
        self.unsent_slots += slots_of(word, length)
        self.unsent_bytes += length
        self.tx_head += filled(length)

    def stage(self) -> None:  # hot: 1 us
        """Grant the pages of the burst so far and fill its slots, unpublished."""
        unsent = self.unsent
        if not unsent:
            return
        page, _, _ = unsent[0]
        self.xen.grant(self.tx_refs + page, self.tx_grants[page * GRANT_SIZE : self.tx_head * GRANT_SIZE])
        self.tx_ring.add_requests(requests(unsent, self.tx_refs))
        self.in_flight.extend(unsent)
        self.staged()

    def staged(self) -> None:  # hot
        """The burst so far is on the ring."""
        counters, unsent = self.counters, self.unsent
        counters.tx_packets += len(unsent)
        counters.tx_bytes += self.unsent_bytes
        counters.tx_slots += self.unsent_slots
        self.unsent_slots = self.unsent_bytes = 0
        unsent.clear()

    def flush(self) -> None:  # hot
        """Publish the burst."""
        self.stage()
        if self.tx_ring.unpushed():
            self.push()

    def push(self) -> None:  # hot
        """Publish what is on the ring; wake the backend if it asked for it."""
        if self.tx_ring.push_requests():
            self.xen.send(self.tx_port)
            self.counters.tx_notified += 1
        else:
            self.counters.tx_suppressed += 1

    def dummy_id(self) -> int:
        """An id that no page's request has."""
        return next(ident for ident in range(TX_PAGES, 1 << 16) if ident not in self.dummies)

    def dummy_answered(self, ident: int, status: int) -> None:
        """The backend's filter took what it was told, or is full."""
        self.dummies.remove(ident)
        if status != XEN_NETIF_RSP_OKAY:
            self.counters.count("tx_multicast_refused")
            self.refused = True

    def on_tx(self) -> None:  # hot: 2 us a burst
        """The backend answered tx requests: their grants end, their pages are free."""
        ring = self.tx_ring
        while data := ring.next_responses():
            self.reap(data)
        if not self.in_flight and not self.unsent:
            self.tx_head, self.tx_clear = 0, TX_PAGES  # the pages used last are the ones in the cache
        self.device.link_ready()

    def on_both(self) -> None:
        """One event channel for both rings: either may have news."""
        self.on_rx()
        self.on_tx()

    def reap(self, data: bytes) -> None:  # hot
        """Take responses in ring order: run by run of frames the backend answered as expected, else slot by slot."""
        at, count = 0, len(data)
        while at < count:
            done = 0
            if not self.answered:
                done, at = answered(self.in_flight, data, at)
            if done:
                self.end_first(done)
            else:
                self.reap_one(data, at)
                at += TX_SLOT_SIZE

    def end_first(self, count: int) -> None:  # hot
        """The backend is done with the first `count` frames in flight, which lie side by side."""
        in_flight = self.in_flight
        first, _, _ = in_flight[0]
        last, _, length = in_flight[count - 1]
        self.end(first, last + filled(length))
        del in_flight[:count]

    def reap_one(self, data: bytes, at: int) -> None:
        """One response of a backend that answers in an order of its own, or with an error."""
        ident, status = TX_RESPONSE.unpack_from(data, at)
        if status == XEN_NETIF_RSP_NULL:
            return  # an extra's
        if ident in self.dummies:
            self.dummy_answered(ident, status)
            return
        in_flight, early = self.in_flight, self.answered
        if ident in early or not any(ident in pages_of(posted) for posted in in_flight):
            raise BadRing(f"tx response for a request that is not out (id {ident})")
        if status != XEN_NETIF_RSP_OKAY:
            self.counters.count("tx_errors")
        self.page_answered(ident)

    def page_answered(self, page: int) -> None:
        """The backend is done with one page; the frames before it that it is done with are over."""
        in_flight, early = self.in_flight, self.answered
        self.end(page, page + 1)
        early.add(page)
        while in_flight and early.issuperset(pages := pages_of(in_flight[0])):
            early.difference_update(pages)
            del in_flight[0]

    def end(self, page: int, after: int) -> None:  # hot
        """The backend is done with the pages from `page` up to `after`."""
        if not self.xen.end_grant(self.tx_refs + page, self.tx_grants[page * GRANT_SIZE : after * GRANT_SIZE]):
            raise BadRing(f"tx page answered, but still in use by the backend (id {page})")

    # --- rx: toward the guest

    def prepare_rx(self, backend: int) -> bytes:
        """The entries by which the backend gets at the rx buffers."""
        return self.xen.prepare_grants(backend, self.rx_addr, RING_SLOTS, readonly=False)

    def lend(self, first: int, count: int) -> None:  # hot
        """Let the backend have the buffers of `count` slots, from `first` on."""
        self.xen.grant(self.rx_refs + first, self.rx_grants[first * GRANT_SIZE : (first + count) * GRANT_SIZE])

    def take_back(self, first: int, count: int) -> None:  # hot
        """End what the backend has of the buffers of answered slots. BadRing while it still uses one."""
        grants = self.rx_grants[first * GRANT_SIZE : (first + count) * GRANT_SIZE]
        if not self.xen.end_grant(self.rx_refs + first, grants):
            raise BadRing(f"rx page answered, but still in use by the backend (slot {first})")

    def give_back_rx(self) -> None:
        """Give back the buffers' pages and references."""
        give_back(self.xen, self.counters, self.rx_addr, self.rx_refs, self.rx_grants)

    def post(self) -> None:  # hot: 2 us
        """Grant and post every free rx buffer; wake the backend if it waits for them."""
        ring = self.rx_ring
        count = ring.free_requests()
        first = ring.req_prod_pvt & (RING_SLOTS - 1)
        while count:
            run = min(count, RING_SLOTS - first)
            self.lend(first, run)
            ring.add_requests(self.rx_requests[first * RX_SLOT_SIZE : (first + run) * RX_SLOT_SIZE])
            count -= run
            first = 0
        if ring.push_requests():
            self.xen.send(self.rx_port)
            self.counters.rx_notified += 1
        else:
            self.counters.rx_suppressed += 1

    def on_rx(self) -> None:  # hot: 3 us a burst, 1 a frame
        """The backend filled rx buffers: end their grants, hand the frames to the device, post the buffers again."""
        ring = self.rx_ring
        while data := ring.next_responses():
            count = len(data) // RX_SLOT_SIZE
            first = (ring.rsp_cons - count) & (RING_SLOTS - 1)
            self.end_rx(first, count)
            self.receive(data, first, count)
            self.post()

    def receive(self, data: bytes, first: int, count: int) -> None:  # hot
        """Frames out of response slots."""
        found = frames(data, first, self.rx_addr)
        if found is None:
            found, bad = assembled(self.memory, data, first, self.rx_addr)
            if bad:
                self.counters.count("rx_errors", bad)
        if found:
            self.arrived(Chain(self.memory, found), count)

    def arrived(self, chain: Chain, slots: int) -> None:  # hot
        """Frames go to the device."""
        counters = self.counters
        counters.rx_packets += len(chain.frames)
        counters.rx_slots += slots
        counters.rx_bytes += chain.size()
        self.device.rx(chain)

    def end_rx(self, first: int, count: int) -> None:  # hot
        """No page is read before the backend has lost it."""
        while count:
            run = min(count, RING_SLOTS - first)
            self.take_back(first, run)
            count -= run
            first = 0

    # --- the end

    def close(self) -> None:
        """Give back pages and references. What the backend still holds stays granted, and is lost to us."""
        self.tx_ring.release()
        self.rx_ring.release()
        give_back(self.xen, self.counters, self.addr, self.refs, self.ring_grants)
        self.give_back_rx()
        give_back(self.xen, self.counters, self.tx_addr, self.tx_refs, self.tx_grants)
