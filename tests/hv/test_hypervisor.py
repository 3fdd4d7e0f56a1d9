"""Domains made and buried, with everything they held."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GNTST_bad_domain, GNTST_okay, GTF_permit_access
from xnet.errors import HostError, HypercallError
from xnet.host.memory import MachineMemory
from xnet.hv import DomainState, Hypervisor, Mapping

pytestmark = pytest.mark.integration


def status_of(call: Any) -> str:
    with pytest.raises(HypercallError) as refused:
        call()
    return refused.value.status


def test_domids_count_up_from_dom0_and_are_not_reused_soon(bench: Any) -> None:
    assert [domain.domid for domain in (bench.dom0, bench.a, bench.b)] == [0, 1, 2]
    bench.hypervisor.destroy_domain(2)
    assert bench.hypervisor.create_domain("c", 8).domid == 3
    assert bench.hypervisor.create_domain("d", 8, domid=2).domid == 2
    assert status_of(lambda: bench.hypervisor.create_domain("e", 8, domid=2)) == "EEXIST"
    assert status_of(lambda: bench.hypervisor.create_domain("e", 8, domid=0x7FF0)) == "EINVAL"
    assert status_of(lambda: bench.hypervisor.create_domain("e", 1)) == "EINVAL"


def test_a_wanted_domid_is_passed_by_and_does_not_move_the_count(bench: Any) -> None:
    bench.hypervisor.create_domain("wanted", 8, domid=4)
    bench.hypervisor.create_domain("last", 8, domid=0x7FEF)
    assert [bench.hypervisor.create_domain("c", 8).domid for _ in range(3)] == [3, 5, 6]


@pytest.mark.parametrize(
    ("pages", "why"), [(10_000, "machine"), (200, "heap")], ids=["no frames left", "no heap pages left"]
)
def test_a_domain_that_does_not_fit_is_ENOMEM_and_leaves_nothing(bench: Any, pages: int, why: str) -> None:
    hypervisor = bench.hypervisor
    if why == "heap":
        bench.dom0.alloc_grefs(504 + 512 * (hypervisor.heap.room - 1))
        assert hypervisor.heap.room == 1, "shared_info fits, the grant table does not"
    before = hypervisor.machine.room, hypervisor.heap.room, len(hypervisor.domains)
    assert status_of(lambda: hypervisor.create_domain("big", pages)) == "ENOMEM"
    assert (hypervisor.machine.room, hypervisor.heap.room, len(hypervisor.domains)) == before
    assert 3 not in hypervisor.ports.tables
    assert 3 not in hypervisor.grants.tables


@pytest.mark.parametrize("nth", range(10))
def test_a_host_that_refuses_at_any_step_of_making_a_domain_leaves_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The nth call that may fail does: windows, remaps, memory for the heap pages and for the two ring pages."""
    hypervisor, memory = bench.hypervisor, bench.memory
    calls = 0

    def failing(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth + 1:
                raise HostError("no more")
            return real(*args, **options)

        return call

    before = hypervisor.machine.room, hypervisor.heap.room
    with monkeypatch.context() as patch:
        patch.setattr(memory, "commit", failing(memory.commit))
        patch.setattr(memory, "window", failing(memory.window))
        patch.setattr("xnet.host.memory.Window.map", failing(type(bench.a.physmap.window).map))
        assert status_of(lambda: hypervisor.create_domain("c", 16)) == "ENOMEM"
    assert calls == nth + 1
    assert (hypervisor.machine.room, hypervisor.heap.room) == before
    assert hypervisor.create_domain("c", 16).state is DomainState.RUNNING


def test_memory_in_pieces_is_one_window(bench: Any) -> None:
    hypervisor = bench.hypervisor
    rest = hypervisor.machine.room
    hypervisor.create_domain("rest", rest - 10)
    hypervisor.destroy_domain(bench.a.domid)
    pieces = hypervisor.create_domain("pieces", 70)
    frames = pieces.physmap.mfn[:70]
    assert any(frames[i + 1] != frames[i] + 1 for i in range(69))
    addr = pieces.alloc_pages(68)
    pattern = bytes(i % 251 for i in range(68 * PAGE_SIZE))
    pieces.window[addr : addr + len(pattern)] = pattern
    ref = pieces.alloc_grefs(68)
    pieces.grant(ref, pieces.prepare_grants(0, addr, 68, readonly=True))
    for chunk in range(0, 68, 17):
        results = bench.dom0.map_grants(pieces.domid, range(ref + chunk, ref + chunk + 17), readonly=True)
        start = results[0].addr
        want = pattern[chunk * PAGE_SIZE : (chunk + 17) * PAGE_SIZE]
        assert bytes(bench.dom0.window[start : start + 17 * PAGE_SIZE]) == want
        bench.dom0.unmap_grants([result.handle for result in results])


def test_a_shut_down_domain_gets_no_upcall_but_keeps_its_pages(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.dom0)
    log: list[str] = []
    port = bench.dom0.bind_interdomain(1, theirs := bench.a.alloc_unbound(0))
    bench.a.set_handler(theirs, lambda: log.append("event"))
    bench.hypervisor.shutdown(1, "crash")
    bench.dom0.send(port)
    bench.hypervisor.step()
    assert log == []
    assert (bench.a.state, bench.a.shutdown_reason) == (DomainState.SHUTDOWN, "crash")
    assert bench.dom0.window[bench.map(bench.dom0, bench.a, ref).addr] == bench.a.window[addr]


def test_a_paused_domain_has_no_turn_and_loses_no_event(bench: Any) -> None:
    log: list[str] = []
    ports = []
    for name in ("one", "two", "three"):
        ports.append(bench.dom0.bind_interdomain(1, theirs := bench.a.alloc_unbound(0)))
        bench.a.set_handler(theirs, lambda name=name: log.append(name))
    bench.hypervisor.step()
    log.clear()
    bench.hypervisor.pause(1)
    bench.hypervisor.pause(1)
    for port in ports[:2]:
        bench.dom0.send(port)
    bench.hypervisor.step()
    assert (log, bench.a.state) == ([], DomainState.PAUSED)
    bench.hypervisor.unpause(1)
    assert log == [], "nothing runs inside the call"
    bench.hypervisor.step()
    assert (log, bench.a.state) == (["one", "two"], DomainState.RUNNING)
    bench.hypervisor.unpause(1)
    bench.dom0.send(ports[2])
    bench.hypervisor.step()
    assert log == ["one", "two", "three"]


def test_a_domain_paused_in_the_middle_of_a_look_sees_the_rest_later(bench: Any) -> None:
    log: list[int] = []
    ports = {}
    for _ in range(3):
        mine = bench.dom0.bind_interdomain(1, theirs := bench.a.alloc_unbound(0))
        ports[theirs] = mine
    bench.hypervisor.step()
    for port in ports:
        bench.a.set_handler(port, lambda port=port: (log.append(port), bench.hypervisor.pause(1)))
    for mine in ports.values():
        bench.dom0.send(mine)
    for seen in range(1, 4):
        bench.hypervisor.step()
        assert log == list(ports)[:seen]
        bench.hypervisor.unpause(1)


def test_only_a_running_guest_can_be_paused(bench: Any) -> None:
    hypervisor = bench.hypervisor
    for domid, what in ((0, "dom0"), (2, "shutdown")):
        if domid:
            hypervisor.shutdown(domid)
        with pytest.raises(HypercallError, match=f"{what}: EINVAL"):
            hypervisor.pause(domid)
    with pytest.raises(HypercallError, match="b is shutdown: EINVAL"):
        hypervisor.unpause(2)
    for call in (hypervisor.pause, hypervisor.unpause):
        with pytest.raises(HypercallError, match="ESRCH"):
            call(9)
    hypervisor.pause(1)
    hypervisor.destroy_domain(1)
    assert 1 not in hypervisor.domains


def test_destroying_a_domain_gives_back_all_it_had(bench: Any) -> None:
    hypervisor = bench.hypervisor
    room, heap = hypervisor.machine.room, hypervisor.heap.room
    _, ref_b = bench.share(bench.b, bench.a, 3)
    bench.a.alloc_grefs(1000)
    bench.a.map_grants(2, [ref_b, ref_b + 1], readonly=False)
    far = bench.b.alloc_unbound(1)
    bench.a.bind_interdomain(2, far)
    hypervisor.destroy_domain(1)
    assert hypervisor.machine.room == room + 64
    assert hypervisor.heap.room == heap + 2
    assert bench.entry(bench.b, ref_b)[0] == GTF_permit_access, "its mappings of others are gone"
    assert hypervisor.statistics()[1].grants_in_use == 0
    assert bench.b.map_grants(1, [8], readonly=True) == [GNTST_bad_domain]
    assert status_of(lambda: hypervisor.destroy_domain(1)) == "ESRCH"


def test_pages_mapped_elsewhere_outlive_their_domain_until_they_are_unmapped(bench: Any) -> None:
    hypervisor = bench.hypervisor
    room, heap = hypervisor.machine.room, hypervisor.heap.room
    _, ref = bench.share(bench.a, bench.dom0, 3)
    mappings = bench.dom0.map_grants(1, [ref, ref + 1, ref + 1], readonly=False)
    frames = {bench.dom0.physmap.mfn[mapping.addr // PAGE_SIZE] for mapping in mappings}
    hypervisor.destroy_domain(1)
    assert list(hypervisor.zombies) == [1]
    assert any("zombie" in leak for leak in hypervisor.leaks())
    assert hypervisor.machine.room == room + 62
    assert [bench.dom0.window[mapping.addr] for mapping in mappings] == [1, 2, 2]
    heir = hypervisor.create_domain("heir", 64 + 4)
    assert heir.domid == 3
    assert not frames & set(heir.physmap.mfn[:68])
    assert status_of(lambda: hypervisor.create_domain("again", 8, domid=1)) == "EEXIST"
    assert bench.dom0.map_grants(1, [ref], readonly=True) == [GNTST_bad_domain]
    hypervisor.destroy_domain(3)
    assert bench.dom0.unmap_grants([mapping.handle for mapping in mappings]) == [GNTST_okay] * 3
    assert hypervisor.zombies == {}
    assert (hypervisor.machine.room, hypervisor.heap.room) == (room + 64, heap + 2)


def test_a_zombie_is_freed_when_the_domain_that_held_it_dies_too(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.b)
    bench.map(bench.b, bench.a, ref)
    bench.hypervisor.destroy_domain(1)
    assert list(bench.hypervisor.zombies) == [1]
    bench.hypervisor.destroy_domain(2)
    bench.hypervisor.assert_no_leaks()


def test_a_domain_with_mappings_of_its_own_grants_leaves_no_zombie(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.a, 2)
    bench.map(bench.a, bench.a, ref)
    bench.hypervisor.destroy_domain(1)
    assert bench.hypervisor.zombies == {}


def test_dom0_is_the_last_to_go(bench: Any) -> None:
    assert status_of(lambda: bench.hypervisor.destroy_domain(0)) == "EPERM"


def test_leaks_of_dom0_are_named(bench: Any) -> None:
    hypervisor, dom0 = bench.hypervisor, bench.dom0
    addr, ref = bench.share(dom0, bench.a)
    port = dom0.alloc_unbound(1)
    hypervisor.destroy_domain(1)
    hypervisor.destroy_domain(2)
    assert hypervisor.leaks() == ["dom0: pages_used 1", "dom0: ports 1", "dom0: grant references 1"]
    with pytest.raises(AssertionError, match="ports 1"):
        hypervisor.assert_no_leaks()
    dom0.close_port(port)
    assert dom0.end_grant(ref, dom0.prepare_grants(1, addr, 1, readonly=False))
    dom0.free_grefs(ref, 1)
    dom0.free_pages(addr, 1)
    hypervisor.assert_no_leaks()


def test_only_pages_that_were_handed_out_cost_memory() -> None:
    memory = MachineMemory(20_000)
    hypervisor = Hypervisor(memory, heap_pages=100)
    for _ in range(3):
        hypervisor.create_domain("idle", 6000)
    populated = sum(hypervisor.machine.populated(domid) for domid in hypervisor.domains)
    assert populated == 4, "console and xenstore page of two guests"
    hypervisor.domains[1].alloc_pages(5)
    assert hypervisor.machine.populated(1) == 7
    hypervisor.close()
    memory.close()


def test_a_kick_asks_for_a_step_and_a_step_answers_it(bench: Any) -> None:
    port = bench.dom0.bind_interdomain(1, bench.a.alloc_unbound(0))
    assert len(bench.kicks) == 1
    bench.dom0.send(port)
    assert len(bench.kicks) == 1
    assert bench.hypervisor.step() == 2
    bench.dom0.send(port)
    assert len(bench.kicks) == 2


def test_statistics_have_a_line_for_each_living_domain(bench: Any) -> None:
    port = bench.dom0.bind_interdomain(1, bench.a.alloc_unbound(0))
    for _ in range(3):
        bench.dom0.send(port)
    bench.hypervisor.step()
    dom0, a, b = bench.hypervisor.statistics()
    assert (dom0.events_sent, dom0.events_coalesced, dom0.ports, dom0.upcalls) == (3, 2, 1, 1)
    assert (a.name, a.state, a.pages, a.pages_used, a.grant_frames, a.upcalls) == ("a", "running", 64, 2, 1, 1)
    assert (b.domid, b.events_sent) == (2, 0)


def test_a_machine_without_a_heap_is_refused() -> None:
    memory = MachineMemory(8)
    assert status_of(lambda: Hypervisor(memory, heap_pages=0)) == "EINVAL"
    assert status_of(lambda: Hypervisor(memory, heap_pages=9)) == "ENOMEM"
    memory.close()


def test_making_and_destroying_is_told_on_the_console(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    mapping = bench.map(bench.dom0, bench.a, ref)
    assert isinstance(mapping, Mapping)
    bench.hypervisor.destroy_domain(1)
    assert bench.hypervisor.console_lines() == [
        "(XEN) d0: Domain-0 created, 64 pages",
        "(XEN) d1: a created, 64 pages",
        "(XEN) d2: b created, 64 pages",
        "(XEN) d1: a destroyed",
        "(XEN) d1: zombie, 1 of its grants are still in use",
    ]


def test_only_a_suspended_domain_is_resumed(bench: Any) -> None:
    hypervisor, a = bench.hypervisor, bench.a
    for reason in ("", "poweroff"):
        if reason:
            hypervisor.shutdown(bench.b.domid, reason)
        assert status_of(lambda: hypervisor.resume(bench.b.domid)) == "EINVAL"
    port = a.alloc_unbound(0)
    local = bench.dom0.bind_interdomain(a.domid, port)
    woken: list[int] = []
    a.set_handler(port, lambda: woken.append(port))
    hypervisor.shutdown(a.domid, "suspend")
    bench.dom0.send(local)
    hypervisor.step()
    assert woken == []
    hypervisor.resume(a.domid)
    hypervisor.step()
    assert woken == [port], "what came meanwhile is looked at"
    assert hypervisor.console_lines()[-1] == "(XEN) d1: a resumed"
    bench.dom0.close_port(local)


def test_dom0_hears_of_domains_that_shut_down(bench: Any) -> None:
    heard = []
    bench.hypervisor.dom_exc = lambda domid: heard.append((domid, bench.hypervisor.domains[domid].shutdown_reason))
    bench.hypervisor.shutdown(1, "crash")
    bench.hypervisor.shutdown(2, "suspend")
    bench.hypervisor.resume(2)
    assert heard == [(1, "crash"), (2, "suspend")]
    assert status_of(lambda: bench.hypervisor.resume(1)) == "EINVAL"


def test_pages_that_dom0_may_have_are_no_leak(bench: Any) -> None:
    hypervisor, dom0 = bench.hypervisor, bench.dom0
    hypervisor.destroy_domain(1)
    hypervisor.destroy_domain(2)
    addr = dom0.alloc_pages(3)
    assert hypervisor.leaks(3) == []
    assert hypervisor.leaks(2) == ["dom0: pages_used 1"]
    dom0.free_pages(addr, 3)
    assert hypervisor.leaks(3) == ["dom0: pages_used -3"]


def test_a_heap_page_that_nobody_has_is_told(bench: Any) -> None:
    hypervisor = bench.hypervisor
    used = hypervisor.heap.used
    mfn = hypervisor.heap.alloc()
    assert hypervisor.books() == [f"{used + 1} heap pages out, {used} accounted for"]
    hypervisor.heap.free(mfn)
    assert hypervisor.books() == []
