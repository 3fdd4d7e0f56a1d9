"""What only Linux's copy of netif.h has: an extra info toward the guest, so many bytes of headroom in each page.

Source: include/xen/interface/io/netif.h of the kernel, which no package of headers installs. Layout: as every extra
info, type u8 @0 and flags u8 @1; headroom u16 @2, pad 4 bytes. On the tx ring the type is unknown, as in Xen's header.
"""

from struct import Struct
from typing import Final

EXTRA_XDP: Final = Struct("<BBH4x")  # type flags headroom
assert EXTRA_XDP.size == 8
XEN_NETIF_EXTRA_TYPE_XDP: Final = 5
