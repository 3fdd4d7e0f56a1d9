"""From tx slots to whole packets, never half of one.

`take` reads packets off slots that were copied out of the ring already. What a correct frontend can never write is
fatal (BadRing: the vif is disabled, as Linux's netback does it); what a correct one may do by accident drops the
packet, each of its slots answered with ERROR. The verdicts are those of Linux 6.12's netback (xenvif_count_requests,
xenvif_tx_build_gops); a packet whose end is not published yet is fatal there too, since every correct frontend
publishes whole packets. A GSO packet without csum_blank keeps a word that says so, for `repair`; the dummy packet of a
multicast filter carries no data, only its `group`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    EXTRA_MCAST,
    TX_REQUEST,
    TX_RESPONSE,
    TX_SLOT_SIZE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
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
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, ETH_HLEN, GSO_SIZE_SHIFT, GSO_TYPE_SHIFT
from xnet.ring import RingError

FATAL_LATER_SLOTS: Final = 20
"""Slots after the first at which Linux gives the vif up (module parameter fatal_skb_slots)."""

MULTICAST: Final = "tx_multicast_control"
"""Counter of a multicast filter's dummies that nobody asked for."""
MCAST_ADD: Final = bytes((XEN_NETIF_EXTRA_TYPE_MCAST_ADD,))

Segment = tuple[int, int, int]
"""(gref, offset, size) of one data slot, validated; size may be 0. A size of more than a page is a run: the data fills
the pages of as many consecutive references as it needs, from offset 0 on."""


class BadRing(XnetError):
    """What is on the ring cannot come from a correct driver; `guarded` hands it to the device."""


def guarded(handler: Callable[[], None], rogue: Callable[[str], None]) -> Callable[[], None]:
    """An event handler that hands a rogue peer's doings to `rogue` and lets nothing of it through."""

    def guard() -> None:
        try:
            handler()
        except (RingError, BadRing) as error:
            rogue(str(error))

    return guard


class Packet:
    """One packet off the ring: what to fetch, and what its slots are answered. It never changes."""

    __slots__ = ("answers", "error", "extras", "group", "length", "segments", "slots", "word")

    def __init__(
        self,
        slots: bytes,
        extras: int,
        word: int,
        length: int,
        segments: list[Segment],
        error: str,
        group: bytes = b"",
    ) -> None:
        self.slots = slots
        """Its slots: each is owed a response."""
        self.extras = extras
        """Extra slots after the first: their response is NULL."""
        self.word = word
        self.length = length
        self.segments = segments
        self.error = error
        """Why it is dropped, as a counter's name; empty when it is to be fetched."""
        self.group = group
        """Of a multicast filter's dummy: the extra that says which group comes or goes (EXTRA_MCAST)."""
        self.answers = responses(slots, extras, XEN_NETIF_RSP_ERROR if error else XEN_NETIF_RSP_OKAY)
        """The response slots, if nothing goes wrong any more."""


def fatal(what: str, value: object) -> NoReturn:
    """Give the vif up."""
    raise BadRing(f"{what} ({value})")


def take(data: bytes, most: int, room: int) -> tuple[list[Packet], int]:
    """Up to `most` whole packets off the slots `data`, until they fill `room` bytes of staging pages, and how many
    slots those are. BadRing: see the module."""
    packets: list[Packet] = []
    at, count = 0, len(data) // TX_SLOT_SIZE
    while at < count and room > 0 and len(packets) < most:
        packet = next_packet(data, at)
        at += len(packet.slots) // TX_SLOT_SIZE
        packets.append(packet)
        room -= (packet.length + PAGE_SIZE) & -PAGE_SIZE
    return packets, at


def next_packet(data: bytes, pos: int) -> Packet:  # 15 us for 17 slots
    """The packet that begins at slot `pos`. BadRing: see the module."""
    gref, offset, flags, _, length = TX_REQUEST.unpack_from(data, pos * TX_SLOT_SIZE)
    at, extras, gso, error = pos + 1, 0, 0, ""
    if flags & NETTXF_extra_info:
        extras, gso, group = read_extras(data, at)
        at += extras
        if group:  # whatever else the slot says is not looked at
            return Packet(data[pos * TX_SLOT_SIZE : at * TX_SLOT_SIZE], extras, 0, 0, [], MULTICAST, group)
    first = length
    later: list[Segment] = []
    if flags & NETTXF_more_data:
        later = later_slots(data, at)
        at += len(later)
        first -= sum([size for _, _, size in later])
        if len(later) >= XEN_NETIF_NR_SLOTS_MIN + 1:
            error = "tx_too_many_slots"
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
    segments = [(gref, offset, first), *later]
    if later and is_run(segments):
        segments = [(gref, 0, length)]
    return Packet(data[pos * TX_SLOT_SIZE : at * TX_SLOT_SIZE], extras, word, length, segments, error)


def read_extras(data: bytes, pos: int) -> tuple[int, int, bytes]:
    """The chain of extras from slot `pos` on: (how many, GSO bits of the offload word, a multicast filter's extra)."""
    at, gso, group = pos, 0, b""
    while True:
        if at * TX_SLOT_SIZE >= len(data):
            fatal("extra info promised, but the ring ends", at - pos)
        kind, flags, size, gso_type, _, _ = EXTRA_GSO.unpack_from(data, at * TX_SLOT_SIZE)
        at += 1
        if kind == XEN_NETIF_EXTRA_TYPE_NONE or kind >= XEN_NETIF_EXTRA_TYPE_MAX:
            fatal("unknown extra info", kind)
        if kind == XEN_NETIF_EXTRA_TYPE_GSO:
            if size == 0:
                fatal("GSO size", size)
            if gso_type not in (XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6):
                fatal("GSO type", gso_type)
            gso = gso_type << GSO_TYPE_SHIFT | size << GSO_SIZE_SHIFT
        elif kind != XEN_NETIF_EXTRA_TYPE_HASH and group[:1] != MCAST_ADD:
            group = data[(at - 1) * TX_SLOT_SIZE : (at - 1) * TX_SLOT_SIZE + EXTRA_MCAST.size]
        if not flags & XEN_NETIF_EXTRA_FLAG_MORE:
            return at - pos, gso, group


def later_slots(data: bytes, pos: int) -> list[Segment]:
    """The data slots after the first, from slot `pos` to the packet's end, each within its page."""
    found: list[Segment] = []
    more = NETTXF_more_data
    while more:
        at = (pos + len(found)) * TX_SLOT_SIZE
        if at >= len(data):
            fatal("more data promised, but the ring ends", len(found))
        gref, offset, flags, _, size = TX_REQUEST.unpack_from(data, at)
        if offset + size > PAGE_SIZE:
            fatal("slot crosses its page", f"offset {offset}, size {size}")
        found.append((gref, offset, size))
        if len(found) > FATAL_LATER_SLOTS:
            fatal("slots in a packet", f"more than {FATAL_LATER_SLOTS + 1}")
        more = flags & NETTXF_more_data
    return found


def is_run(segments: list[Segment]) -> bool:
    """Whether all these are whole pages of consecutive references, but for the end of the last."""
    gref, end = segments[0][0], segments[-1][2]
    return end > 0 and segments == [
        *[(gref + i, 0, PAGE_SIZE) for i in range(len(segments) - 1)],
        (gref + len(segments) - 1, 0, end),
    ]


def responses(slots: bytes, extras: int, status: int, statuses: list[int] | None = None) -> bytes:
    """The response slots for a packet's slots: ids echoed, NULL for its extras, else `status` or, slot by slot,
    `statuses`. Padding is zero (XSA-216)."""
    out = bytearray(len(slots))
    null = range(TX_SLOT_SIZE, TX_SLOT_SIZE * (1 + extras), TX_SLOT_SIZE)
    said = iter(statuses or ())
    for at in range(0, len(slots), TX_SLOT_SIZE):
        if at in null:
            TX_RESPONSE.pack_into(out, at, 0, XEN_NETIF_RSP_NULL)
        else:
            TX_RESPONSE.pack_into(out, at, TX_REQUEST.unpack_from(slots, at)[3], next(said, status))
    return bytes(out)
