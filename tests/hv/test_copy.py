"""GNTTABOP_copy: its rules in Xen's order, and runs copied as one."""

from __future__ import annotations

from struct import Struct
from typing import Any

import pytest

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_writing,
)
from xnet.hv.api import COPY_RUN, CopyOp

pytestmark = pytest.mark.integration

ENTRY = Struct("<HHI")
FROM, TO = GNTCOPY_source_gref, GNTCOPY_dest_gref
SELF = DOMID_SELF
A, B, NOBODY = 1, 2, 77


@pytest.fixture
def stage(bench: Any) -> Any:
    """dom0 may read and write references 8 to 11 of a (9 only read) and of b; its own pages are at pfn 0 to 3."""
    bench.source, ref = bench.share(bench.a, bench.dom0, 4)
    bench.a.grant(ref + 1, bench.a.prepare_grants(0, bench.source + PAGE_SIZE, 1, readonly=True))
    bench.target, ref_b = bench.share(bench.b, bench.dom0, 4)
    assert (ref, ref_b) == (8, 8)
    assert bench.dom0.alloc_pages(4) == 0
    return bench


def copy(domain: Any, ops: list[Any]) -> list[int] | None:
    """GNTTABOP_copy by that domain: the statuses, or None."""
    statuses: list[int] | None = domain.copy_grants([CopyOp(*op) for op in ops])
    return statuses


def page(domain: Any, addr: int) -> memoryview:
    return domain.window[addr : addr + PAGE_SIZE]


@pytest.mark.parametrize(
    ("op", "status"),
    [
        ((8, A, 0, 0, SELF, 0, 4096, FROM), GNTST_okay),
        ((0, SELF, 0, 8, B, 0, 4096, TO), GNTST_okay),
        ((8, A, 100, 8, B, 200, 300, FROM | TO), GNTST_okay),
        ((0, SELF, 0, 1, SELF, 0, 64, 0), GNTST_okay),
        ((9, A, 4095, 0, SELF, 0, 1, FROM), GNTST_okay),
        ((9999, NOBODY, 9999, -1, 5, -1, 0, FROM), GNTST_okay),
        ((8, A, 4095, 0, SELF, 0, 2, FROM), GNTST_bad_copy_arg),
        ((8, A, 0, 0, SELF, 4000, 97, FROM), GNTST_bad_copy_arg),
        ((8, A, 0, 0, SELF, 0, 4097, FROM), GNTST_bad_copy_arg),
        ((8, A, 0, 0, SELF, 0, -1, FROM), GNTST_bad_copy_arg),
        ((8, A, -1, 0, SELF, 0, 1, FROM), GNTST_bad_copy_arg),
        ((8, A, 0, 0, SELF, -4096, 4096, FROM), GNTST_bad_copy_arg),
        ((8, NOBODY, 0, 0, SELF, 0, 1, FROM), GNTST_bad_domain),
        ((0, SELF, 0, 8, NOBODY, 0, 1, TO), GNTST_bad_domain),
        ((512, A, 0, 0, SELF, 0, 1, FROM), GNTST_bad_gntref),
        ((-8, A, 0, 0, SELF, 0, 1, FROM), GNTST_bad_gntref),
        ((12, A, 0, 0, SELF, 0, 1, FROM), GNTST_general_error),
        ((0, SELF, 0, 9, A, 0, 1, TO), GNTST_general_error),
        ((8, SELF, 0, 0, SELF, 0, 1, FROM), GNTST_general_error),
        ((0, 0, 0, 8, B, 0, 1, TO), GNTST_permission_denied),
        ((0, A, 0, 8, B, 0, 1, TO), GNTST_permission_denied),
        ((8, A, 0, 0, B, 0, 1, FROM), GNTST_permission_denied),
        ((8, A, 0, 63, SELF, 0, 1, FROM), GNTST_bad_page),
        ((8, A, 0, 64, SELF, 0, 1, FROM), GNTST_bad_page),
        ((8, A, 0, -1, SELF, 0, 1, FROM), GNTST_bad_page),
        ((8, A, 0, 1 << 40, SELF, 0, 1, FROM), GNTST_bad_page),
        ((63, SELF, 0, 8, B, 0, 1, TO), GNTST_bad_page),
        ((12, NOBODY, 0, 0, B, 0, 5000, FROM), GNTST_bad_domain),
        ((12, A, 0, 0, B, 0, 5000, FROM), GNTST_permission_denied),
        ((12, A, 0, 8, NOBODY, 0, 5000, FROM | TO), GNTST_bad_domain),
        ((12, A, 0, -1, SELF, 0, 5000, FROM), GNTST_general_error),
        ((8, A, 0, -1, SELF, 0, 5000, FROM), GNTST_bad_page),
    ],
)
def test_each_rule_has_its_status_and_a_refused_copy_moves_nothing(stage: Any, op: Any, status: int) -> None:
    """Pages of dom0: 0 to 3 its own, 63 never allocated, 64 its shared_info. The last five break several rules."""
    before = bytes(stage.hypervisor.machine.view)
    result = copy(stage.dom0, [op])
    if status == GNTST_okay:
        assert result is None
        src, src_domid, src_offset, dst, dst_domid, dst_offset, length, _ = op
        if length:
            pages = {A: page(stage.a, stage.source + (src - 8) * PAGE_SIZE), SELF: page(stage.dom0, src * PAGE_SIZE)}
            to = {B: page(stage.b, stage.target), SELF: page(stage.dom0, dst * PAGE_SIZE)}
            moved = to[dst_domid][dst_offset : dst_offset + length]
            assert moved == pages[src_domid][src_offset : src_offset + length]
    else:
        assert result == [status]
        assert bytes(stage.hypervisor.machine.view) == before
    for giver in (stage.a, stage.b):
        assert not giver.grant_table.active


def test_in_a_batch_the_good_ones_are_done_and_each_has_its_status(stage: Any) -> None:
    ops = [
        (8, A, 0, 0, SELF, 0, 4096, FROM),
        (9, A, 0, 1, SELF, 0, 4097, FROM),
        (10, A, 0, 2, SELF, 0, 4096, FROM),
        (10, NOBODY, 0, 2, SELF, 0, 4096, FROM),
        (11, A, 0, 3, SELF, 0, 4096, FROM),
    ]
    assert copy(stage.dom0, ops) == [GNTST_okay, GNTST_bad_copy_arg, GNTST_okay, GNTST_bad_domain, GNTST_okay]
    assert [page(stage.dom0, i * PAGE_SIZE)[0] for i in range(4)] == [1, 0, 3, 4]


def test_a_run_of_whole_pages_arrives_whole_and_is_counted(stage: Any) -> None:
    ops = [(8 + i, A, 0, i, SELF, 0, 4096, FROM) for i in range(4)]
    assert copy(stage.dom0, ops) is None
    assert stage.dom0.window[: 4 * PAGE_SIZE] == stage.a.window[stage.source : stage.source + 4 * PAGE_SIZE]
    figures = stage.hypervisor.statistics()[0]
    assert (figures.hypercalls, figures.copies, figures.bytes_copied) == (1, 4, 4 * PAGE_SIZE)


def test_a_failed_copy_is_counted_as_copy_but_not_its_bytes(stage: Any) -> None:
    copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 10, FROM), (8, A, 0, 0, SELF, 4090, 10, FROM)])
    figures = stage.hypervisor.statistics()[0]
    assert (figures.copies, figures.bytes_copied) == (2, 10)


@pytest.mark.parametrize("step", [1, -1, 2])
def test_copies_that_read_what_one_before_them_wrote_are_done_one_after_another(stage: Any, step: int) -> None:
    for i in range(4):
        page(stage.dom0, i * PAGE_SIZE)[:] = bytes([0x10 + i]) * PAGE_SIZE
    model = [0x10, 0x11, 0x12, 0x13]
    pairs = [(i, i + step) for i in range(4) if 0 <= i + step < 4]
    for source, dest in pairs:
        model[dest] = model[source]
    assert copy(stage.dom0, [(s, SELF, 0, d, SELF, 0, 4096, 0) for s, d in pairs]) is None
    assert [page(stage.dom0, i * PAGE_SIZE)[4095] for i in range(4)] == model


def test_pieces_that_join_within_a_page_are_one_run(stage: Any) -> None:
    stage.a.window[stage.source : stage.source + PAGE_SIZE] = bytes(range(256)) * 16
    ops = [(8, A, offset, 1, SELF, offset + 7, 100, FROM) for offset in range(0, 3000, 100)]
    assert copy(stage.dom0, ops) is None
    assert page(stage.dom0, PAGE_SIZE)[7:3007] == page(stage.a, stage.source)[:3000]


def test_a_domain_can_use_its_own_grants_by_self_or_by_number(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.a)
    to = bench.a.alloc_pages(2)
    for i, domid in enumerate((SELF, bench.a.domid)):
        assert copy(bench.a, [(ref, domid, 0, to // PAGE_SIZE + i, SELF, 0, 9, FROM)]) is None
        assert bench.a.window[to + i * PAGE_SIZE + 8] == bench.a.window[addr + 8] == 1


def test_a_mapped_foreign_page_is_not_the_callers_own(stage: Any) -> None:
    mapping = stage.map(stage.dom0, stage.a, 8)
    op = (mapping.addr // PAGE_SIZE, SELF, 0, 8, B, 0, 4, TO)
    assert copy(stage.dom0, [op]) == [GNTST_bad_page]


def test_the_status_bits_a_domain_forged_are_cleared_as_xen_does(stage: Any) -> None:
    entry = stage.entry(stage.a, 8)
    for forged, write, left in ((GTF_reading, False, 0), (GTF_writing, False, GTF_writing), (GTF_writing, True, 0)):
        entry[0] = GTF_permit_access | forged
        op = (0, SELF, 0, 8, A, 0, 1, TO) if write else (8, A, 0, 0, SELF, 0, 1, FROM)
        assert copy(stage.dom0, [op]) is None
        assert entry[0] == GTF_permit_access | left


def test_a_pinned_grant_is_copied_from_the_frame_it_was_pinned_with(stage: Any) -> None:
    mapping = stage.map(stage.dom0, stage.a, 8)
    other = ENTRY.unpack(stage.entry(stage.a, 10))[2]
    stage.entry(stage.a, 8)[:] = ENTRY.pack(GTF_permit_access, 0, other)
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 1, FROM)]) is None
    assert page(stage.dom0, 0)[0] == 1
    stage.dom0.unmap_grants([mapping.handle])
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 1, FROM)]) is None
    assert page(stage.dom0, 0)[0] == 3


def test_poking_the_frame_into_the_entry_changes_what_is_copied(stage: Any) -> None:
    stage.entry(stage.a, 8)[4:8] = stage.entry(stage.a, 11)[4:8]
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 1, FROM)]) is None
    assert page(stage.dom0, 0)[0] == 4
    stage.entry(stage.a, 8)[4:8] = stage.entry(stage.b, 8)[4:8]
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 1, FROM)]) == [GNTST_bad_page]
    stage.entry(stage.a, 8)[0] = GTF_permit_access | GTF_readonly
    assert copy(stage.dom0, [(0, SELF, 0, 8, A, 0, 1, TO)]) == [GNTST_general_error]


@pytest.mark.parametrize("length", [4097, 2 * 4096, 3 * 4096 + 5, 4 * 4096])
def test_a_run_stands_for_an_op_a_page(stage: Any, length: int) -> None:
    stage.a.window[stage.source : stage.source + 4 * PAGE_SIZE] = bytes(i % 251 for i in range(4 * PAGE_SIZE))
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, length, FROM | COPY_RUN)]) is None
    assert stage.dom0.window[:length] == stage.a.window[stage.source : stage.source + length]
    assert not any(stage.dom0.window[length : 4 * PAGE_SIZE])
    assert copy(stage.dom0, [(0, SELF, 0, 8, B, 0, length, TO | COPY_RUN)]) is None
    assert stage.b.window[stage.target : stage.target + length] == stage.dom0.window[:length]
    figures = stage.hypervisor.statistics()[0]
    assert (figures.copies, figures.bytes_copied) == (2 * ((length + 4095) // 4096), 2 * length)


@pytest.mark.parametrize(
    ("op", "status", "moved"),
    [
        ((8, A, 0, 0, SELF, 0, 5 * 4096, FROM), GNTST_general_error, 4),
        ((0, SELF, 0, 8, A, 0, 4 * 4096, TO), GNTST_general_error, 3),
        ((510, A, 0, 0, SELF, 0, 3 * 4096, FROM), GNTST_general_error, 0),
        ((511, A, 0, 0, SELF, 0, 3 * 4096, FROM), GNTST_general_error, 0),
        ((512, A, 0, 0, SELF, 0, 3 * 4096, FROM), GNTST_bad_gntref, 0),
        ((8, NOBODY, 0, 0, SELF, 0, 3 * 4096, FROM), GNTST_bad_domain, 0),
        ((8, A, 0, 0, 0, 0, 3 * 4096, FROM), GNTST_permission_denied, 0),
        ((8, A, 0, 62, SELF, 0, 3 * 4096, FROM), GNTST_bad_page, 0),
        ((8, A, 0, 0, SELF, 0, 1 << 40, FROM), GNTST_bad_copy_arg, 0),
    ],
)
def test_a_run_with_a_wrong_page_says_so_and_does_the_right_ones(stage: Any, op: Any, status: int, moved: int) -> None:
    """Reference 9 of a is read only, 12 not granted; dom0 has pages 0 to 4 and no 62."""
    stage.dom0.alloc_pages(1)
    for pfn in range(5):
        page(stage.dom0, pfn * PAGE_SIZE)[:] = b"\xee" * PAGE_SIZE
    assert copy(stage.dom0, [(*op[:7], op[7] | COPY_RUN), (0, SELF, 0, 4, SELF, 0, 1, 0)]) == [status, GNTST_okay]
    figures = stage.hypervisor.statistics()[0]
    assert (figures.hypercalls, figures.bytes_copied) == (1, moved * PAGE_SIZE + 1)


def test_a_run_over_itself_is_done_page_after_page(stage: Any) -> None:
    for i in range(4):
        page(stage.dom0, i * PAGE_SIZE)[:] = bytes([0x10 + i]) * PAGE_SIZE
    assert copy(stage.dom0, [(0, SELF, 0, 1, SELF, 0, 3 * PAGE_SIZE, COPY_RUN)]) is None
    assert [page(stage.dom0, i * PAGE_SIZE)[7] for i in range(4)] == [0x10] * 4


def test_runs_that_follow_each_other_and_single_ops_keep_their_order(stage: Any) -> None:
    ops = [
        (8, A, 0, 0, SELF, 0, 2 * PAGE_SIZE, FROM | COPY_RUN),
        (10, A, 0, 2, SELF, 0, 2 * PAGE_SIZE, FROM | COPY_RUN),
        (3, SELF, 0, 0, SELF, 0, 10, 0),
        (0, SELF, 0, 8, B, 0, 4 * PAGE_SIZE, TO | COPY_RUN),
    ]
    assert copy(stage.dom0, ops) is None
    assert [page(stage.b, stage.target + i * PAGE_SIZE)[10] for i in range(4)] == [1, 2, 3, 4]
    assert stage.b.window[stage.target] == 4


def test_a_run_with_a_page_in_use_uses_the_frame_it_was_pinned_with(stage: Any) -> None:
    stage.map(stage.dom0, stage.a, 10)
    stage.entry(stage.a, 10)[:] = bytes(stage.entry(stage.a, 8))
    assert copy(stage.dom0, [(8, A, 0, 0, SELF, 0, 4 * PAGE_SIZE, FROM | COPY_RUN)]) is None
    assert [page(stage.dom0, i * PAGE_SIZE)[0] for i in range(4)] == [1, 2, 3, 4]
