"""Pages that a frontend lent its backend, and gets back."""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.hv.api import Xen
from xnet.netif.counters import Counters

GRANT_SIZE: Final = GRANT_ENTRY_V1.size


def give_back(xen: Xen, counters: Counters, addr: int, ref: int, entries: bytes) -> None:
    """Pages and references to where they came from: at once, or one by one past those that are in use."""
    count = len(entries) // GRANT_SIZE
    if xen.end_grant(ref, entries):
        xen.free_grefs(ref, count)
        xen.free_pages(addr, count)
    elif count == 1:
        counters.count("grants_lost")
    else:
        for index in range(count):
            entry = entries[index * GRANT_SIZE : (index + 1) * GRANT_SIZE]
            give_back(xen, counters, addr + index * PAGE_SIZE, ref + index, entry)
