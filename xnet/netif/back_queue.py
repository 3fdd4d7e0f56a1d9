"""The backend's end of one queue: a tx ring to drain, an rx ring to fill.

tx (away from the guest): gather whole packets, fetch them in one batch of grant operations, hand the chain to the
link, answer every request. rx (toward the guest): copy frames into the pages the guest posted, or flip pages for them,
all slots of a packet published at once. What does not fit waits in `waiting`, within a bound and an age, and is dropped
by name past them.

Work stops by itself: no requests, or no room on the link. A guest cannot keep the others waiting: it does not run
before this end returns, so there is at most one ringful to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RX_SLOT_SIZE, XEN_NETIF_NR_SLOTS_MIN, XEN_NETIF_RSP_ERROR, XEN_NETIF_RSP_OKAY
from xnet.frame import Chain, Client, Frame, Frames, Link, head, own
from xnet.frame.arena import Arena
from xnet.frame.chain import POLLED
from xnet.frame.clock import Clock
from xnet.frame.offload import Accepts, fit
from xnet.hv.api import Xen
from xnet.netif.counters import Counters
from xnet.netif.credit import Credit
from xnet.netif.gather import Packet, guarded, responses, take
from xnet.netif.patience import Patience
from xnet.netif.repair import needs_repair, repaired
from xnet.netif.transport import CopyFetch, Deliver, Failure, MapFetch
from xnet.ring import BackRing, RingError

TX_BURST: Final = 64
"""Packets taken off a tx ring in one go."""
WAITING_BYTES: Final = 128 * PAGE_SIZE
"""Bytes kept for a guest that posts no buffers; Linux's netback keeps as many."""
SEGMENT: Final = 1514
WAITING_ROOM: Final = WAITING_BYTES // PAGE_SIZE
MOST_SLOTS: Final = XEN_NETIF_NR_SLOTS_MIN + 3
"""Of a frame: its pages, some of them short for headroom, and three extras."""
STATUS: Final = Struct("<h")
STATUS_AT: Final = 6
"""Where the status is in an rx response."""


class BackQueue(Client):
    """One connected queue. The rings are mapped and the ports bound by the device; `fail` is told of a rogue peer."""

    def __init__(
        self,
        xen: Xen,
        tx: BackRing,
        rx: BackRing,
        *,
        link: Link,
        fetcher: CopyFetch | MapFetch,
        deliverer: Deliver,
        arena: Arena,
        accepts: Accepts,
        tx_port: int,
        rx_port: int,
        fail: Callable[[str], None],
        counters: Counters,
        patience: Patience,
        carrier: Callable[[], None] = lambda: None,
        regroup: Callable[[bytes], bool] | None = None,
    ) -> None:
        """`carrier` is called when the queue stalls, or does no longer: see `patience`.
        `regroup` is told what a multicast filter's dummies say (`Groups.change`); None: there is no filter."""
        self.xen = xen
        self.fail = fail
        self.tx_ring = tx
        self.rx_ring = rx
        self.link = link
        self.fetcher = fetcher
        self.deliverer = deliverer
        self.arena = arena
        self.accepts = accepts
        self.tx_port = tx_port
        self.rx_port = rx_port
        self.counters = counters
        self.regroup = regroup
        self.credit: Credit | None = None
        """How much the guest may send; None: as much as it likes."""
        self.waiting: deque[tuple[int, bytes, float]] = deque()
        """Word, frame, and when it has waited too long."""
        self.waiting_bytes = 0
        self.patience = patience
        self.carrier = carrier
        patience.drained = guarded(self.drain, fail)
        patience.checked = guarded(self.check, fail)

    # --- tx: away from the guest

    def on_tx(self) -> None:  # hot
        """The frontend pushed tx requests."""
        ring = self.tx_ring
        came = 0  # the first by its event; what is there when that is done has been asked for
        while data := ring.next_requests():
            if not self.link.room():
                return  # the link says when it has room: link_ready
            if not self.tx_burst(data, came):
                return  # out of credit: its timer goes on
            came = POLLED

    def on_both(self) -> None:
        """One event channel for both rings: either may have news."""
        self.on_rx()
        self.on_tx()

    def link_ready(self) -> None:
        """The link, once without room, has it again."""
        guarded(self.on_tx, self.fail)()

    def tx_burst(self, data: bytes, came: int) -> bool:  # hot
        """Take up to TX_BURST whole packets off these slots, as many as the staging memory holds, that `came` so; False
        when there is no credit."""
        fetcher = self.fetcher
        if self.credit is not None:
            data = self.credit.afford(data, TX_BURST)
            if not data:
                return False
        mark = self.arena.mark()
        chain = Chain(self.xen.window, (), fetcher.bring)
        room = self.arena.free() >> 1  # the other half is for what this burst causes further on
        answers, slots = fetcher.fetch_burst(data, TX_BURST, room, chain.frames)
        if not slots:
            packets, slots = take(data, TX_BURST, room)
            fetcher.fetch(packets, chain.frames)
            if [packet for packet in packets if needs_repair(packet.word)]:
                chain = repaired(chain, self.arena, self.counters)
        chain.came = came
        self.tx_ring.consume(slots)
        if self.credit is not None:
            self.credit.charge(slots)
        self.counters.tx_slots += slots
        self.hand_on(chain)  # first: the frame is on its way while the guest is told
        fetcher.release()
        if not answers or fetcher.failures:
            answers = self.judge(fetcher.read(), fetcher.failures)
        self.respond(answers)
        self.arena.release(mark)
        return True

    def judge(self, packets: list[Packet], failures: dict[int, Failure]) -> bytes:
        """What packets are answered one by one; those that are dropped are counted."""
        answers = [packet.answers for packet in packets]
        for index, packet in enumerate(packets):
            error = packet.error
            if packet.group and self.regroup is not None:
                error = "" if self.regroup(packet.group) else "tx_multicast_full"
                if not error:
                    answers[index] = responses(packet.slots, packet.extras, XEN_NETIF_RSP_OKAY)
            elif index in failures:
                error, statuses = failures[index]
                answers[index] = responses(packet.slots, packet.extras, XEN_NETIF_RSP_ERROR, statuses)
            if error:
                self.counters.count("tx_errors")
                self.counters.count(error)
        return b"".join(answers)

    def hand_on(self, chain: Chain) -> None:  # hot
        """The chain leaves the guest's side."""
        frames = chain.frames
        if frames:
            counters = self.counters
            counters.tx_packets += len(frames)
            counters.tx_bytes += chain.size()
            self.link.tx(chain)

    def respond(self, answers: bytes) -> None:  # hot
        """A response for every request, in ring order."""
        if self.tx_ring.push_responses(answers):
            self.xen.send(self.tx_port)
            self.counters.tx_notified += 1
        else:
            self.counters.tx_suppressed += 1

    def limit(self, rate: tuple[int, int] | None, clock: Clock) -> None:
        """Let the guest send (bytes, in usec), or as much as it likes; from now on."""
        before, self.credit = self.credit, None if rate is None else Credit(rate, clock, self.link_ready)
        if before is not None:
            before.close()
            self.link_ready()  # what waited for credit

    # --- rx: toward the guest

    def room(self) -> int:
        """Pages the guest has posted, none while frames wait; the link is told when that changes."""
        ring = self.rx_ring
        try:
            if not self.waiting:
                room = ring.final_check_requests()
                if room:
                    return room
        except RingError as error:
            self.fail(str(error))
            return 0
        self.patience.starve(self.counters.rx_packets)
        return WAITING_ROOM if self.patience.overdue else 0

    def backlog(self) -> int:
        """Frames that wait, a long one for each segment it may become."""
        return max(len(self.waiting), -(-self.waiting_bytes // SEGMENT)) if self.waiting else 0

    def rx(self, chain: Chain) -> None:  # hot
        """Frames toward the guest."""
        mark = self.arena.mark()
        if chain.bring is not None and not self.deliverer.takes_lent:
            chain = chain.fetched()
        chain = fit(chain, self.accepts, self.arena, self.counters.others)
        try:
            done = 0 if self.waiting else self.rx_burst(chain.frames, chain.bring is not None)
            if done < 0:
                chain = chain.fetched()  # whose fault it is comes out there
                done = self.rx_burst(chain.frames)
            if done < len(chain.frames):
                left = chain.part(list(chain.frames)[done:]).fetched()
                for frame in left.frames:
                    self.defer(left, frame)
        except RingError as error:
            self.fail(str(error))
        finally:
            self.arena.release(mark)

    def on_rx(self) -> None:
        """The frontend posted buffers: what waits goes first."""
        if self.patience.stalled or self.patience.overdue:
            self.recover()
            self.carrier()
        waiting = self.waiting
        while waiting:
            mark = self.arena.mark()
            frames = Frames()
            for word, data, _ in waiting:
                addr = self.arena.alloc(len(data))
                if addr < 0:
                    break
                self.xen.window[addr : addr + len(data)] = data
                frames.append(own(word, addr, len(data)))
            done = self.rx_burst(frames)
            self.arena.release(mark)
            for _ in range(done):
                self.waiting_bytes -= len(waiting.popleft()[1])
            if not done:
                return
        self.link.client_ready()

    def rx_burst(self, frames: Frames, lent: bool = False) -> int:  # hot: 3 us for a 64 KiB frame
        """Deliver as many frames as the guest has buffers for; how many. -1 if they are `lent` (parts are still in
        another guest) and something failed: nothing has happened then."""
        ring = self.rx_ring
        requests = ring.peek_requests(MOST_SLOTS * len(frames))
        deliverer = self.deliverer
        answers, slots, done, size = deliverer.burst(frames, requests)
        if done:
            failed = deliverer.failed
            if failed:
                if lent:
                    return -1
                answers = self.mark_failed(list(frames)[:done], answers, requests, failed)
            self.publish(answers, slots, done, size)
        if done < len(frames):
            if deliverer.dry():
                self.counters.count("rx_no_pages")
            ring.want_requests(ring.unconsumed_requests() + 1)
        return done

    def publish(self, answers: bytes, slots: int, frames: int, size: int) -> None:  # hot
        """Answer rx requests, all slots of a frame at once; wake the guest if it asked for it."""
        ring, counters = self.rx_ring, self.counters
        ring.consume(slots)
        counters.rx_packets += frames
        counters.rx_bytes += size
        counters.rx_slots += slots
        if ring.push_responses(answers):
            self.xen.send(self.rx_port)
            counters.rx_notified += 1
        else:
            counters.rx_suppressed += 1

    def mark_failed(self, frames: list[Frame], answers: bytes, requests: bytes, failed: dict[int, int]) -> bytes:
        """Slots whose copy failed say so: the GNTST status, as Linux's netback answers."""
        grefs = memoryview(requests).cast("I")[1::2]
        marked = bytearray(answers)
        first = 0
        chain = Chain(self.xen.window)
        for frame in frames:
            end = first + self.deliverer.slots(frame[0], frame[1], head(chain, frame))
            bad = [slot for slot in range(first, end) if grefs[slot] in failed]
            for slot in bad:
                STATUS.pack_into(marked, slot * RX_SLOT_SIZE + STATUS_AT, failed[grefs[slot]])
            if bad:
                self.drop("rx_grant_error", 1)
            first = end
        return bytes(marked)

    def defer(self, chain: Chain, frame: Frame) -> None:
        """Keep a frame for a guest without buffers, if it may still wait."""
        word, length, _ = frame
        if self.waiting_bytes + length > WAITING_BYTES:
            self.drop("rx_queue_full", 1)
            return
        self.waiting.append((word, chain.tobytes(frame), self.patience.expiry()))
        self.waiting_bytes += length
        self.patience.starve(self.counters.rx_packets)
        self.counters.count("rx_defer")
        self.rx_ring.want_requests(self.rx_ring.unconsumed_requests() + 1)

    def tick(self) -> None:
        """Once a second: a guest that forgot to notify is looked at."""
        if self.waiting:
            self.on_rx()

    def drain(self) -> None:
        """A frame has waited too long, if buffers have not come without a word: it is dropped."""
        if self.waiting:
            self.on_rx()
        waiting, patience = self.waiting, self.patience
        now = patience.clock.now()
        while waiting and waiting[0][2] <= now:
            self.waiting_bytes -= len(waiting.popleft()[1])
            self.drop("rx_drain_timeout", 1)
        if waiting:
            patience.drain_at(waiting[0][2])
        elif not self.has_buffers() and self.counters.rx_packets == patience.fed:
            patience.overdue = True
        self.link.client_ready()

    def has_buffers(self) -> bool:
        """Whether the guest has posted enough for the first frame that waits, or any if there is none."""
        needed = 1
        if self.waiting:
            word, data, _ = self.waiting[0]
            needed = self.deliverer.slots(word, len(data), memoryview(data))
        available = self.rx_ring.unconsumed_requests()
        if available < needed:
            self.rx_ring.want_requests(needed)
        return available >= needed

    def check(self) -> None:
        """The guest had too few buffers a while ago: if it has got nothing since, and still has too few, it stalls."""
        if self.has_buffers():
            return
        if self.counters.rx_packets != self.patience.served:
            self.patience.starve(self.counters.rx_packets)
            return
        self.patience.stalled = True
        self.counters.count("rx_stalled")
        self.carrier()

    def recover(self) -> None:
        """There may be buffers again; the carrier is for the caller to see to."""
        if self.has_buffers():
            self.patience.overdue = self.patience.stalled = False

    def halt(self) -> None:
        """Do nothing by ourselves any more."""
        self.patience.close()
        if self.credit is not None:
            self.credit.close()

    def close(self) -> None:
        """Let go of the rings; what waited is dropped."""
        if self.waiting:
            self.drop("rx_disconnected", len(self.waiting))
            self.waiting.clear()
        self.deliverer.close()
        self.halt()
        self.tx_ring.release()
        self.rx_ring.release()

    def drop(self, name: str, count: int) -> None:
        """Count frames that will never arrive."""
        self.counters.count("rx_drops", count)
        self.counters.count(name, count)
