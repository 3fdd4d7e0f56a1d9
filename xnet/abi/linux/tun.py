"""TAP ioctls and flags. Source: uapi/linux/if_tun.h; numbers by _IOC on x86-64 and arm64."""

from typing import Final

TUNSETIFF: Final = 0x400454CA
TUNSETPERSIST: Final = 0x400454CB
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETIFF: Final = 0x800454D2
TUNSETSNDBUF: Final = 0x400454D4
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETQUEUE: Final = 0x400454D9
TUNSETCARRIER: Final = 0x400454E2

IFF_TAP: Final = 0x0002
IFF_NAPI: Final = 0x0010
IFF_MULTI_QUEUE: Final = 0x0100
IFF_ATTACH_QUEUE: Final = 0x0200
IFF_DETACH_QUEUE: Final = 0x0400
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

TUN_F_CSUM: Final = 0x01
TUN_F_TSO4: Final = 0x02
TUN_F_TSO6: Final = 0x04
TUN_F_TSO_ECN: Final = 0x08

IFNAMSIZ: Final = 16
"""Bytes of an interface name with its final NUL: 15 characters are usable."""

TAP_MAX_MTU: Final = 65521
