"""Hostile frontends, as a table: what each does, and what Linux's netback would make of it.

A rogue acts by bytes in its own pages (its rings, its buffers, its grant table), by its own domain's hypercalls and by
its own xenstore requests, through a `FrontByHand`; it never sees an object of the other side. `Verdict.reason` is what
the backend says when it gives the vif up; without one the vif goes on, and `answers` are the statuses of the tx slots
that were published. What the attacks are after is in the advisories: indices (XSA-39), offsets and sizes, runts and
empty slots (XSA-448), too many slots (XSA-423, -432), extras, and grants that are not what they are said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1, GTF_accept_transfer, GTF_permit_access
from xnet.abi.xen.netif import EXTRA_GSO, TX_REQUEST
from xnet.abi.xen.ring import REQ_EVENT, REQ_PROD, RSP_EVENT
from xnet.testing.byhand import FrontByHand

MORE, EXTRA = 4, 8
FRAME = 60
OKAY, NULL, ERROR = 0, 1, -1
GOOD = b"\xa5" * FRAME
"""What a rogue's own frames are full of: nothing else may ever come out of its vif."""

Act = Callable[[FrontByHand], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rogue does, and what it gets."""

    act: Act
    reason: str = ""
    answers: tuple[int, ...] = ()


def jump(distance: int) -> Act:
    """A producer index that is not the next."""
    return lambda hand: hand.publish(hand.tx_prod + distance)


def slots(*written: bytes) -> Act:
    """Raw slots, published."""

    def act(hand: FrontByHand) -> None:
        hand.put(*written)
        hand.publish()

    return act


def packet(sizes: Sequence[int], offset: int = 0, total: int | None = None, extras: Sequence[bytes] = ()) -> Act:
    """A slot of each size on a granted page; the first one claims `total`, else the sum."""

    def act(hand: FrontByHand) -> None:
        ref, _ = hand.give(GOOD * (PAGE_SIZE // FRAME), readonly=True)
        found = []
        for index, size in enumerate(sizes):
            flags = MORE * (index < len(sizes) - 1) | EXTRA * (not index and bool(extras))
            said = size if index else sum(sizes) if total is None else total
            found.append(TX_REQUEST.pack(ref, 0 if index else offset, flags, index, said & 0xFFFF))
        found[1:1] = extras
        slots(*found)(hand)

    return act


def entry(flags: int, domid: int, frame: int | None = None) -> Act:
    """A frame whose grant is an entry of these bytes; `frame` None: the page's own."""

    def act(hand: FrontByHand) -> None:
        ref, _ = hand.give(GOOD)
        xen = hand.guest.domain
        at = xen.grant_table_pfn * PAGE_SIZE + ref * GRANT_ENTRY_V1.size
        own = GRANT_ENTRY_V1.unpack_from(xen.window, at)[2]
        GRANT_ENTRY_V1.pack_into(xen.window, at, flags, domid, own if frame is None else frame)
        slots(TX_REQUEST.pack(ref, 0, 0, 1, FRAME))(hand)

    return act


def reference(ref: int) -> Act:
    """A frame at a reference that was never granted."""
    return slots(TX_REQUEST.pack(ref, 0, 0, 1, FRAME))


def half_revoked(hand: FrontByHand) -> None:
    """Two slots, the second one's grant ended before it is read."""
    found = hand.frame([(GOOD, 0), (GOOD, 0)])
    hand.xen.grant(hand.granted[-1][0], bytes(GRANT_ENTRY_V1.size))
    slots(*found)(hand)


def rewrite_answered(hand: FrontByHand) -> None:
    """A request changed, and its page too, once it was read: nobody looks again."""
    found = hand.frame([(GOOD, 0)])
    slots(*found)(hand)
    hand.tx.slot(hand.tx_prod - 1)[:2] = b"\xff\xff"  # the id of the answer, in our own page
    hand.xen.send(hand.ports[0])
    hand.world.step()
    hand.tx.slot(hand.tx_prod - 1)[:4] = bytes((100, 0, 0, 0))


def storm(hand: FrontByHand) -> None:
    """Ten thousand notifications about nothing."""
    for _ in range(10000):
        hand.xen.send(hand.ports[0])
    hand.world.step()


def never_wants_events(hand: FrontByHand) -> None:
    """Event indices that ask for a wake-up at every index, and at none."""
    for value in (0, 0x80000000, 0xFFFFFFFF):
        for ring in (hand.tx, hand.rx):
            ring.indices[REQ_EVENT] = ring.indices[RSP_EVENT] = value
        hand.xen.send(hand.ports[0])
        hand.world.step()


def rx_jump(distance: int) -> Act:
    """Buffers that were not posted; found out when the next frame wants one."""

    def act(hand: FrontByHand) -> None:
        hand.rx.indices[REQ_PROD] = (hand.rx_prod + distance) & 0xFFFFFFFF
        hand.xen.send(hand.ports[-1])
        hand.world.step()

    return act


def places(hand: FrontByHand, count: int) -> list[tuple[int, int]]:
    """Pages given up, and transfer grants for others in their stead: (reference, address) each, not posted."""
    xen = hand.xen
    found = [(xen.alloc_grefs(1), xen.alloc_pages(1)) for _ in range(count)]
    for ref, addr in found:
        xen.decrease_reservation(addr, 1)
        xen.grant(ref, xen.prepare_transfers(0, 1))
    return found


PAST = "request producer past the ring"
CROSSES = "slot crosses its page"
GSO = EXTRA_GSO.pack(1, 0, 1448, 1, 0, 0)


def extra(kind: int, more: bool = False) -> bytes:
    """Extra info of some type."""
    return bytes((kind, more, 0, 1, 94, 0, 0, 1))


FRONTENDS: dict[str, Verdict] = {
    "a producer past the ring": Verdict(jump(257), PAST),
    "a producer 2^31 ahead": Verdict(jump(1 << 31), PAST),
    "a producer one back": Verdict(jump(-1), PAST),
    "a producer a ring back": Verdict(jump(-256), PAST),
    "an rx producer past the ring": Verdict(rx_jump(600), PAST),
    "an rx producer 2^31 ahead": Verdict(rx_jump(1 << 31), PAST),
    "half a packet": Verdict(slots(TX_REQUEST.pack(9, 0, MORE, 1, 100)), "more data promised"),
    "a first slot over its page": Verdict(packet([200], offset=4000), CROSSES),
    "a first slot at the highest offset": Verdict(packet([200], offset=0xFFFF), CROSSES),
    "a later slot over its page": Verdict(packet([60, 5000]), CROSSES),
    "19 slots": Verdict(packet([60] * 19), answers=(OKAY,) * 19),
    "20 slots": Verdict(packet([60] * 20), answers=(ERROR,) * 20),
    "21 slots": Verdict(packet([60] * 21), answers=(ERROR,) * 21),
    "22 slots": Verdict(packet([60] * 22), "slots in a packet"),
    "a ringful of slots": Verdict(packet([60] * 256), "slots in a packet"),
    "20 slots, the last over its page": Verdict(packet([60] * 19 + [5000]), CROSSES),
    "an empty frame": Verdict(packet([0]), answers=(ERROR,)),
    "a frame of 13 bytes": Verdict(packet([13]), answers=(ERROR,)),
    "a first fragment of 13 bytes": Verdict(packet([13, 60]), answers=(ERROR, ERROR)),
    "empty later slots": Verdict(packet([60, 0, 0, 60, 0]), answers=(OKAY,) * 5),
    "fragments longer than the frame": Verdict(packet([60, 100], total=99), answers=(ERROR, ERROR)),
    "a whole length that wraps": Verdict(packet([4096] * 17), answers=(ERROR,) * 17),
    "an extra that is not there": Verdict(slots(TX_REQUEST.pack(9, 0, EXTRA, 1, 100)), "extra info promised"),
    "an extra of type 0": Verdict(packet([60], extras=[extra(0)]), "unknown extra info"),
    "an extra of type 6": Verdict(packet([60], extras=[extra(6)]), "unknown extra info"),
    "an extra of type 255": Verdict(packet([60], extras=[extra(255)]), "unknown extra info"),
    "extras without end": Verdict(packet([60], extras=[extra(4, more=True)] * 200), "extra info promised"),
    "200 extras": Verdict(
        packet([60], extras=[extra(4, more=True)] * 199 + [extra(4)]), answers=(OKAY, *(NULL,) * 200)
    ),
    "GSO of no size": Verdict(packet([60], extras=[EXTRA_GSO.pack(1, 0, 0, 1, 0, 0)]), "GSO size"),
    "GSO of no type": Verdict(packet([60], extras=[EXTRA_GSO.pack(1, 0, 1448, 9, 0, 0)]), "GSO type"),
    "GSO on what is not TCP": Verdict(packet([60], extras=[GSO]), answers=(OKAY, NULL)),
    "reference 0xffffffff": Verdict(reference(0xFFFFFFFF), answers=(ERROR,)),
    "a reference behind the table": Verdict(reference(512 * 64), answers=(ERROR,)),
    "a reference never granted": Verdict(reference(500), answers=(ERROR,)),
    "a grant to a stranger": Verdict(entry(GTF_permit_access, 1), answers=(ERROR,)),
    "a grant to itself": Verdict(entry(GTF_permit_access, DOMID_SELF), answers=(ERROR,)),
    "a transfer grant": Verdict(entry(GTF_accept_transfer, 0), answers=(ERROR,)),
    "a grant of type 3": Verdict(entry(3, 0), answers=(ERROR,)),
    "a grant of no frame": Verdict(entry(GTF_permit_access, 0, 0xFFFFFFFF), answers=(ERROR,)),
    "a grant of dom0's first frame": Verdict(entry(GTF_permit_access, 0, 600), answers=(ERROR,)),
    "a grant of the hypervisor's frame": Verdict(entry(GTF_permit_access, 0, 0), answers=(ERROR,)),
    "a grant ended half-way": Verdict(half_revoked, answers=(OKAY, ERROR)),
    "a request rewritten": Verdict(rewrite_answered, answers=(OKAY,)),
    "a storm of notifications": Verdict(storm),
    "event indices all over": Verdict(never_wants_events),
}
"""What a connected frontend does to its backend."""

KEYS: dict[str, dict[str, str | None]] = {
    "no queues": {"multi-queue-num-queues": "0"},
    "a million queues": {"multi-queue-num-queues": "1000000"},
    "more queues than a number": {"multi-queue-num-queues": "9" * 2000},
    "minus one queue": {"multi-queue-num-queues": "-1"},
    "no tx ring": {"tx-ring-ref": None},
    "no channel": {"event-channel": None},
    "a ring reference of words": {"tx-ring-ref": "eight"},
    "a ring reference of no bytes": {"rx-ring-ref": ""},
    "a negative ring reference": {"rx-ring-ref": "-9"},
    "a ring reference past 32 bits": {"tx-ring-ref": str(1 << 32)},
    "a ring reference without end": {"tx-ring-ref": "7" * 2000},
    "a ring that is not granted": {"tx-ring-ref": "77"},
    "a channel that is not there": {"event-channel": "900"},
    "a channel without end": {"event-channel": "1" * 2000},
    "a channel of words": {"event-channel": "\x00\xff"},
}
"""What a frontend writes before it says Connected (None: not written), and is not connected for."""
