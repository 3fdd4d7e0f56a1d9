"""Packet sockets: options of level SOL_PACKET, and what they take or tell. Source: uapi/linux/if_packet.h.

================  ==============================================================================
PACKET_MREQ       whom to hear: interface index, PACKET_MR_*, bytes of the address, the address
TPACKET_STATS     frames since the last look, and how many of them the socket had no room for
TPACKET_AUXDATA   beside a frame: TP_STATUS_*, its length, bytes that were kept, offsets of its
                  headers; the VLAN tag (TCI, type) that the kernel took out of it
================  ==============================================================================
"""

from struct import Struct
from typing import Final

PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_DROP_MEMBERSHIP: Final = 2
PACKET_STATISTICS: Final = 6
PACKET_AUXDATA: Final = 8
PACKET_VNET_HDR: Final = 15
PACKET_IGNORE_OUTGOING: Final = 23

PACKET_MR_PROMISC: Final = 1
PACKET_MR_ALLMULTI: Final = 2
PACKET_MR_UNICAST: Final = 3

TP_STATUS_VLAN_VALID: Final = 0x10
TP_STATUS_VLAN_TPID_VALID: Final = 0x40

PACKET_MREQ: Final = Struct("<iHHQ")  # mr_ifindex mr_type mr_alen mr_address
TPACKET_STATS: Final = Struct("<II")  # tp_packets tp_drops
TPACKET_AUXDATA: Final = Struct("<IIIHHHH")  # tp_status tp_len tp_snaplen tp_mac tp_net tp_vlan_tci tp_vlan_tpid
