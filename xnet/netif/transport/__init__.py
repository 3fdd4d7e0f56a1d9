"""How bytes cross between guest and backend: one strategy a file, chosen at connect.

Out of a guest (tx): `copy.CopyFetch` lets the hypervisor copy the granted pages into the backend's staging memory, or
only the first of a long frame where the link needs no more; `map.MapFetch` maps them, hands them on where they lie and
unmaps them, as xVM did until 2009.
Into a guest (rx), behind `deliver.Deliver`, where `choice` says which: `copy.CopyDeliver` lets the hypervisor copy into
pages the guest posted (HVcopy), from dom0's own or straight from another guest's; `flip.FlipDeliver` gives the guest
the pages themselves; `headroom` has both as xVM did them until 2009; `extras.ExtrasCopy` adds what a guest asked for:
hashes of flows, room in every page.
"""

from xnet.netif.transport.choice import deliverer
from xnet.netif.transport.copy import CopyDeliver, CopyFetch, Failure
from xnet.netif.transport.deliver import Deliver
from xnet.netif.transport.map import MapFetch

__all__ = ["CopyDeliver", "CopyFetch", "Deliver", "Failure", "MapFetch", "deliverer"]
