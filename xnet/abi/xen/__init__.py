"""Xen's public ABI (``xen/include/public``): ring, netif, grant_table, event_channel, xenbus, xs_wire."""

PAGE_SHIFT = 12
PAGE_SIZE = 4096
"""Bytes in a page on every Xen PV interface, whatever the guest's own page size."""

DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_INVALID = 0x7FF4
"""Reserved domain ids. Source: public/xen.h."""
