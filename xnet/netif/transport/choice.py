"""Which strategy a connection has."""

from __future__ import annotations

from xnet.hv.api import Xen
from xnet.netif.hashing import Hashing
from xnet.netif.transport.copy import CopyDeliver
from xnet.netif.transport.deliver import Deliver
from xnet.netif.transport.extras import ExtrasCopy
from xnet.netif.transport.flip import FlipDeliver
from xnet.netif.transport.headroom import HeadroomCopy, HeadroomFlip


def deliverer(xen: Xen, domid: int, name: str, *, flips: bool, lead: int, headroom: int, hashing: Hashing) -> Deliver:
    """How frames get into a guest. `lead`: bytes in front of every frame, as xVM's backends left them; `headroom`: in
    front of the data in every page, as the guest asked; `hashing`: what flows' hashes it wants to be told, which those
    who flip do not."""
    if headroom or (hashing.told and not flips and not lead):
        return ExtrasCopy(xen, domid, headroom, hashing)
    if lead:
        return HeadroomFlip(xen, domid, name, lead) if flips else HeadroomCopy(xen, domid, lead)
    return FlipDeliver(xen, domid, name) if flips else CopyDeliver(xen, domid)
