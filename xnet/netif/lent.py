"""Pages that a frontend lent its backend, and gets back.

What a backend still uses when the frontend is done cannot be had back: it stays granted, and is tried again once a
second (Linux's gnttab_end_foreign_access does the same).
"""

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
        xen.deferred.append((addr, ref, entries))
    else:
        for index in range(count):
            entry = entries[index * GRANT_SIZE : (index + 1) * GRANT_SIZE]
            give_back(xen, counters, addr + index * PAGE_SIZE, ref + index, entry)


def try_again(xen: Xen) -> None:
    """Give back what was in use before."""
    deferred, xen.deferred = xen.deferred, []
    for addr, ref, entry in deferred:
        if xen.end_grant(ref, entry):
            xen.free_grefs(ref, 1)
            xen.free_pages(addr, 1)
        else:
            xen.deferred.append((addr, ref, entry))
