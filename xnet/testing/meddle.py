"""Another CPU: what a rogue does while the driver at the other end is in the middle of a burst.

In one thread nothing moves while a driver reads a ring. A rogue's other CPU would go on writing; here it has its turns
in the driver's hypercalls, which lie where it would hurt: behind the first look at slots and pages, and before what was
read there is acted upon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xnet.hv.api import Xen

Turn = Callable[[str], None]
"""Told of a hypercall by its name, before it is made."""
CALLS = (
    *("alloc_pages", "free_pages", "decrease_reservation", "increase_reservation", "release_frames"),
    *("alloc_grefs", "free_grefs", "prepare_grants", "grant", "end_grant", "prepare_transfers", "end_transfers"),
    *("map_grants", "unmap_grants", "copy_grants", "transfer", "alloc_unbound", "bind_interdomain", "set_handler"),
    *("send", "close_port", "mask", "unmask", "console"),
)


def forward(name: str) -> Callable[..., Any]:
    """A hypercall that is made when somebody else has had a turn."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.turn(name)
        return getattr(self.xen, name)(*args, **kwargs)

    return call


Meddled: Any = type("Meddled", (Xen,), {name: forward(name) for name in CALLS})


def meddled(xen: Xen, turn: Turn) -> Xen:
    """A domain's hypervisor, with somebody between its calls."""
    found: Any = Meddled()
    found.domid, found.window, found.capabilities = xen.domid, xen.window, xen.capabilities
    found.xen, found.turn, found.deferred = xen, turn, xen.deferred
    result: Xen = found
    return result
