"""The network interface's slots. Source: public/io/netif.h.

tx request, 12 bytes (guest to backend); the first slot of a packet carries the whole packet's size:

======  ====  ======  ===========================================
0       4     gref    grant reference of the page
4       2     offset  byte offset of the data in the page
6       2     flags   NETTXF_*
8       2     id      echoed in the response
10      2     size    first slot: packet; later slots: this fragment
======  ====  ======  ===========================================

tx response, 4 bytes in the same 12-byte slot: id u16 @0, status s16 @2 (XEN_NETIF_RSP_*).

rx request, 8 bytes: id u16 @0, pad u16 @2, gref u32 @4.
rx response, 8 bytes: id u16 @0, offset u16 @2, flags u16 @4 (NETRXF_*), status s16 @6 (>= 0: bytes here).

extra info, 8 bytes, takes a whole slot in either direction: type u8 @0, flags u8 @1, payload @2; for GSO:
size u16 @2 (MSS), gso type u8 @4, pad u8 @5, features u16 @6.

Beware: bits 0 and 1 mean csum_blank and data_validated on tx, and the other way round on rx.
"""

from struct import Struct

TX_REQUEST = Struct("<IHHHH")  # gref offset flags id size
TX_RESPONSE = Struct("<Hh")  # id status
RX_REQUEST = Struct("<HHI")  # id pad gref
RX_RESPONSE = Struct("<HHHh")  # id offset flags status
EXTRA_GSO = Struct("<BBHBBH")  # type flags size gso_type pad features
assert (TX_REQUEST.size, TX_RESPONSE.size, RX_REQUEST.size, RX_RESPONSE.size, EXTRA_GSO.size) == (
    12,
    4,
    8,
    8,
    8,
)

TX_SLOT_SIZE = 12
RX_SLOT_SIZE = 8
RING_SLOTS = 256
"""Slots in each data ring (one 4 KiB page)."""

NETTXF_csum_blank = 1
NETTXF_data_validated = 2
NETTXF_more_data = 4
NETTXF_extra_info = 8

NETRXF_data_validated = 1
NETRXF_csum_blank = 2
NETRXF_more_data = 4
NETRXF_extra_info = 8
NETRXF_gso_prefix = 16

XEN_NETIF_EXTRA_TYPE_NONE = 0
XEN_NETIF_EXTRA_TYPE_GSO = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3
XEN_NETIF_EXTRA_TYPE_HASH = 4
XEN_NETIF_EXTRA_TYPE_MAX = 5
XEN_NETIF_EXTRA_FLAG_MORE = 1

XEN_NETIF_GSO_TYPE_NONE = 0
XEN_NETIF_GSO_TYPE_TCPV4 = 1
XEN_NETIF_GSO_TYPE_TCPV6 = 2

XEN_NETIF_RSP_OKAY = 0
XEN_NETIF_RSP_NULL = 1
XEN_NETIF_RSP_ERROR = -1
XEN_NETIF_RSP_DROPPED = -2

XEN_NETIF_MAX_TX_SIZE = 0xFFFF
"""Largest packet in bytes, Ethernet header included: sizes are 16 bits."""

XEN_NETIF_NR_SLOTS_MIN = 18
"""Data slots per packet that every backend takes; extras do not count."""

TX_FLAG_NAMES = {1: "csum_blank", 2: "data_validated", 4: "more_data", 8: "extra_info"}
RX_FLAG_NAMES = {1: "data_validated", 2: "csum_blank", 4: "more_data", 8: "extra_info", 16: "gso_prefix"}


def flag_names(flags: int, names: dict[int, str]) -> str:
    """Flags for people: ``csum_blank|more_data``; unknown bits in hex, ``-`` for none."""
    known = [name for bit, name in names.items() if flags & bit]
    rest = flags & ~sum(names)
    return "|".join(known + ([hex(rest)] if rest else [])) or "-"
