"""The header before each frame of a TAP with IFF_VNET_HDR, 10 bytes. Source: uapi/linux/virtio_net.h.

======  ====  ===========  ==========================================================================
0       1     flags        NEEDS_CSUM: sum from csum_start, store at csum_start + csum_offset; DATA_VALID
1       1     gso_type     NONE, TCPV4, TCPV6, each with ECN or'ed in
2       2     hdr_len      bytes of headers of a GSO frame (a hint)
4       2     gso_size     payload bytes of each segment
6       2     csum_start   byte offset in the frame
8       2     csum_offset  relative to csum_start
======  ====  ===========  ==========================================================================
"""

from struct import Struct
from typing import Final

VNET_HDR: Final = Struct("<BBHHHH")  # flags gso_type hdr_len gso_size csum_start csum_offset
VNET_HDR_SIZE: Final = 10
assert VNET_HDR.size == VNET_HDR_SIZE

VIRTIO_NET_HDR_F_NEEDS_CSUM: Final = 1
VIRTIO_NET_HDR_F_DATA_VALID: Final = 2

VIRTIO_NET_HDR_GSO_NONE: Final = 0
VIRTIO_NET_HDR_GSO_TCPV4: Final = 1
VIRTIO_NET_HDR_GSO_UDP: Final = 3
VIRTIO_NET_HDR_GSO_TCPV6: Final = 4
VIRTIO_NET_HDR_GSO_ECN: Final = 0x80
