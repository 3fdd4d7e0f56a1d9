"""Any sequence of event channel calls by three domains that come and go, against a model of sets."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.event_channel import (
    EVTCHN_MASK,
    EVTCHN_PENDING,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_unbound,
)
from xnet.errors import HypercallError
from xnet.host.memory import MachineMemory
from xnet.hv import Domain, Hypervisor, PortStatus

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLOSED = PortStatus(EVTCHNSTAT_closed)
TOP = 8


@dataclass
class Guest:
    domain: Domain
    ports: dict[int, PortStatus] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    masked: set[int] = field(default_factory=set)


slots = st.integers(0, 2)
ports = st.integers(0, TOP)


class Channels(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.memory = MachineMemory(64)
        self.hypervisor = Hypervisor(self.memory, heap_pages=16, report=self.unexpected)
        self.guests: dict[int, Guest] = {}
        self.events: list[tuple[int, int]] = []
        self.living = [self.born() for _ in range(3)]

    def unexpected(self, domid: int, error: Exception) -> None:
        raise error

    def born(self) -> int:
        domain = self.hypervisor.create_domain("guest", 4, map_pages=0)
        self.hypervisor.ports.tables[domain.domid].max_port = TOP
        self.guests[domain.domid] = Guest(domain)
        for port in range(1, TOP + 1):
            domain.set_handler(port, lambda port=port: self.events.append((domain.domid, port)))  # type: ignore[misc]
        return domain.domid

    def free_port(self, guest: Guest) -> int | None:
        return min(set(range(1, TOP + 1)) - set(guest.ports), default=None)

    def refused(self, status: str, call: object, *args: int) -> None:
        assert callable(call)
        with pytest.raises(HypercallError) as refusal:
            call(*args)
        assert refusal.value.status == status

    @rule(slot=slots, to=slots)
    def alloc_unbound(self, slot: int, to: int) -> None:
        guest, remote = self.guests[self.living[slot]], self.living[to]
        port = self.free_port(guest)
        if port is None:
            self.refused("ENOSPC", guest.domain.alloc_unbound, remote)
        else:
            assert guest.domain.alloc_unbound(remote) == port
            guest.ports[port] = PortStatus(EVTCHNSTAT_unbound, remote)

    @rule(slot=slots, to=slots, remote_port=ports)
    def bind(self, slot: int, to: int, remote_port: int) -> None:
        domid, remote = self.living[slot], self.living[to]
        guest, far = self.guests[domid], self.guests[remote]
        port = self.free_port(guest)
        if port is None:
            self.refused("ENOSPC", guest.domain.bind_interdomain, remote, remote_port)
        elif far.ports.get(remote_port, CLOSED) != PortStatus(EVTCHNSTAT_unbound, domid):
            self.refused("EINVAL", guest.domain.bind_interdomain, remote, remote_port)
        else:
            assert guest.domain.bind_interdomain(remote, remote_port) == port
            far.ports[remote_port] = PortStatus(EVTCHNSTAT_interdomain, domid, port)
            guest.ports[port] = PortStatus(EVTCHNSTAT_interdomain, remote, remote_port)
            guest.pending.add(port)

    @rule(slot=slots, port=ports)
    def send(self, slot: int, port: int) -> None:
        guest = self.guests[self.living[slot]]
        status = guest.ports.get(port, CLOSED)
        if status == CLOSED:
            self.refused("EINVAL", guest.domain.send, port)
            return
        guest.domain.send(port)
        if status.state == EVTCHNSTAT_interdomain:
            self.guests[status.remote_domid].pending.add(status.remote_port)

    @rule(slot=slots, port=ports)
    def close(self, slot: int, port: int) -> None:
        guest = self.guests[self.living[slot]]
        if port not in guest.ports:
            self.refused("EINVAL", guest.domain.close_port, port)
            return
        guest.domain.close_port(port)
        guest.domain.set_handler(port, lambda: self.events.append((guest.domain.domid, port)))
        self.closed(guest, port)

    def closed(self, guest: Guest, port: int) -> None:
        status = guest.ports.pop(port)
        guest.pending.discard(port)
        guest.masked.discard(port)
        if status.state == EVTCHNSTAT_interdomain:
            far = self.guests[status.remote_domid]
            far.ports[status.remote_port] = PortStatus(EVTCHNSTAT_unbound, guest.domain.domid)

    @rule(slot=slots, port=st.integers(1, TOP))
    def mask(self, slot: int, port: int) -> None:
        guest = self.guests[self.living[slot]]
        guest.domain.mask(port)
        guest.masked.add(port)

    @rule(slot=slots, port=ports)
    def unmask(self, slot: int, port: int) -> None:
        guest = self.guests[self.living[slot]]
        if port not in guest.ports:
            self.refused("EINVAL", guest.domain.unmask, port)
        else:
            guest.domain.unmask(port)
            guest.masked.discard(port)

    @rule()
    def step(self) -> None:
        wanted = {(domid, port) for domid in self.living for port in self.deliverable(domid)}
        self.events.clear()
        while self.hypervisor.step(3):
            pass
        assert len(self.events) == len(wanted), "nothing lost, nothing twice"
        assert set(self.events) == wanted
        for domid in self.living:
            self.guests[domid].pending -= self.deliverable(domid)

    def deliverable(self, domid: int) -> set[int]:
        return self.guests[domid].pending - self.guests[domid].masked

    @rule(slot=st.integers(1, 2))
    def die_and_be_followed(self, slot: int) -> None:
        domid = self.living[slot]
        self.hypervisor.destroy_domain(domid)
        guest = self.guests[domid]
        for port in list(guest.ports):
            self.closed(guest, port)
        del self.guests[domid]
        self.living[slot] = self.born()

    @invariant()
    def every_port_is_what_the_model_says(self) -> None:
        for domid in self.living:
            guest = self.guests[domid]
            for port in range(TOP + 1):
                assert self.hypervisor.ports.status(domid, port) == guest.ports.get(port, CLOSED)

    @invariant()
    def the_bits_in_shared_info_are_the_models_sets(self) -> None:
        for domid in self.living:
            guest = self.guests[domid]
            start = guest.domain.shared_info_pfn * PAGE_SIZE
            info = guest.domain.window[start : start + PAGE_SIZE]
            for where, bits in ((EVTCHN_PENDING, guest.pending), (EVTCHN_MASK, guest.masked)):
                assert int.from_bytes(info[where : where + 512], "little") == sum(1 << port for port in bits)

    def teardown(self) -> None:
        if hasattr(self, "hypervisor"):
            self.hypervisor.close()
            self.hypervisor.assert_no_leaks()
            self.memory.close()


TestChannels = Channels.TestCase
TestChannels.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
