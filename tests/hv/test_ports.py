"""Event channels over plain bytes: no memory to map, no domain to run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xnet.abi.xen.event_channel import (
    EVTCHN_MASK,
    EVTCHN_PENDING,
    EVTCHN_PENDING_SEL,
    EVTCHN_UPCALL_PENDING,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_unbound,
)
from xnet.errors import HypercallError
from xnet.hv import PortStatus
from xnet.hv.ports import Ports, PortTable
from xnet.hv.runqueue import RunQueue, Vcpu

CLOSED = PortStatus(EVTCHNSTAT_closed)


class Channels:
    """Ports of domains 1, 2 and 3, which do nothing in their turns: a pending event stays so."""

    def __init__(self, max_port: int = 1023) -> None:
        self.turns: list[int] = []
        self.runqueue = RunQueue(lambda: None)
        self.ports = Ports(self.runqueue)
        self.pages = {domid: memoryview(bytearray(4096)) for domid in (1, 2, 3)}
        for domid in (1, 2, 3):
            vcpu = Vcpu(lambda domid=domid: self.turns.append(domid) or 0)  # type: ignore[misc, func-returns-value]
            self.ports.tables[domid] = PortTable(domid, self.pages[domid], vcpu, max_port)

    @property
    def woken(self) -> list[int]:
        """Those put on the queue, in order."""
        self.runqueue.step(100)
        return self.turns

    def info(self, domid: int) -> memoryview:
        return self.pages[domid]

    def bits(self, domid: int, where: int) -> set[int]:
        return {p for p in range(4096) if self.info(domid)[where + p // 8] >> p % 8 & 1}

    def pair(self) -> tuple[int, int]:
        """A channel between domains 1 and 2, quiet: the port of 1 (the front), the port of 2."""
        front = self.ports.alloc_unbound(1, 2)
        back = self.ports.bind_interdomain(2, 1, front)
        self.info(2)[:] = bytes(4096)
        self.woken.clear()
        return front, back

    def send(self, domid: int, port: int) -> None:
        self.ports.send(self.ports.tables[domid], port)

    def unmask(self, domid: int, port: int) -> None:
        self.ports.unmask(self.ports.tables[domid], port)


def test_binding_makes_both_ends_interdomain_and_the_local_one_pending() -> None:
    c = Channels()
    c.ports.alloc_unbound(2, 1)
    front = c.ports.alloc_unbound(1, 2)
    assert c.ports.status(1, front) == PortStatus(EVTCHNSTAT_unbound, 2)
    back = c.ports.bind_interdomain(2, 1, front)
    assert (front, back) == (1, 2)
    assert c.ports.status(1, front) == PortStatus(EVTCHNSTAT_interdomain, 2, back)
    assert c.ports.status(2, back) == PortStatus(EVTCHNSTAT_interdomain, 1, front)
    assert (c.bits(2, EVTCHN_PENDING), c.bits(1, EVTCHN_PENDING)) == ({back}, set())
    assert c.woken == [2]


@pytest.mark.parametrize(("port", "sel_byte", "sel"), [(1, 0, 1), (63, 0, 1), (64, 0, 2), (700, 1, 4), (1023, 1, 128)])
def test_a_send_sets_the_bits_of_the_real_layout(port: int, sel_byte: int, sel: int) -> None:
    c = Channels()
    for _ in range(port):
        front = c.ports.alloc_unbound(1, 2)
    back = c.ports.bind_interdomain(2, 1, front)
    c.woken.clear()
    c.send(2, back)
    assert c.bits(1, EVTCHN_PENDING) == {port}
    assert c.info(1)[EVTCHN_PENDING_SEL + sel_byte] == sel
    assert sum(c.info(1)[EVTCHN_PENDING_SEL : EVTCHN_PENDING_SEL + 8]) == sel
    assert c.info(1)[EVTCHN_UPCALL_PENDING] == 1
    assert c.woken == [1]


def test_sends_before_it_looks_are_one_event() -> None:
    c = Channels()
    front, _ = c.pair()
    for _ in range(5):
        c.send(1, front)
    assert c.woken == [2]
    table = c.ports.tables[1]
    assert (table.sent, table.coalesced, table.held) == (5, 4, 0)


def test_a_word_already_selected_is_not_told_again() -> None:
    """evtchn_2l_set_pending: who finds the bit in pending_sel set leaves the rest, for the domain has yet to look."""
    c = Channels()
    fronts = [c.pair()[0] for _ in range(2)]
    for front in fronts:
        c.send(1, front)
    assert c.woken == [2]
    assert len(c.bits(2, EVTCHN_PENDING)) == 2
    c.info(2)[EVTCHN_PENDING : EVTCHN_PENDING + 8] = bytes(8)
    c.send(1, fronts[0])
    assert c.woken == [2]
    c.info(2)[EVTCHN_PENDING_SEL] = 0
    c.send(1, fronts[1])
    assert c.woken == [2, 2]


def test_a_masked_event_waits_for_unmask() -> None:
    c = Channels()
    front, back = c.pair()
    c.info(2)[EVTCHN_MASK + back // 8] |= 1 << back % 8
    c.send(1, front)
    c.send(1, front)
    assert c.woken == []
    assert c.bits(2, EVTCHN_PENDING) == {back}
    assert (c.ports.tables[1].held, c.ports.tables[1].coalesced) == (1, 1)
    c.unmask(2, back)
    assert (c.woken, c.bits(2, EVTCHN_MASK)) == ([2], set())
    c.unmask(2, back)
    assert c.woken == [2], "it was not masked any more"


def test_unmask_without_an_event_wakes_nobody() -> None:
    c = Channels()
    _, back = c.pair()
    c.info(2)[EVTCHN_MASK + back // 8] |= 1 << back % 8
    c.unmask(2, back)
    assert (c.woken, c.bits(2, EVTCHN_MASK)) == ([], set())


def test_closing_one_end_lets_the_same_domain_bind_again() -> None:
    c = Channels()
    front, back = c.pair()
    c.send(1, front)
    c.ports.close(2, back)
    assert c.ports.status(2, back) == CLOSED
    assert c.ports.status(1, front) == PortStatus(EVTCHNSTAT_unbound, 2)
    assert c.bits(2, EVTCHN_PENDING) == set(), "or the next owner of the port would get it"
    c.send(1, front)
    assert c.bits(2, EVTCHN_PENDING) == set(), "lost, without an error"
    with pytest.raises(HypercallError):
        c.ports.bind_interdomain(3, 1, front)
    assert c.ports.bind_interdomain(2, 1, front) == back


def test_closing_the_other_end_leaves_ours_waiting_for_it() -> None:
    c = Channels()
    front, back = c.pair()
    c.ports.close(1, front)
    assert c.ports.status(2, back) == PortStatus(EVTCHNSTAT_unbound, 1)
    c.ports.close(2, back)
    assert (c.ports.tables[1].ports, c.ports.tables[2].ports) == ({}, {})


def test_a_domain_may_bind_to_itself() -> None:
    c = Channels()
    one = c.ports.alloc_unbound(1, 1)
    two = c.ports.bind_interdomain(1, 1, one)
    c.send(1, two)
    assert c.bits(1, EVTCHN_PENDING) == {one, two}
    c.ports.bury(1)
    assert 1 not in c.ports.tables


def test_a_dead_domains_far_ends_wait_for_it() -> None:
    c = Channels()
    front, back = c.pair()
    c.ports.bury(1)
    assert c.ports.status(2, back) == PortStatus(EVTCHNSTAT_unbound, 1)
    c.send(2, back)
    with pytest.raises(HypercallError) as refused:
        c.ports.bind_interdomain(2, 1, front)
    assert refused.value.status == "ESRCH"


Call = Callable[[Channels, int, int], object]
REFUSED: list[tuple[str, str, Call]] = [
    ("bind to nobody", "ESRCH", lambda c, front, back: c.ports.bind_interdomain(2, 9, 1)),
    ("bind to a closed port", "EINVAL", lambda c, front, back: c.ports.bind_interdomain(2, 1, 55)),
    ("bind to port 0", "EINVAL", lambda c, front, back: c.ports.bind_interdomain(2, 1, 0)),
    ("bind to a bound port", "EINVAL", lambda c, front, back: c.ports.bind_interdomain(2, 1, front)),
    ("bind to another's", "EINVAL", lambda c, front, back: c.ports.bind_interdomain(2, 3, c.ports.alloc_unbound(3, 1))),
    ("alloc by nobody", "ESRCH", lambda c, front, back: c.ports.alloc_unbound(9, 1)),
    ("send on a closed port", "EINVAL", lambda c, front, back: c.send(1, 55)),
    ("send on port -1", "EINVAL", lambda c, front, back: c.send(1, -1)),
    ("close a closed port", "EINVAL", lambda c, front, back: c.ports.close(1, 55)),
    ("unmask a closed port", "EINVAL", lambda c, front, back: c.unmask(1, 55)),
    ("status past the limit", "EINVAL", lambda c, front, back: c.ports.status(1, 5000)),
    ("status of nobody", "ESRCH", lambda c, front, back: c.ports.status(9, 1)),
]


@pytest.mark.parametrize(("status", "call"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_is_refused_with_xens_errno(status: str, call: Call) -> None:
    c = Channels()
    front, back = c.pair()
    with pytest.raises(HypercallError) as refused:
        call(c, front, back)
    assert refused.value.status == status
    assert c.woken == []


def test_the_port_limit_is_ENOSPC_and_a_closed_port_is_used_again() -> None:
    c = Channels(max_port=4)
    assert [c.ports.alloc_unbound(1, 2) for _ in range(4)] == [1, 2, 3, 4]
    waiting = c.ports.alloc_unbound(2, 1)
    with pytest.raises(HypercallError, match="ENOSPC"):
        c.ports.alloc_unbound(1, 2)
    with pytest.raises(HypercallError, match="ENOSPC"):
        c.ports.bind_interdomain(1, 2, waiting)
    assert c.ports.status(2, waiting) == PortStatus(EVTCHNSTAT_unbound, 1)
    c.ports.close(1, 3)
    assert c.ports.alloc_unbound(1, 2) == 3
