"""Hostile backends, as a table: what each does to a frontend, and what Linux's netfront would make of it.

A rogue acts by bytes in the ring pages that it mapped, by hypercalls on the references it was told of, and by xenstore,
through a `BackByHand`; it never sees an object of the other side. `Outcome.reason` is what the frontend says when it
uses nothing more of the connection (Linux's `broken`: indices, ids, grants that are still in use, XSA-396); without one
it goes on, and what was wrong is an error it counts. Where another frontend's code decides otherwise it is in `others`:
Windows asserts, MirageOS raises.

When an act begins, `requests` for frames of the guest's are out, and every rx buffer is posted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GNTST_okay
from xnet.abi.xen.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST
from xnet.abi.xen.ring import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.hv.api import Mapping as Mapped
from xnet.testing.byhand import BackByHand
from xnet.testing.frames import tcp
from xnet.testing.rogue import EXTRA, FRAME, GOOD, MORE, NULL, OKAY, extra

Act = Callable[[BackByHand], None]
Part = tuple[int, int, int] | bytes
"""An rx response: (offset, flags, status), its id as it should be; or an extra's bytes."""
WHOLE = GOOD * (PAGE_SIZE // FRAME + 1)
VALID, BLANK = 1, 2
HASH = 4
ALL = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rogue does, and what comes of it. `alive`: whether an honest frame passes each way afterwards."""

    act: Act
    reason: str = ""
    rx_errors: int = 0
    tx_errors: int = 0
    """Or `ALL` that are out."""
    frames: int = 0
    """How many the guest gets."""
    alive: bool = True
    others: Mapping[str, str] = field(default_factory=dict)
    """Reasons by profile, where they differ."""
    judged: Mapping[str, int] = field(default_factory=dict)
    """rx errors by profile, where they differ; a frame that is none is one that the guest gets."""


# --- the guest's requests


def outstanding(hand: BackByHand) -> list[tuple[int, int]]:
    """(id, reference) of the data requests published since the last look."""
    found, skip = [], False
    for slot in hand.requests():
        if skip:
            skip = False
            continue
        ref, _, flags, ident, _ = TX_REQUEST.unpack(slot)
        found.append((ident, ref))
        skip = bool(flags & EXTRA)
    return found


def answer(*chosen: int, status: int = OKAY) -> Act:
    """Answer requests by their places; -1 is the last."""

    def act(hand: BackByHand) -> None:
        found = outstanding(hand)
        hand.respond(*[(found[place][0], status) for place in chosen])

    return act


def answer_all(status: int) -> Act:
    """Answer every request with a status."""
    return lambda hand: hand.respond(*[(ident, status) for ident, _ in outstanding(hand)])


def backwards(hand: BackByHand) -> None:
    """Every request, the last one first."""
    hand.respond(*[(ident, OKAY) for ident, _ in reversed(outstanding(hand))])


def unknown(ident: int) -> Act:
    """An id that nobody has given."""
    return lambda hand: hand.respond((ident, OKAY))


def next_id(hand: BackByHand) -> None:
    """An id that is the frontend's, and not out."""
    hand.respond((outstanding(hand)[-1][0] + 1, OKAY))


def index(which: str, word: int, distance: int) -> Act:
    """An index that is not the next."""

    def act(hand: BackByHand) -> None:
        ring, at = (hand.tx, hand.tx_rsp) if which == "tx" else (hand.rx, hand.rx_rsp)
        ring.indices[word] = (at + distance) & 0xFFFFFFFF
        hand.xen.send(hand.ports[0 if which == "tx" else -1])
        hand.world.step()

    return act


def one_too_far(hand: BackByHand) -> None:
    """One answer more than there are requests."""
    index("tx", RSP_PROD, len(hand.requests()) + 1)(hand)


def keep_tx(hand: BackByHand) -> None:
    """Answer for pages that are still mapped."""
    found = outstanding(hand)
    hand.mappings.append(hand.map(found[3][1], readonly=True))
    hand.respond(*[(ident, OKAY) for ident, _ in found])


# --- the guest's buffers


def into(hand: BackByHand, ref: int, data: bytes, offset: int = 0) -> None:
    """Bytes into a posted buffer, as it is granted: by a mapping, or by a page of our own that changes hands."""
    xen = hand.xen
    [found] = xen.map_grants(hand.domid, [ref], readonly=False)
    if isinstance(found, Mapped):
        xen.window[found.addr + offset : found.addr + offset + len(data)] = data
        xen.unmap_grants([found.handle])
        return
    addr = xen.alloc_pages(1)
    xen.window[addr + offset : addr + offset + len(data)] = data
    assert xen.transfer([addr], xen.increase_reservation(1), hand.domid, [ref]) == [GNTST_okay]
    xen.free_pages(addr, 1)


def rx(*parts: Part, data: bytes = WHOLE, wrong_id: bool = False) -> Act:
    """Responses, their buffers full of `data`."""

    def act(hand: BackByHand) -> None:
        slots = []
        for number, part in enumerate(parts):
            ident, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp + number))
            if isinstance(part, bytes):
                slots.append(part)
                continue
            offset, flags, status = part
            into(hand, ref, data[:PAGE_SIZE])
            slots.append(RX_RESPONSE.pack(ident ^ wrong_id, offset, flags, status))
        hand.fill(*slots)

    return act


def keep_rx(hand: BackByHand) -> None:
    """Answer with a buffer that is still mapped."""
    _, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp))
    hand.mappings.append(hand.map(ref, readonly=False))
    rx((0, 0, FRAME))(hand)


def segments(flags: int, size: int = 1448, kind: int = 1, data: bytes = tcp(bytes(3000))) -> Act:
    """A frame to be segmented."""
    gso = EXTRA_GSO.pack(1, 0, size, kind, 0, 0)
    return rx((0, flags | EXTRA, len(data)), gso, data=data)


# --- pages that do not change hands


def give(hand: BackByHand, ref: int) -> bool:
    """A page of our own to the guest; whether it was taken. What is refused is the heap's."""
    addr = hand.xen.alloc_pages(1)
    [status] = hand.xen.transfer([addr], hand.xen.increase_reservation(1), hand.domid, [ref])
    hand.xen.free_pages(addr, 1)
    return status == GNTST_okay


def pageless(*parts: tuple[int, int, int], pages: int = 0) -> Act:
    """Responses of which only the first `pages` bring a page."""

    def act(hand: BackByHand) -> None:
        slots = []
        for number, (offset, flags, status) in enumerate(parts):
            ident, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp + number))
            assert number >= pages or give(hand, ref)
            slots.append(RX_RESPONSE.pack(ident, offset, flags, status))
        hand.fill(*slots)

    return act


def flip_twice(hand: BackByHand) -> None:
    """A second page at a grant that has had one."""
    ident, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp))
    assert [give(hand, ref), give(hand, ref)] == [True, False]
    hand.fill(RX_RESPONSE.pack(ident, 0, 0, FRAME))


def flip_late(hand: BackByHand) -> None:
    """A page at a grant that is over, and at the one that was posted instead."""
    _, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp))
    pageless((0, 0, FRAME))(hand)
    give(hand, ref)
    assert not give(hand, ref)


def map_instead(hand: BackByHand) -> None:
    """A buffer that is no page cannot be mapped or copied into."""
    _, _, ref = RX_REQUEST.unpack(hand.rx.slot(hand.rx_rsp))
    assert not isinstance(hand.xen.map_grants(hand.domid, [ref], readonly=False)[0], Mapped)
    pageless((0, 0, FRAME))(hand)


# --- neither


def storm(hand: BackByHand) -> None:
    """Ten thousand notifications about nothing."""
    for _ in range(10000):
        for port in hand.ports:
            hand.xen.send(port)
    hand.world.step()


def events_all_over(hand: BackByHand) -> None:
    """Event indices that ask for a wake-up at every index, and at none; the frontend's own words, too."""
    for value in (0, 0x80000000, 0xFFFFFFFF):
        for ring in (hand.tx, hand.rx):
            for word in (REQ_PROD, REQ_EVENT, RSP_EVENT):
                ring.indices[word] = value
        for port in hand.ports:
            hand.xen.send(port)
        hand.world.step()


def full_of(byte: int) -> Act:
    """Both ring pages full of a byte."""

    def act(hand: BackByHand) -> None:
        for ring in (hand.rx, hand.tx):
            ring.page[:] = bytes((byte,)) * PAGE_SIZE
        for port in hand.ports:
            hand.xen.send(port)
        hand.world.step()

    return act


def deaf(hand: BackByHand) -> None:
    """The channels closed, nothing said."""
    while hand.ports:
        hand.xen.close_port(hand.ports.pop())
    hand.world.step()


def pry(hand: BackByHand) -> None:
    """Every way to a guest's page that was not granted, and every misuse of one that was: all are refused."""
    found = outstanding(hand)
    for ref in (0xFFFFFFFF, 512 * 64, 511, 500):
        assert hand.xen.map_grants(hand.domid, [ref], readonly=True) != [GNTST_okay]
        assert not isinstance(hand.xen.map_grants(hand.domid, [ref], readonly=True)[0], Mapped)
    for _, ref in found:
        assert not isinstance(hand.xen.map_grants(hand.domid, [ref], readonly=False)[0], Mapped), "it is read-only"
    addr = hand.xen.alloc_pages(1)
    assert hand.xen.transfer([addr], hand.xen.increase_reservation(1), hand.domid, [found[0][1]]) != [GNTST_okay]
    hand.xen.free_pages(addr, 1)


PAST = "response producer past the requests"
NOT_OUT = "not out"
STILL = "still in use by the backend"
LONG = "longer than a page"
MISPLACED = "id that was not posted"
BY_ID = dict.fromkeys(("mirage", "windows", "illumos"), MISPLACED)
GSO_ONLY = dict.fromkeys(("freebsd", "mirage", "illumos"), 1)

BACKENDS: dict[str, Outcome] = {
    "a tx producer one too far": Outcome(one_too_far, PAST),
    "a tx producer past the ring": Outcome(index("tx", RSP_PROD, 257), PAST),
    "a tx producer 2^31 ahead": Outcome(index("tx", RSP_PROD, 1 << 31), PAST),
    "a tx producer one back": Outcome(index("tx", RSP_PROD, -1), PAST),
    "an rx producer one too far": Outcome(index("rx", RSP_PROD, 257), PAST),
    "an rx producer 2^31 ahead": Outcome(index("rx", RSP_PROD, 1 << 31), PAST),
    "an rx producer one back": Outcome(index("rx", RSP_PROD, -1), PAST),
    "an id of nobody": Outcome(unknown(60000), NOT_OUT),
    "an id that is not out": Outcome(next_id, NOT_OUT),
    "an id twice": Outcome(answer(0, 0), NOT_OUT),
    "a later id twice": Outcome(answer(2, 2), NOT_OUT),
    "answers backwards": Outcome(backwards),
    "an answer of error": Outcome(answer_all(-1), tx_errors=ALL),
    "an answer of dropped": Outcome(answer_all(-2), tx_errors=ALL),
    "an answer of no meaning": Outcome(answer(0, status=77), tx_errors=1, others={"mirage": "unknown status"}),
    "an answer of -32768": Outcome(answer(0, status=-32768), tx_errors=1, others={"mirage": "unknown status"}),
    "NULL for every request": Outcome(answer_all(NULL)),
    "a tx page kept": Outcome(keep_tx, STILL, others={"mirage": ""}),
    "an empty frame": Outcome(rx((0, 0, 0)), rx_errors=1),
    "a frame of 13 bytes": Outcome(rx((0, 0, 13)), rx_errors=1),
    "a first slot of 13 bytes": Outcome(rx((0, MORE, 13), (0, 0, 60)), rx_errors=1),
    "an empty later slot": Outcome(rx((0, MORE, 60), (0, 0, 0)), frames=1),
    "4097 bytes": Outcome(rx((0, 0, 4097)), rx_errors=1),
    "32767 bytes": Outcome(rx((0, 0, 32767)), rx_errors=1),
    "a slot over its page": Outcome(rx((4000, 0, 97)), rx_errors=1),
    "the highest offset": Outcome(rx((0xFFFF, 0, 60)), rx_errors=1),
    "a later slot over its page": Outcome(rx((0, MORE, 60), (1, 0, 4096)), rx_errors=1),
    "a status of -1": Outcome(rx((0, 0, -1)), rx_errors=1, others={"mirage": LONG}),
    "a status of -32768": Outcome(rx((0, 0, -32768)), rx_errors=1, others={"mirage": LONG}),
    "a negative later slot": Outcome(rx((0, MORE, 60), (0, 0, -4)), rx_errors=1, others={"mirage": LONG}),
    "18 slots": Outcome(rx(*[(0, MORE, 300)] * 17, (0, 0, 300)), frames=1),
    "19 slots": Outcome(rx(*[(0, MORE, 300)] * 18, (0, 0, 300)), rx_errors=1),
    "19 slots, the first short": Outcome(rx((0, MORE, 200), *[(0, MORE, 300)] * 17, (0, 0, 300)), frames=1),
    "20 slots, the first short": Outcome(rx((0, MORE, 200), *[(0, MORE, 300)] * 18, (0, 0, 300)), rx_errors=1),
    "65536 bytes": Outcome(rx(*[(0, MORE, 4096)] * 15, (0, 0, 4096)), rx_errors=1),
    "more without end": Outcome(rx(*[(0, MORE, 60)] * 256), rx_errors=1),
    "more that never comes": Outcome(rx((0, MORE, 60)), rx_errors=1),
    "ids that are not the slots'": Outcome(rx((0, 0, FRAME), wrong_id=True), frames=1, others=BY_ID),
    "an extra that never comes": Outcome(rx((0, EXTRA, 60)), rx_errors=1),
    "an extra of type 0": Outcome(rx((0, EXTRA, 60), extra(0)), rx_errors=1, others={"windows": "unknown extra"}),
    "an extra of type 6": Outcome(rx((0, EXTRA, 60), extra(6)), rx_errors=1, others={"windows": "unknown extra"}),
    "an extra of type 255": Outcome(rx((0, EXTRA, 60), extra(255)), rx_errors=1, others={"windows": "unknown extra"}),
    "a group in an extra": Outcome(rx((0, EXTRA, 60), extra(2)), rx_errors=1, others={"windows": "unknown extra"}),
    "200 extras": Outcome(rx((0, EXTRA, 60), *[extra(HASH, more=True)] * 199, extra(HASH)), frames=1, judged=GSO_ONLY),
    "extras without end": Outcome(rx((0, EXTRA, 60), *[extra(HASH, more=True)] * 255), rx_errors=1),
    "GSO of no size": Outcome(segments(VALID | BLANK, size=0), rx_errors=1, others={"windows": "GSO without size"}),
    "GSO of no type": Outcome(segments(VALID | BLANK, kind=9), rx_errors=1),
    "GSO with a checksum": Outcome(segments(0), frames=1, others={"windows": "blank checksum"}),
    "GSO with a checksum, not TCP": Outcome(
        segments(0, data=WHOLE[:1000]), rx_errors=1, others={"windows": "blank checksum"}
    ),
    "an rx page kept": Outcome(keep_rx, STILL),
    "a storm of notifications": Outcome(storm),
    "event indices all over": Outcome(events_all_over, alive=False),
    "rings full of 0xff": Outcome(full_of(0xFF), PAST),
    "rings full of nothing": Outcome(full_of(0), alive=False),
    "channels closed": Outcome(deaf, alive=False),
    "pages it was not given": Outcome(pry),
}
"""What a connected backend does to its frontend, which has frames of 60, 9000 and 100 bytes on the way."""

FLIPPING: dict[str, Outcome] = {
    "no page": Outcome(pageless((0, 0, FRAME)), rx_errors=1),
    "no second page": Outcome(pageless((0, MORE, FRAME), (0, 0, FRAME), pages=1), rx_errors=1),
    "a page twice": Outcome(flip_twice, frames=1),
    "a page after its answer": Outcome(flip_late, rx_errors=1),
    "a mapping instead of a page": Outcome(map_instead, rx_errors=1),
}
"""What it does to one that gets pages (`request-rx-copy` = 0), in addition."""

OFFERS: dict[str, dict[str, str]] = {
    "a million queues": {"multi-queue-max-queues": "1000000"},
    "no queues": {"multi-queue-max-queues": "0"},
    "queues without end": {"multi-queue-max-queues": "9" * 2000},
    "minus one queue": {"multi-queue-max-queues": "-1"},
    "queues of words": {"multi-queue-max-queues": "\x00\xff"},
    "features of rubbish": {"feature-sg": "yes", "feature-gso-tcpv4": "\x00", "feature-split-event-channels": "-7"},
    "features without end": {"feature-sg": "1" * 2000, "feature-gso-tcpv6": "x" * 2000},
    "headroom of rubbish": {"feature-xdp-headroom": "99999999999999999999"},
    "a filter of rubbish": {"feature-multicast-control": "on", "feature-dynamic-multicast-control": "7" * 2000},
}
"""What a backend writes before InitWait, and is connected to all the same."""

STATES = ("0", "3", "4", "7", "8", "9", "99", "-1", "4294967298", "", " 2", "2 ", "two", "\x00", "\xff", "2" * 3000)
"""What a backend writes as its state while a frontend waits for InitWait, and nothing comes of it."""
