"""The guest kernel's little helpers: pages, references, the upcall."""

from __future__ import annotations

from struct import Struct
from typing import Any

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.event_channel import EVTCHN_MASK, EVTCHN_PENDING, EVTCHN_PENDING_SEL, EVTCHN_UPCALL_PENDING
from xnet.abi.xen.grant_table import GTF_permit_access, GTF_readonly
from xnet.errors import HypercallError
from xnet.ring import RingError

pytestmark = pytest.mark.integration

ENTRY = Struct("<HHI")


def info_of(domain: Any) -> memoryview:
    start = domain.shared_info_pfn * PAGE_SIZE
    return domain.window[start : start + PAGE_SIZE]


def test_pages_are_zeroed_also_when_they_were_used_before(bench: Any) -> None:
    addr = bench.a.alloc_pages(3)
    bench.a.window[addr : addr + 3 * PAGE_SIZE] = b"\xa5" * (3 * PAGE_SIZE)
    bench.a.free_pages(addr, 3)
    assert bench.a.alloc_pages(4) == addr
    assert not any(bench.a.window[addr : addr + 4 * PAGE_SIZE])


def test_the_next_domain_sees_nothing_of_the_last_ones_memory(bench: Any) -> None:
    addr = bench.b.alloc_pages(8)
    frames = set(bench.b.physmap.mfn[:64])
    bench.b.window[addr : addr + 8 * PAGE_SIZE] = b"\xa5" * (8 * PAGE_SIZE)
    bench.hypervisor.destroy_domain(bench.b.domid)
    heir = bench.hypervisor.create_domain("c", 64)
    assert set(heir.physmap.mfn[:64]) == frames
    assert not any(heir.window[: 64 * PAGE_SIZE])


def test_too_many_pages_are_ENOMEM(bench: Any) -> None:
    with pytest.raises(HypercallError) as refused:
        bench.a.alloc_pages(63)
    assert refused.value.status == "ENOMEM"
    assert bench.a.alloc_pages(62) is not None, "all but console and xenstore page"


def test_a_guest_grants_dom0_its_console_and_xenstore_pages_by_the_reserved_references(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    for ref, addr in ((0, a.console_addr), (1, a.store_addr)):
        frame = a.physmap.mfn[addr // PAGE_SIZE]
        assert ENTRY.unpack(bench.entry(a, ref)) == (GTF_permit_access, 0, frame)
        mapping = bench.map(dom0, a, ref)
        dom0.window[mapping.addr] = 0x77
        assert a.window[addr] == 0x77
        dom0.unmap_grants([mapping.handle])
    assert (dom0.console_addr, dom0.store_addr) == (None, None)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_prepared_entries_name_machine_frames_in_the_real_layout(bench: Any, count: int) -> None:
    addr = bench.a.alloc_pages(count)
    frames = bench.a.physmap.mfn[addr // PAGE_SIZE :][:count]
    for readonly, flags in ((False, GTF_permit_access), (True, GTF_permit_access | GTF_readonly)):
        entries = bench.a.prepare_grants(2, addr, count, readonly=readonly)
        assert list(ENTRY.iter_unpack(entries)) == [(flags, 2, frame) for frame in frames]


def test_references_begin_after_the_reserved_ones_and_the_table_grows_to_its_limit(bench: Any) -> None:
    a = bench.a
    assert a.alloc_grefs(500) == 8
    heap = bench.hypervisor.heap.used
    assert a.alloc_grefs(100) == 508
    assert bench.hypervisor.heap.used == heap + 1
    assert bench.hypervisor.grants.query_size(a.grant_table, a.domid) == (2, 64, 0)


@pytest.mark.parametrize(("frames", "status"), [(65, "ENOSPC"), (62, "ENOMEM")], ids=["past 64", "past the heap"])
def test_a_table_that_cannot_grow_that_far_does_not_grow_at_all(bench: Any, frames: int, status: str) -> None:
    heap = bench.hypervisor.heap.used
    with pytest.raises(HypercallError) as refused:
        bench.a.alloc_grefs(frames * 512 - 8)
    assert refused.value.status == status
    assert bench.hypervisor.heap.used == heap
    assert bench.a.alloc_grefs(504 + 57 * 512) == 8, "what the heap of 64 pages can give"


def test_entries_granted_in_a_grown_table_work(bench: Any) -> None:
    addr = bench.a.alloc_pages(1)
    bench.a.window[addr : addr + 5] = b"hello"
    bench.a.alloc_grefs(600)
    ref = bench.a.alloc_grefs(1)
    bench.a.grant(ref, bench.a.prepare_grants(0, addr, 1, readonly=True))
    mapping = bench.map(bench.dom0, bench.a, ref, readonly=True)
    assert bytes(bench.dom0.window[mapping.addr : mapping.addr + 5]) == b"hello"


def test_references_still_granted_are_not_taken_back(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    with pytest.raises(ValueError, match="not ended"):
        bench.a.free_grefs(ref, 1)


def test_a_grant_past_the_table_is_refused(bench: Any) -> None:
    with pytest.raises(ValueError):
        bench.a.grant(511, bytes(16))


def test_handlers_run_in_port_order_with_their_pending_bit_already_clear(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    theirs = [a.alloc_unbound(0) for _ in range(70)]
    ours = [dom0.bind_interdomain(a.domid, port) for port in theirs]
    bench.hypervisor.step()
    log: list[tuple[int, int]] = []
    info = info_of(a)

    def handler(port: int) -> None:
        log.append((port, info[EVTCHN_PENDING + port // 8] >> port % 8 & 1))

    for port in theirs:
        a.set_handler(port, lambda port=port: handler(port))
    for index in (69, 3, 66, 0):
        dom0.send(ours[index])
    assert info[EVTCHN_UPCALL_PENDING] == 1
    assert info[EVTCHN_PENDING_SEL] == 0b11
    bench.hypervisor.step()
    assert log == [(theirs[index], 0) for index in (0, 3, 66, 69)]
    assert (info[EVTCHN_UPCALL_PENDING], info[EVTCHN_PENDING_SEL]) == (0, 0)


def test_a_handler_that_raises_is_reported_and_the_others_run(bench: Any) -> None:
    ran: list[str] = []
    rogue = RingError("request producer past the ring", 300)
    bug = ZeroDivisionError("a bug")

    def raises(error: Exception) -> None:
        raise error

    for guest in (bench.a, bench.b):
        for error in (rogue, bug, None):
            port = bench.dom0.bind_interdomain(guest.domid, guest.alloc_unbound(0))
            act = (lambda error=error: raises(error)) if error else (lambda guest=guest: ran.append(guest.name))
            bench.dom0.set_handler(port, act)
    bench.hypervisor.step()
    assert ran == ["a", "b"]
    assert bench.reports == [(0, rogue), (0, bug)] * 2
    assert "(XEN) d0: RingError: request producer past the ring (300)" in bench.hypervisor.console_lines()


def test_a_handler_may_mask_or_close_a_port_whose_event_was_taken_together_with_its_own(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    ports = [dom0.bind_interdomain(a.domid, a.alloc_unbound(0)) for _ in range(3)]
    log: list[int] = []
    dom0.set_handler(ports[0], lambda: (dom0.mask(ports[1]), dom0.close_port(ports[2]))[0])
    dom0.set_handler(ports[1], lambda: log.append(1))
    dom0.set_handler(ports[2], lambda: log.append(2))
    bench.hypervisor.step()
    assert log == []
    dom0.unmask(ports[1])
    bench.hypervisor.step()
    assert log == [1]


def test_a_handler_may_let_through_again_what_one_before_it_masked(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    ports = [dom0.bind_interdomain(a.domid, a.alloc_unbound(0)) for _ in range(4)]
    log: list[int] = []
    dom0.set_handler(ports[0], lambda: dom0.mask(ports[2]))
    dom0.set_handler(ports[1], lambda: dom0.unmask(ports[2]))
    for index in (2, 3):
        dom0.set_handler(ports[index], lambda index=index: log.append(index))
    bench.hypervisor.step()
    assert log == [2, 3], "in port order, once"


def test_an_event_that_comes_during_its_handler_is_a_new_one_though_others_of_its_word_follow(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    theirs = [a.alloc_unbound(0) for _ in range(3)]
    ours = [dom0.bind_interdomain(a.domid, port) for port in theirs]
    bench.hypervisor.step()
    log: list[int] = []

    def again() -> None:
        log.append(0)
        if len(log) == 1:
            a.send(theirs[0])

    dom0.set_handler(ours[0], again)
    dom0.set_handler(ours[2], lambda: log.append(2))
    for port in theirs:
        a.send(port)
    assert bench.hypervisor.step() == 4
    assert log == [0, 2, 0]


def test_a_domain_destroyed_by_its_own_handler_runs_no_other(bench: Any) -> None:
    a, b = bench.a, bench.b
    ports = [a.bind_interdomain(b.domid, b.alloc_unbound(a.domid)) for _ in range(2)]
    log: list[int] = []
    a.set_handler(ports[0], lambda: bench.hypervisor.destroy_domain(a.domid))
    a.set_handler(ports[1], lambda: log.append(1))
    bench.hypervisor.step()
    assert (log, bench.reports) == ([], [])


def test_a_dead_domains_calls_are_ESRCH(bench: Any) -> None:
    a = bench.a
    bench.hypervisor.destroy_domain(a.domid)
    calls = [
        lambda: a.copy_grants([]),
        lambda: a.map_grants(0, [8], readonly=True),
        lambda: a.unmap_grants([0]),
        lambda: a.alloc_unbound(0),
        lambda: a.alloc_pages(1),
    ]
    for call in calls:
        with pytest.raises(HypercallError) as refused:
            call()
        assert refused.value.status == "ESRCH"


def test_rubbish_in_a_domains_own_shared_info_hurts_nobody(bench: Any) -> None:
    info_of(bench.a)[:] = b"\xff" * PAGE_SIZE
    port = bench.dom0.bind_interdomain(bench.a.domid, bench.a.alloc_unbound(0))
    bench.dom0.send(port)
    bench.hypervisor.step()
    info_of(bench.a)[EVTCHN_MASK : EVTCHN_MASK + 512] = bytes(512)
    bench.dom0.send(port)
    bench.hypervisor.step()
    assert bench.reports == []


def test_what_a_domain_says_is_on_the_console(bench: Any) -> None:
    bench.b.console("eth0: link up")
    assert bench.hypervisor.console_lines()[-1] == "(d2) eth0: link up"
