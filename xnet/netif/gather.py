"""From tx slots to whole packets, never half of one.

`next_packet` reads slots that were copied out of the ring already and returns one packet and where the next begins.
What a correct frontend can never write is fatal (BadRing: the vif is disabled, as Linux's netback does it); what a
correct one may do by accident drops the packet, each of its slots answered with ERROR. The verdicts are those of
Linux 6.12's netback (xenvif_count_requests, xenvif_tx_build_gops); a packet whose end is not published yet is fatal
there too, since every correct frontend publishes whole packets. Two differ: a GSO packet without csum_blank, which
Linux repairs and no known frontend sends, is dropped; so is a multicast filter's dummy packet, since none is offered.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, NoReturn

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    TX_REQUEST,
    TX_RESPONSE,
    TX_SLOT_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_NONE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    XEN_NETIF_RSP_ERROR,
    XEN_NETIF_RSP_NULL,
    XEN_NETIF_RSP_OKAY,
    NETTXF_csum_blank,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xnet.errors import XnetError
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TYPE_SHIFT
from xnet.ring import RingError

ETH_HLEN: Final = 14
FATAL_LATER_SLOTS: Final = 20
"""Slots after the first at which Linux gives the vif up (module parameter fatal_skb_slots)."""

Segment = tuple[int, int, int]
"""(gref, offset, size) of one data slot, validated; size may be 0. A size of more than a page is a run: the data fills
the pages of as many consecutive references as it needs, from offset 0 on."""


class BadRing(XnetError):
    """What is on the ring cannot come from a correct driver; `guarded` hands it to the device."""


ANSWER: Final = Struct("<Hh8x")
"""A tx response in its slot: id, status."""


class Slots:
    """Tx slots copied out of the ring. `halves` are their columns: slot i has its offset in halves[6 * i + 2], ..."""

    __slots__ = ("count", "data", "halves")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = len(data) // TX_SLOT_SIZE
        self.halves = memoryview(data).cast("H")


def guarded(handler: Callable[[], None], rogue: Callable[[str], None]) -> Callable[[], None]:
    """An event handler that hands a rogue peer's doings to `rogue` and lets nothing of it through."""

    def guard() -> None:
        try:
            handler()
        except (RingError, BadRing) as error:
            rogue(str(error))

    return guard


class Packet:
    """One packet off the ring: what to fetch, and where its slots are."""

    __slots__ = ("error", "extras", "length", "segments", "slot", "slots", "word")

    def __init__(
        self, slot: int, slots: int, extras: int, word: int, length: int, segments: list[Segment], error: str
    ) -> None:
        self.slot = slot
        """Its first slot, counted as in `Slots`."""
        self.slots = slots
        """All its slots: each is owed a response."""
        self.extras = extras
        """Extra slots after the first: their response is NULL."""
        self.word = word
        self.length = length
        self.segments = segments
        self.error = error
        """Why it is dropped, as a counter's name; empty when it is to be fetched."""


def fatal(what: str, value: object) -> NoReturn:
    """Give the vif up."""
    raise BadRing(f"{what} ({value})")


def read_extras(slots: Slots, pos: int) -> tuple[int, int, str]:
    """The chain of extras from slot `pos` on: (how many, GSO bits of the offload word, drop reason)."""
    at, gso, error = pos, 0, ""
    while True:
        if at >= slots.count:
            fatal("extra info promised, but the ring ends", at - pos)
        kind, flags, size, gso_type, _, _ = EXTRA_GSO.unpack_from(slots.data, at * TX_SLOT_SIZE)
        at += 1
        if kind == XEN_NETIF_EXTRA_TYPE_NONE or kind >= XEN_NETIF_EXTRA_TYPE_MAX:
            fatal("unknown extra info", kind)
        if kind == XEN_NETIF_EXTRA_TYPE_GSO:
            if size == 0:
                fatal("GSO size", size)
            if gso_type not in (XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6):
                fatal("GSO type", gso_type)
            gso = gso_type << GSO_TYPE_SHIFT | size << GSO_SIZE_SHIFT
        elif kind != XEN_NETIF_EXTRA_TYPE_HASH:
            error = "tx_multicast_control"  # MCAST_ADD and _DEL, which this backend does not offer
        if not flags & XEN_NETIF_EXTRA_FLAG_MORE:
            return at - pos, gso, error


def is_run(slots: Slots, at: int, gref: int, length: int) -> bool:  # hot: 2 us for 16 slots
    """Whether the slots from `at` on go on where a first page of `gref` ended: whole pages of consecutive references,
    to the end of a packet of `length` bytes."""
    later = (length - 1) >> PAGE_SHIFT
    end = at + later
    if end > slots.count or not 0 < later < XEN_NETIF_NR_SLOTS_MIN:
        return False
    halves = slots.halves
    flags = halves[6 * at + 3 : 6 * end : 6].tolist()
    sizes = halves[6 * at + 5 : 6 * end : 6].tolist()
    rest = length - (later << PAGE_SHIFT)
    return (
        not flags[-1] & NETTXF_more_data
        and flags.count(NETTXF_more_data) == later - 1
        and sizes[-1] == rest
        and sizes.count(PAGE_SIZE) == later - (rest != PAGE_SIZE)
        and not any(halves[6 * at + 2 : 6 * end : 6].tolist())
        and memoryview(slots.data).cast("I")[3 * at : 3 * end : 3].tolist() == [*range(gref + 1, gref + 1 + later)]
    )


def next_packet(slots: Slots, pos: int) -> Packet:  # hot: 1.5 us for one slot, 5 for 17 that are a run
    """The packet that begins at slot `pos`. BadRing: see the module."""
    data = slots.data
    gref, offset, flags, _, length = TX_REQUEST.unpack_from(data, pos * TX_SLOT_SIZE)
    at, extras, gso, error = pos + 1, 0, 0, ""
    if flags & NETTXF_extra_info:
        extras, gso, error = read_extras(slots, at)
        at += extras
    first = length
    segments = [(gref, offset, length)]
    if flags & NETTXF_more_data:
        if not offset and is_run(slots, at, gref, length):
            first = PAGE_SIZE
            at += (length - 1) >> PAGE_SHIFT
        else:
            later = later_slots(slots, at)
            at += len(later)
            first -= sum([size for _, _, size in later])
            if len(later) >= XEN_NETIF_NR_SLOTS_MIN + 1:
                error = "tx_too_many_slots"
            segments = [(gref, offset, first), *later]
    if first < 0:
        error = "tx_fragments_exceed_size"
    elif not error:  # where the first fragment lies matters only when it is fetched
        if first < ETH_HLEN:
            error = "tx_runt"
        elif offset + first > PAGE_SIZE:
            fatal("slot crosses its page", f"offset {offset}, size {first}")
    word = gso | flags & DATA_VALIDATED
    if flags & NETTXF_csum_blank:
        word = gso | CSUM_BLANK | DATA_VALIDATED
    elif gso:
        error = error or "tx_gso_without_csum_blank"
    return Packet(pos, at - pos, extras, word, length, segments, error)


def later_slots(slots: Slots, pos: int) -> list[Segment]:
    """The data slots after the first, from slot `pos` to the packet's end, each within its page."""
    found: list[Segment] = []
    more = NETTXF_more_data
    while more:
        at = pos + len(found)
        if at >= slots.count:
            fatal("more data promised, but the ring ends", len(found))
        gref, offset, flags, _, size = TX_REQUEST.unpack_from(slots.data, at * TX_SLOT_SIZE)
        if offset + size > PAGE_SIZE:
            fatal("slot crosses its page", f"offset {offset}, size {size}")
        found.append((gref, offset, size))
        if len(found) > FATAL_LATER_SLOTS:
            fatal("slots in a packet", f"more than {FATAL_LATER_SLOTS + 1}")
        more = flags & NETTXF_more_data
    return found


def responses(slots: Slots, count: int, packets: list[Packet], statuses: list[list[int] | None]) -> bytes:  # hot
    """The response slots for the first `count` requests: ids echoed, OKAY unless a packet failed, NULL for extras.

    `statuses`: per packet None, or one for each data slot.
    """
    if count == 1 and not packets[0].error:
        return ANSWER.pack(slots.halves[4], XEN_NETIF_RSP_OKAY)
    out = bytearray(count * TX_SLOT_SIZE)
    halves = memoryview(out).cast("H")
    halves[0::6] = slots.halves[4 : 6 * count : 6]  # id, status
    for packet, status in zip(packets, statuses, strict=True):
        if packet.extras:
            for at in range(packet.slot + 1, packet.slot + 1 + packet.extras):
                TX_RESPONSE.pack_into(out, at * TX_SLOT_SIZE, 0, XEN_NETIF_RSP_NULL)
        if packet.error:
            data_slots = [packet.slot, *range(packet.slot + 1 + packet.extras, packet.slot + packet.slots)]
            for at, code in zip(data_slots, status or [XEN_NETIF_RSP_ERROR] * len(data_slots), strict=True):
                halves[6 * at + 1] = code & 0xFFFF
    return bytes(out)
