"""A vnic as an interface: what Solaris does with the link property ``zone``.

The interface is a TAP in somebody's namespace, with the vnic's name, address and MTU; its frames go from one into the
other as they are, checksums and segments left undone::

    namespace's stack - TAP - TapLink - Splice -> Vnic.tx        switch
                                      <- Splice - Vnic.deliver

Frames that a netback left with their guest are fetched on their way to the TAP. The TAP goes with its descriptor: the
machine's own namespace has nothing left of it if the engine is killed. If the namespace goes first, the vnic stays.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xnet.engine.edge import TapLink
from xnet.engine.guest import GSO_MAX_SIZE
from xnet.engine.turn import Turn
from xnet.engine.xen_host import XenHost
from xnet.frame import Chain, Client, Link, mac_text
from xnet.host.netlink import Netlink
from xnet.host.netns import pinned_netns
from xnet.host.tap import Tap, close_taps
from xnet.mac import Vnic

if TYPE_CHECKING:
    from xnet.engine.machine import Machine


class Splice(Client):
    """One link's client that hands everything to another link."""

    def __init__(self, to: Link) -> None:
        self.to = to

    def rx(self, chain: Chain) -> None:
        """Frames, away from there and into here."""
        self.to.tx(chain if self.to.heads_only else chain.fetched())

    def room(self) -> int:
        """As much as the other link takes."""
        return self.to.room()

    def link_ready(self) -> None:
        """The one has room: the other may send."""
        self.to.client_ready()


class ZoneTap:
    """A vnic that is an interface somewhere, until `take_back`."""

    def __init__(self, vnic: Vnic, tap: Tap, link: TapLink) -> None:
        self.vnic = vnic
        self.tap = tap
        self.link = link
        vnic.attach(Splice(link))
        link.attach(Splice(vnic))

    def counters(self) -> dict[str, int]:
        """The TAP's."""
        return self.link.counters()

    async def take_back(self) -> None:
        """The interface goes, with its addresses; the vnic has no client any more. Twice is allowed."""
        if self.tap.fds:
            self.vnic.attach(None)
            self.link.close()
            await close_taps([self.tap])


async def give(
    vnic: Vnic,
    netns_fd: int,
    *,
    host: XenHost,
    turn: Turn,
    ip: Sequence[str] = (),
    alias: str | None = None,
) -> ZoneTap:
    """Make the interface in a namespace, up and with these addresses. HostError, and nothing is left."""
    name = vnic.name
    tap = Tap(name, netns_fd)
    try:
        tap.set_offload(True, True, True)
        async with Netlink(netns_fd) as netlink:
            await netlink.set_link(
                name, mtu=vnic.mtu, address=mac_text(vnic.mac), alias=alias, gso_max_size=GSO_MAX_SIZE, up=True
            )
            for address in ip:
                await netlink.add_address(name, address)
    except BaseException:
        tap.close()
        raise
    link = TapLink(turn.loop, tap.fd, mtu=vnic.mtu, memory=host.dom0.window, arena=host.arena, turn=turn)
    return ZoneTap(vnic, tap, link)


def zone_fd(machine: Machine, name: str) -> int:
    """A descriptor of a network namespace, for the caller to close: a domain's, or one that ``ip netns`` knows by this
    name or is at this path. HostError."""
    if name == "dom0" or machine.find(name) is not None:
        return os.dup(machine.namespace_fds(name).net)
    return pinned_netns(name)


def is_absent(machine: Machine, name: str) -> bool:
    """It is a guest of the lab's that does not run."""
    return name not in machine.guests and any(name == spec.name for spec in machine.lab.domains)
