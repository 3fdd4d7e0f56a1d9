"""Event channels: one bit of news from a port of one domain to a port of another.

States of a port (xen/common/event_channel.c)::

    closed --alloc_unbound--> unbound --bind_interdomain by the domain it waits for--> interdomain
       ^                         ^ |                                                       |  |
       |________close____________|_|                 the other end closes _________________|  |
       |                         |_______________________|                                    |
       |_____________________________________close____________________________________________|

Pending and mask bits live in the domain's shared_info page (layout: `xnet.abi.xen.event_channel`; who sets and takes
them: `events`). The words are little-endian, so bit p of the array is bit p & 7 of byte p >> 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xnet.abi.xen.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHN_MASK,
    EVTCHN_PENDING,
    EVTCHN_PENDING_SEL,
    EVTCHN_UPCALL_PENDING,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_unbound,
)
from xnet.errors import HypercallError
from xnet.hv.events import COALESCED, HELD, NEWS, Target
from xnet.hv.runqueue import RunQueue, Vcpu

MAX_PORTS: Final = 1023
"""Highest port of a domain unless told otherwise (libxl's max_event_channels)."""

BITMAP: Final = EVTCHN_2L_NR_CHANNELS // 8
"""Bytes of a bit for each port."""


@dataclass(slots=True)
class Port:
    """One end of a channel. `remote_port` means something only when interdomain."""

    state: int
    remote_domid: int
    remote_port: int = 0


@dataclass(slots=True, frozen=True)
class PortStatus:
    """EVTCHNOP_status: `state` is one of EVTCHNSTAT_*."""

    state: int
    remote_domid: int = 0
    remote_port: int = 0


class PortTable:
    """One domain's ports. `info` is its shared_info page as the hypervisor sees it."""

    def __init__(self, domid: int, info: memoryview, vcpu: Vcpu, max_port: int = MAX_PORTS) -> None:
        self.domid = domid
        self.info = info
        self.pending = info[EVTCHN_PENDING : EVTCHN_PENDING + BITMAP]
        self.mask = info[EVTCHN_MASK : EVTCHN_MASK + BITMAP]
        self.vcpu = vcpu
        self.max_port = max_port
        self.ports: dict[int, Port] = {}
        self.targets: dict[int, Target] = {}
        self.sent = 0
        self.coalesced = 0
        self.held = 0

    def free_port(self) -> int:
        """Lowest closed port. HypercallError ENOSPC."""
        for port in range(1, self.max_port + 1):
            if port not in self.ports:
                return port
        raise HypercallError("ENOSPC", f"d{self.domid}: all {self.max_port} event channels are in use")

    def target(self, port: int) -> Target:
        """This domain's `port` as the far end of somebody's send."""
        return Target(self, self.info, port)

    def clear_pending(self, port: int) -> None:
        self.pending[port >> 3] &= ~(1 << (port & 7))


class Ports:
    """The ports of all living domains."""

    def __init__(self, runqueue: RunQueue) -> None:
        self.tables: dict[int, PortTable] = {}
        self._runqueue = runqueue

    def alloc_unbound(self, domid: int, remote: int) -> int:
        """A new port of `domid` for `remote` (who need not exist yet) to bind to. HypercallError ENOSPC, ESRCH."""
        table = self._table(domid)
        port = table.free_port()
        table.ports[port] = Port(EVTCHNSTAT_unbound, remote)
        return port

    def bind_interdomain(self, domid: int, remote: int, remote_port: int) -> int:
        """A port of `domid` bound to one that waits for it, at once pending. HypercallError EINVAL, ENOSPC, ESRCH."""
        here, there = self._table(domid), self._table(remote)
        port = here.free_port()
        far = there.ports.get(remote_port)
        if far is None or far.state != EVTCHNSTAT_unbound or far.remote_domid != domid:
            raise HypercallError("EINVAL", f"d{domid}: port {remote_port} of d{remote} does not wait for it")
        here.ports[port] = Port(EVTCHNSTAT_interdomain, remote, remote_port)
        there.ports[remote_port] = Port(EVTCHNSTAT_interdomain, domid, port)
        here.targets[port] = there.target(remote_port)
        there.targets[remote_port] = here.target(port)
        self._raise(here, port)
        return port

    def send(self, table: PortTable, port: int) -> None:  # hot: <= 0.6 us
        """Make the far end pending, if it is not. Into an unbound port it is lost. HypercallError EINVAL."""
        target = table.targets.get(port)
        if target is None:
            if port in table.ports:
                return
            raise HypercallError("EINVAL", f"d{table.domid}: send on closed port {port}")
        table.sent += 1
        said = target.set_pending()
        if said == NEWS:
            far: PortTable = target.table
            self._runqueue.add(far.vcpu)
        elif said == COALESCED:
            table.coalesced += 1
        elif said == HELD:
            table.held += 1

    def unmask(self, table: PortTable, port: int) -> None:
        """Clear the mask bit; a held event goes through. HypercallError EINVAL."""
        if port not in table.ports:
            raise HypercallError("EINVAL", f"d{table.domid}: unmask of closed port {port}")
        byte, bit = port >> 3, 1 << (port & 7)
        if not table.mask[byte] & bit:
            return
        table.mask[byte] &= ~bit
        if table.pending[byte] & bit and table.target(port).select():
            self._runqueue.add(table.vcpu)

    def close(self, domid: int, port: int) -> None:
        """Close; the far end waits for `domid` again. HypercallError EINVAL, ESRCH."""
        table = self._table(domid)
        closed = table.ports.pop(port, None)
        if closed is None:
            raise HypercallError("EINVAL", f"d{domid}: close of closed port {port}")
        table.targets.pop(port, None)
        table.clear_pending(port)
        if closed.state == EVTCHNSTAT_interdomain:
            far = self.tables[closed.remote_domid]
            far.ports[closed.remote_port] = Port(EVTCHNSTAT_unbound, domid)
            del far.targets[closed.remote_port]

    def select_all(self, domid: int) -> None:
        """Have a domain look at every word of its pending bits: it may have been stopped in the middle of a look."""
        table = self._table(domid)
        table.info[EVTCHN_PENDING_SEL : EVTCHN_PENDING_SEL + 8] = b"\xff" * 8
        table.info[EVTCHN_UPCALL_PENDING] = 1
        self._runqueue.add(table.vcpu)

    def status(self, domid: int, port: int) -> PortStatus:
        """What a port is. HypercallError EINVAL past the limit, ESRCH."""
        table = self._table(domid)
        if not 0 <= port <= table.max_port:
            raise HypercallError("EINVAL", f"d{domid}: no port {port}")
        found = table.ports.get(port)
        return (
            PortStatus(found.state, found.remote_domid, found.remote_port) if found else PortStatus(EVTCHNSTAT_closed)
        )

    def bury(self, domid: int) -> None:
        """Close all ports of a dead domain and forget it."""
        for port in list(self.tables[domid].ports):
            self.close(domid, port)
        del self.tables[domid]

    def _raise(self, table: PortTable, port: int) -> None:
        """Make one of the domain's own ports pending."""
        if table.target(port).set_pending() == NEWS:
            self._runqueue.add(table.vcpu)

    def _table(self, domid: int) -> PortTable:
        table = self.tables.get(domid)
        if table is None:
            raise HypercallError("ESRCH", f"no domain {domid}")
        return table
