"""Xen's public ABI (``xen/include/public``): ring, netif, grant_table, event_channel, xenbus, xs_wire."""

from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 4096
"""Bytes in a page on every Xen PV interface, whatever the guest's own page size."""

DOMID_FIRST_RESERVED: Final = 0x7FF0
DOMID_SELF: Final = 0x7FF0
DOMID_INVALID: Final = 0x7FF4
"""Reserved domain ids. Source: public/xen.h."""
