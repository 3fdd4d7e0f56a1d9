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
size u16 @2 (MSS), gso type u8 @4, pad u8 @5, features u16 @6; for MCAST_ADD and MCAST_DEL: address 6 bytes @2; for
HASH: type u8 @2 (_XEN_NETIF_CTRL_HASH_TYPE_*), algorithm u8 @3, value u32 @4.

Control ring, of a vif and not of a queue: request, 16 bytes: id u16 @0, type u16 @2 (XEN_NETIF_CTRL_TYPE_*), data three
times u32 @4; response, 12 bytes in the same slot: id u16 @0, type u16 @2, status u32 @4 (XEN_NETIF_CTRL_STATUS_*),
data u32 @8.

Beware: bits 0 and 1 mean csum_blank and data_validated on tx, and the other way round on rx.
"""

from struct import Struct
from typing import Final

TX_REQUEST: Final = Struct("<IHHHH")  # gref offset flags id size
TX_RESPONSE: Final = Struct("<Hh")  # id status
RX_REQUEST: Final = Struct("<HHI")  # id pad gref
RX_RESPONSE: Final = Struct("<HHHh")  # id offset flags status
EXTRA_GSO: Final = Struct("<BBHBBH")  # type flags size gso_type pad features
EXTRA_MCAST: Final = Struct("<BB6s")  # type flags addr
EXTRA_HASH: Final = Struct("<BBBBI")  # type flags hash_type algorithm value
CTRL_REQUEST: Final = Struct("<HHIII")  # id type data0 data1 data2
CTRL_RESPONSE: Final = Struct("<HHII")  # id type status data
assert (TX_REQUEST.size, TX_RESPONSE.size, RX_REQUEST.size, RX_RESPONSE.size, EXTRA_GSO.size) == (
    12,
    4,
    8,
    8,
    8,
)
assert EXTRA_MCAST.size == EXTRA_HASH.size == 8
assert (CTRL_REQUEST.size, CTRL_RESPONSE.size) == (16, 12)

TX_SLOT_SIZE: Final = 12
RX_SLOT_SIZE: Final = 8
CTRL_SLOT_SIZE: Final = 16
RING_SLOTS: Final = 256
"""Slots in each data ring (one 4 KiB page)."""

NETTXF_csum_blank: Final = 1
NETTXF_data_validated: Final = 2
NETTXF_more_data: Final = 4
NETTXF_extra_info: Final = 8

NETRXF_data_validated: Final = 1
NETRXF_csum_blank: Final = 2
NETRXF_more_data: Final = 4
NETRXF_extra_info: Final = 8
NETRXF_gso_prefix: Final = 16

XEN_NETIF_EXTRA_TYPE_NONE: Final = 0
XEN_NETIF_EXTRA_TYPE_GSO: Final = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD: Final = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL: Final = 3
XEN_NETIF_EXTRA_TYPE_HASH: Final = 4
XEN_NETIF_EXTRA_TYPE_MAX: Final = 5
XEN_NETIF_EXTRA_FLAG_MORE: Final = 1

XEN_NETIF_GSO_TYPE_NONE: Final = 0
XEN_NETIF_GSO_TYPE_TCPV4: Final = 1
XEN_NETIF_GSO_TYPE_TCPV6: Final = 2

XEN_NETIF_RSP_OKAY: Final = 0
XEN_NETIF_RSP_NULL: Final = 1
XEN_NETIF_RSP_ERROR: Final = -1
XEN_NETIF_RSP_DROPPED: Final = -2

XEN_NETIF_MAX_TX_SIZE: Final = 0xFFFF
"""Largest packet in bytes, Ethernet header included: sizes are 16 bits."""

XEN_NETIF_NR_SLOTS_MIN: Final = 18
"""Data slots per packet that every backend takes; extras do not count."""

XEN_NETIF_CTRL_TYPE_INVALID: Final = 0
XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS: Final = 1
XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS: Final = 2
XEN_NETIF_CTRL_TYPE_SET_HASH_KEY: Final = 3
XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE: Final = 4
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE: Final = 5
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING: Final = 6
XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM: Final = 7

XEN_NETIF_CTRL_STATUS_SUCCESS: Final = 0
XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED: Final = 1
XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER: Final = 2
XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW: Final = 3

XEN_NETIF_CTRL_HASH_ALGORITHM_NONE: Final = 0
XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ: Final = 1

XEN_NETIF_CTRL_HASH_TYPE_IPV4: Final = 1
XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP: Final = 2
XEN_NETIF_CTRL_HASH_TYPE_IPV6: Final = 4
XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP: Final = 8
"""Bits of a mask; a hash extra names one by the bit's number."""

TX_FLAG_NAMES: Final = {1: "csum_blank", 2: "data_validated", 4: "more_data", 8: "extra_info"}
RX_FLAG_NAMES: Final = {1: "data_validated", 2: "csum_blank", 4: "more_data", 8: "extra_info", 16: "gso_prefix"}


def flag_names(flags: int, names: dict[int, str]) -> str:
    """Flags for people: ``csum_blank|more_data``; unknown bits in hex, ``-`` for none."""
    known = [name for bit, name in names.items() if flags & bit]
    rest = flags & ~sum(names)
    return "|".join(known + ([hex(rest)] if rest else [])) or "-"
