"""How bytes cross between guest and backend: one strategy a file, chosen at connect.

Out of a guest (tx): `copy.CopyFetch` lets the hypervisor copy the granted pages into the backend's staging memory;
`map.MapFetch` maps them, hands them on where they lie and unmaps them, as xVM did until 2009.
Into a guest (rx): `copy.CopyDeliver` lets the hypervisor copy into pages the guest posted (HVcopy).
"""

from xnet.netif.transport.copy import CopyDeliver, CopyFetch, Failure
from xnet.netif.transport.map import MapFetch

__all__ = ["CopyDeliver", "CopyFetch", "Failure", "MapFetch"]
