"""The groups a guest is in, as its frontend tells them to the backend's multicast filter (the other end: `multicast`).

What the guest's kernel says is kept until the tx ring has room for it, group by group: a dummy request each. A guest
that wants all multicast, or more groups than the filter takes, has the filter switched off if that can be done at any
time (`feature-dynamic-multicast-control`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xnet.abi.xen.netif import (
    EXTRA_MCAST,
    RING_SLOTS,
    TX_REQUEST,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    NETTXF_extra_info,
)
from xnet.errors import XnetError
from xnet.netif.features import flag
from xnet.netif.front_queue import FrontQueue
from xnet.netif.multicast import REQUEST
from xnet.netif.posted import EXTRA_PADDING
from xnet.xenstore import Conversation, Read, Write

if TYPE_CHECKING:
    from xnet.netif.front import Netfront


MOST_DUMMIES = RING_SLOTS // 2
"""As many as the ring has room for; more are out only of a backend that answers them with what is no answer."""


class Multicast:
    """What one frontend has to do with it."""

    def __init__(self, netfront: Netfront) -> None:
        self.netfront = netfront
        self.asked = False
        """The backend filters."""
        self.dynamic = False
        """It can be told at any time whether it shall."""
        self.filters = False
        """It does now."""
        self.told: set[bytes] = set()
        self.wanted: frozenset[bytes] | None = frozenset()

    def negotiate(self) -> Conversation[None]:
        """Look at what the backend offers, and decide."""
        front = self.netfront
        offers = []
        for name in ("feature-multicast-control", "feature-dynamic-multicast-control"):
            offers.append(front.parse((yield Read(f"{front.otherend}/{name}"))))
        offered, self.dynamic = offers
        needed = self.dynamic if front.profile.multicast == "dynamic" else offered
        self.asked = self.filters = needed and front.features.multicast_control
        self.told.clear()

    def begin(self) -> None:
        """There is a queue."""
        if self.asked:
            self.netfront.nic.wants_groups(self.follow)

    def follow(self, groups: frozenset[bytes] | None) -> None:
        """The guest is in these groups; None: it wants all multicast."""
        self.wanted = groups
        queue = self.netfront.queue
        if queue is None or not self.asked:
            return
        if queue.refused:
            groups = None
        self.switch(groups is not None)
        if groups is None:
            return
        for kind, changed in (
            (XEN_NETIF_EXTRA_TYPE_MCAST_DEL, self.told - groups),
            (XEN_NETIF_EXTRA_TYPE_MCAST_ADD, groups - self.told),
        ):
            for group in sorted(changed):
                if not tell(queue, EXTRA_MCAST.pack(kind, 0, group)):
                    return  # the ring is full: who calls again finds room
                self.told ^= {group}

    def switch(self, on: bool) -> None:
        """Have the filter on or off, where it can be switched."""
        if self.dynamic and on != self.filters:
            self.filters = on
            self.netfront.session.run(self.write(on), self.written)

    def write(self, on: bool) -> Conversation[None]:
        """The key by which it is switched."""
        yield Write(f"{self.netfront.nodename}/{REQUEST}", flag(on))

    def written(self, result: Any) -> None:
        """Or not: the directory may be gone."""
        if isinstance(result, Exception) and not isinstance(result, XnetError):
            raise result


def tell(queue: FrontQueue, extra: bytes) -> bool:
    """Put a dummy request on the tx ring, which says what the extra says; False: there is no room."""
    if queue.free_slots() < 2 or len(queue.dummies) >= MOST_DUMMIES:
        return False
    queue.stage()
    ident = queue.dummy_id()
    queue.dummies.add(ident)
    queue.tx_ring.add_requests(TX_REQUEST.pack(0, 0, NETTXF_extra_info, ident, 0) + extra + EXTRA_PADDING)
    queue.flush()
    return True
