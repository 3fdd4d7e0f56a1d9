"""Frames that change hands: given up, asked for, transferred; and every one of them accounted for."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import (
    GRANT_ENTRY_V1,
    GNTST_bad_domain,
    GNTST_bad_page,
    GNTST_general_error,
    GTF_accept_transfer,
)
from xnet.errors import HypercallError
from xnet.hv import Domain

pytestmark = pytest.mark.integration


def page(domain: Domain, addr: int) -> bytes:
    return bytes(domain.window[addr : addr + PAGE_SIZE])


def fill(domain: Domain, addr: int, count: int = 1) -> None:
    for i in range(count):
        domain.window[addr + i * PAGE_SIZE : addr + (i + 1) * PAGE_SIZE] = bytes([i + 1]) * PAGE_SIZE


def offer(bench: Any, count: int = 1) -> tuple[int, int]:
    """Guest a gives up `count` pages and lets dom0 fill their places: (address, first reference)."""
    a = bench.a
    addr, ref = a.alloc_pages(count), a.alloc_grefs(count)
    assert a.decrease_reservation(addr, count) == count
    a.grant(ref, a.prepare_transfers(0, count))
    return addr, ref


def withdraw(bench: Any, addr: int, ref: int, count: int = 1) -> None:
    bench.a.end_transfers(ref, addr, count)
    bench.a.free_grefs(ref, count)
    bench.a.free_pages(addr, count)


def flip(bench: Any, addrs: list[int], refs: list[int], domid: int | None = None) -> list[int]:
    """dom0 gives pages away; what was not used to replace them goes back."""
    frames = bench.dom0.increase_reservation(len(addrs))
    statuses = bench.dom0.transfer(addrs, frames, bench.a.domid if domid is None else domid, refs)
    bench.dom0.release_frames([frame for frame in frames if frame in bench.dom0.reservation.loose])
    return statuses


def test_a_page_that_is_given_up_shows_nothing_and_the_heap_has_its_frame(bench: Any) -> None:
    a, heap = bench.a, bench.hypervisor.heap
    addr = a.alloc_pages(3)
    fill(a, addr, 3)
    room = heap.room
    assert a.decrease_reservation(addr + PAGE_SIZE, 2) == 2
    assert (heap.room, a.reservation.total) == (room + 2, 62)
    assert page(a, addr) == b"\1" * PAGE_SIZE
    assert page(a, addr + PAGE_SIZE) == bytes(PAGE_SIZE)
    a.window[addr + PAGE_SIZE] = 7
    assert a.decrease_reservation(addr, 3) == 1, "two have nothing to give"
    a.free_pages(addr, 3)
    assert page(a, a.alloc_pages(3)) == bytes(PAGE_SIZE), "the heap filled the places again, with clean frames"
    assert (heap.room, a.reservation.total) == (room, 64)


def test_the_bytes_of_a_page_given_up_reach_nobody(bench: Any) -> None:
    a, heap = bench.a, bench.hypervisor.heap
    addr = a.alloc_pages(4)
    fill(a, addr, 4)
    a.decrease_reservation(addr, 4)
    frames = bench.dom0.increase_reservation(heap.room)
    assert all(bytes(bench.hypervisor.machine.page(mfn)) == bytes(PAGE_SIZE) for mfn in frames)
    bench.dom0.release_frames(frames)


def test_a_flipped_page_is_gone_from_the_giver_and_whole_at_the_taker(bench: Any) -> None:
    dom0, a, heap = bench.dom0, bench.a, bench.hypervisor.heap
    room = heap.room
    theirs, ref = offer(bench, 3)
    ours = dom0.alloc_pages(3)
    fill(dom0, ours, 3)
    assert flip(bench, [ours + i * PAGE_SIZE for i in range(3)], [ref + 2, ref, ref + 1]) == [0, 0, 0]
    assert page(dom0, ours) == bytes(PAGE_SIZE), "another frame is under the page now"
    assert page(a, theirs) == bytes(PAGE_SIZE), "the taker has not looked yet"
    assert a.end_transfers(ref, theirs, 3) == []
    assert [page(a, theirs + i * PAGE_SIZE)[0] for i in range(3)] == [2, 3, 1]
    dom0.window[ours : ours + 3 * PAGE_SIZE] = b"\xff" * 3 * PAGE_SIZE
    assert page(a, theirs) == b"\2" * PAGE_SIZE, "who gave a page away cannot reach it any more"
    assert (dom0.reservation.total, a.reservation.total, heap.room) == (64, 64, room)
    assert (a.reservation.received, dom0.reservation.given, a.reservation.decreased) == (3, 3, 3)
    dom0.free_pages(ours, 3)
    withdraw(bench, theirs, ref, 3)


@pytest.mark.parametrize(
    ("flags", "domid"), [(0, 0), (1, 0), (3, 0), (6, 0), (14, 0), (2, 2), (2, 7)], ids=lambda value: str(value)
)
def test_only_a_transfer_grant_for_the_giver_takes_a_page(bench: Any, flags: int, domid: int) -> None:
    dom0, a, heap = bench.dom0, bench.a, bench.hypervisor.heap
    theirs, ref = offer(bench)
    entry = bench.entry(a, ref)
    entry[:] = GRANT_ENTRY_V1.pack(flags, domid, 0)
    ours = dom0.alloc_pages(1)
    room = heap.room
    assert flip(bench, [ours], [ref]) == [GNTST_general_error]
    assert bytes(entry) == GRANT_ENTRY_V1.pack(flags, domid, 0), "untouched"
    assert heap.room == room, "one went out as the replacement, the page itself came in: it is lost to both"
    entry[:] = bytes(8)
    dom0.free_pages(ours, 1)
    withdraw(bench, theirs, ref)


def test_a_grant_takes_one_page_and_no_second(bench: Any) -> None:
    dom0 = bench.dom0
    theirs, ref = offer(bench)
    ours = dom0.alloc_pages(2)
    assert flip(bench, [ours, ours + PAGE_SIZE], [ref, ref]) == [0, GNTST_general_error]
    assert bench.a.end_transfers(ref, theirs, 1) == []
    dom0.free_pages(ours, 2)
    withdraw(bench, theirs, ref)


def test_a_guest_gets_no_more_frames_than_it_was_made_with(bench: Any) -> None:
    a, dom0 = bench.a, bench.dom0
    ref = a.alloc_grefs(1)
    a.grant(ref, a.prepare_transfers(0, 1))
    ours = dom0.alloc_pages(1)
    assert flip(bench, [ours], [ref]) == [GNTST_general_error]
    assert a.increase_reservation(5) == []
    assert "heap" not in "".join(bench.hypervisor.console_lines())
    assert a.end_transfers(ref, a.alloc_pages(1), 1) == [0]
    a.free_grefs(ref, 1)
    dom0.free_pages(ours, 1)


def test_a_page_that_is_not_to_be_had_stays_and_its_replacement_too(bench: Any) -> None:
    dom0, b = bench.dom0, bench.b
    theirs, ref = offer(bench, 2)
    shared, first = bench.share(dom0, b)
    mapping = bench.map(b, dom0, first)
    frames = dom0.increase_reservation(2)
    beyond = (dom0.pages + 1) * PAGE_SIZE
    assert dom0.transfer([shared, beyond], frames, bench.a.domid, [ref, ref + 1]) == [GNTST_bad_page] * 2
    assert page(dom0, shared) == b"\1" * PAGE_SIZE
    dom0.release_frames(frames)
    assert dom0.decrease_reservation(shared, 1) == 0, "what another has mapped is not given up"
    assert page(b, mapping.addr) == b"\1" * PAGE_SIZE
    b.unmap_grants([mapping.handle])
    dom0.end_grant(first, dom0.prepare_grants(b.domid, shared, 1, readonly=False))
    dom0.free_grefs(first, 1)
    dom0.free_pages(shared, 1)
    withdraw(bench, theirs, ref, 2)


def test_a_page_for_a_domain_that_is_not_there_is_lost(bench: Any) -> None:
    ours = bench.dom0.alloc_pages(1)
    total = bench.dom0.reservation.total
    assert flip(bench, [ours], [8], domid=77) == [GNTST_bad_domain]
    assert bench.dom0.reservation.total == total
    bench.dom0.free_pages(ours, 1)


@pytest.mark.parametrize("what", ["a frame of another's", "one that is under a page", "the same twice"])
def test_frames_that_are_not_ones_own_are_refused(bench: Any, what: str) -> None:
    dom0, a = bench.dom0, bench.a
    mine = dom0.increase_reservation(1)
    frames = {
        "a frame of another's": [a.physmap.mfn[0]],
        "one that is under a page": [dom0.physmap.mfn[0]],
        "the same twice": mine * 2,
    }[what]
    with pytest.raises(HypercallError, match="does not own, or that are in use"):
        dom0.release_frames(frames)
    ours = dom0.alloc_pages(len(frames))
    with pytest.raises(HypercallError, match="does not own"):
        dom0.transfer([ours + i * PAGE_SIZE for i in range(len(frames))], frames, a.domid, [8] * len(frames))
    dom0.free_pages(ours, len(frames))
    dom0.release_frames(mine)


def test_a_forged_entry_brings_no_frame(bench: Any) -> None:
    a = bench.a
    theirs, ref = offer(bench)
    bench.entry(a, ref)[:] = GRANT_ENTRY_V1.pack(GTF_accept_transfer | 12, 0, bench.b.physmap.mfn[0])
    assert a.end_transfers(ref, theirs, 1) == [0]
    assert page(a, theirs) == bytes(PAGE_SIZE)
    a.free_grefs(ref, 1)
    a.free_pages(theirs, 1)


def test_an_empty_heap_gives_what_it_has_and_says_so_now_and_then(bench: Any) -> None:
    dom0, heap = bench.dom0, bench.hypervisor.heap
    room = heap.room
    frames = dom0.increase_reservation(room + 10)
    assert len(frames) == room
    for _ in range(30):
        assert dom0.increase_reservation(1) == []
    lines = [line for line in bench.hypervisor.console_lines() if "the heap is used up" in line]
    assert lines[0] == f"(XEN) memory: d0 got {room} of {room + 10} pages: the heap is used up"
    assert len(lines) == 10
    bench.hypervisor.tick()
    assert bench.hypervisor.console_lines()[-1] == "(XEN) 21 messages suppressed"
    with pytest.raises(HypercallError, match="is used up"):
        bench.hypervisor.create_domain("c", 8)
    dom0.release_frames(frames)
    bench.hypervisor.create_domain("c", 8)


def test_what_a_domain_dies_without_goes_to_the_next(bench: Any) -> None:
    hypervisor = bench.hypervisor
    room, free = hypervisor.machine.room, hypervisor.heap.room
    c = hypervisor.create_domain("c", 64)
    addr, ref = c.alloc_pages(20), c.alloc_grefs(20)
    c.decrease_reservation(addr, 20)
    c.grant(ref, c.prepare_transfers(0, 20))
    ours = bench.dom0.alloc_pages(5)
    assert flip(bench, [ours + i * PAGE_SIZE for i in range(5)], list(range(ref, ref + 5)), c.domid) == [0] * 5
    hypervisor.destroy_domain(c.domid)
    assert (hypervisor.machine.room, hypervisor.heap.room) == (room, free), "frames it had not looked at yet, too"
    bench.dom0.free_pages(ours, 5)
