"""Which strategy a connection has."""

from __future__ import annotations

from xnet.hv.api import Xen
from xnet.netif.transport.copy import CopyDeliver
from xnet.netif.transport.deliver import Deliver
from xnet.netif.transport.flip import FlipDeliver
from xnet.netif.transport.headroom import HeadroomCopy, HeadroomFlip
from xnet.netif.transport.xdp import XdpCopy


def deliverer(xen: Xen, domid: int, name: str, *, flips: bool, lead: int, headroom: int) -> Deliver:
    """How frames get into a guest. `lead`: bytes in front of every frame, as xVM's backends left them; `headroom`: in
    front of the data in every page, as the guest asked."""
    if headroom:
        return XdpCopy(xen, domid, headroom)
    if lead:
        return HeadroomFlip(xen, domid, name, lead) if flips else HeadroomCopy(xen, domid, lead)
    return FlipDeliver(xen, domid, name) if flips else CopyDeliver(xen, domid)
