"""Multicast control: a guest tells its backend the groups it is in, and others' frames stay outside.

The backend offers `feature-multicast-control`, and by `feature-dynamic-multicast-control` that the guest may ask for
it at any time (else: before it connects), with `request-multicast-control`. A group is told by a dummy request on the
tx ring with an extra (MCAST_ADD, MCAST_DEL), which is answered at once, asked for or not: OKAY, or ERROR when the list
is full. The list takes the same group twice, and forgets it once at a time. While it is asked for, multicast to
groups that are not in it is dropped (not broadcast), and the link is told, for a vnic can leave it out earlier.

Source: public/io/netif.h, Linux's xen-netback (xenvif_mcast_add, xenvif_start_xmit).
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen.netif import EXTRA_MCAST, XEN_NETIF_EXTRA_TYPE_MCAST_ADD
from xnet.frame import Chain, Client, Frame, Link, head, is_multicast
from xnet.frame.ether import BROADCAST
from xnet.netif.counters import Counters
from xnet.netif.features import Features, number

REQUEST: Final = "request-multicast-control"
MOST_GROUPS: Final = 64
"""Linux's XEN_NETBK_MCAST_MAX."""
ADDRESS: Final = 6


class Groups:
    """What one guest told."""

    def __init__(self) -> None:
        self.members: list[bytes] = []

    def change(self, extra: bytes) -> bool:
        """What an extra says; False when the list is full."""
        kind, _, group = EXTRA_MCAST.unpack(extra)
        if kind == XEN_NETIF_EXTRA_TYPE_MCAST_ADD:
            if len(self.members) == MOST_GROUPS:
                return False
            self.members.append(group)
        elif group in self.members:
            self.members.remove(group)
        return True


class MulticastControl:
    """A backend's part of it, for one vif."""

    def __init__(self, features: Features) -> None:
        self.offered = features.multicast_control
        self.any_time = self.offered and features.dynamic_multicast_control
        self.filters = False
        """The guest asked for multicast of its groups only."""
        self.groups = Groups()
        self.link: Link | None = None

    def asked(self, request: str | None) -> bool:
        """What the guest's `request-multicast-control` says now; whether that is news."""
        before, self.filters = self.filters, self.offered and bool(number(request))
        return self.filters is not before

    def client(self, queue: Client, counters: Counters) -> Client:
        """What the link is to see of a queue: all of it, unless there is something to filter."""
        return MulticastFilter(queue, self.groups, counters) if self.filters else queue

    def follow(self, link: Link | None) -> None:
        """Let the link know what the guest wants, now and when that changes."""
        self.link = link
        if link is not None:
            link.follow(frozenset(self.groups.members) if self.filters else None)

    def regroup(self, extra: bytes) -> bool:
        """The guest joined or left a group; False: there is no place for it."""
        done = self.groups.change(extra)
        if self.filters:
            self.follow(self.link)
        return done

    def forget(self) -> None:
        """The guest has gone."""
        self.filters = False
        self.groups = Groups()
        self.follow(self.link)
        self.link = None


class MulticastFilter(Client):
    """A guest's end of a link that lets only its groups' multicast through."""

    def __init__(self, client: Client, groups: Groups, counters: Counters) -> None:
        self.client = client
        self.groups = groups
        self.counters = counters

    def rx(self, chain: Chain) -> None:
        """What the guest wants to see."""
        wanted = [frame for frame in chain.frames if self.is_wanted(chain, frame)]
        if len(wanted) < len(chain.frames):
            self.counters.count("rx_multicast_filtered", len(chain.frames) - len(wanted))
            chain = chain.part(wanted)
        if wanted:
            self.client.rx(chain)

    def is_wanted(self, chain: Chain, frame: Frame) -> bool:
        """Whether a frame is for one, for all, or for a group of the guest's."""
        to = bytes(head(chain, frame)[:ADDRESS])
        return not is_multicast(to) or to == BROADCAST or to in self.groups.members

    def room(self) -> int:
        """The guest's."""
        return self.client.room()

    def backlog(self) -> int:
        """The guest's."""
        return self.client.backlog()

    def link_ready(self) -> None:
        """For the guest's queue."""
        self.client.link_ready()
