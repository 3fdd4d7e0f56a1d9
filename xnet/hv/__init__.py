"""The hypervisor: domains, grants, event channels and who runs next, behind one door (`xnet.hv.api.Xen`).

::

    hypervisor   makes and buries domains; heap, console, accounts
    domain       one domain: its window, its guest kernel's little helpers, its side of `api.Xen`
    grants       a domain's grant table: entries in shared pages, pins, maptrack     (xen/common/grant_table.c)
    grantops     map, unmap, copy, transfer between two domains' tables
    copier       the copies that are plainly right, in C
    ports        event channels, 2-level                                             (xen/common/event_channel.c)
    events       their bits in shared_info, set and taken, in C
    runqueue     domains with events waiting; never one inside another
    heap         the hypervisor's own frames
    reservation  the frames a domain owns, as it gives some up and gets others       (xen/common/memory.c)
    console      the console ring

Who owns what. Grant table frames and shared_info pages come from the hypervisor's heap and are mapped into the domain's
window: shared bytes, real layout. The hypervisor reads a grant entry from there at each use, so what a domain pokes
there counts; what it keeps to itself is who uses which frame now, so that poking cannot take a page from under a user.

In which order. A batch of copies that are all plainly right is checked first and done as few memory copies as the
machine addresses allow, any other one op by op by Xen's rules; the effect is that of the ops one after another. A
mapping is remapped first and counted then; an unmapping is remapped first and the page let go then, so no freed frame
is ever in a window. A transferred frame leaves the giver's window before its grant says that it has come. `send` sets a
bit and queues the domain; the handler runs later, from `step`, after its pending bit was cleared.

What can go wrong. Every refusal is Xen's own status, per element of a batch, or a HypercallError with Xen's errno by
name. A handler that raises is reported and the next one runs. A domain that dies while others have its pages
mapped is a zombie until they let go: its frames are neither freed nor given to anyone.

Not here. Version 2 entries, VIRQs and IPIs, FIFO event channels: netif on a PV host of that time needs none.
"""

from xnet.hv.api import Capabilities, CopyOp, Mapping, Xen
from xnet.hv.console import Console
from xnet.hv.domain import Domain, DomainState
from xnet.hv.hypervisor import DomainStatistics, Hypervisor
from xnet.hv.ports import PortStatus
from xnet.hv.runqueue import RunQueue

__all__ = [
    "Capabilities",
    "Console",
    "CopyOp",
    "Domain",
    "DomainState",
    "DomainStatistics",
    "Hypervisor",
    "Mapping",
    "PortStatus",
    "RunQueue",
    "Xen",
]
