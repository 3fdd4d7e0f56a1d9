"""Grant table: entries in shared bytes, status bits, pins, map and unmap."""

from __future__ import annotations

from struct import Struct
from typing import Any

import pytest

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import (
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_no_space,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_writing,
)
from xnet.errors import HostError
from xnet.hv import Mapping

pytestmark = pytest.mark.integration

ENTRY = Struct("<HHI")


def flags_of(bench: Any, domain: Any, ref: int) -> int:
    return ENTRY.unpack(bench.entry(domain, ref))[0]


def test_a_mapped_page_is_the_same_memory(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.dom0)
    mapping = bench.map(bench.dom0, bench.a, ref)
    assert bench.dom0.window[mapping.addr] == 1
    bench.dom0.window[mapping.addr : mapping.addr + 4] = b"ping"
    assert bytes(bench.a.window[addr : addr + 4]) == b"ping"
    bench.a.window[addr : addr + 4] = b"pong"
    assert bytes(bench.dom0.window[mapping.addr : mapping.addr + 4]) == b"pong"


def test_without_the_remap_the_mapper_sees_wrong_bytes(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    addr, ref = bench.share(bench.a, bench.dom0)
    monkeypatch.setattr(bench.dom0.physmap.window, "map", lambda *_: None)
    mapping = bench.map(bench.dom0, bench.a, ref)
    assert bench.dom0.window[mapping.addr] != bench.a.window[addr]


def test_after_unmap_nothing_of_the_page_is_reachable(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.dom0)
    mapping = bench.map(bench.dom0, bench.a, ref)
    assert bench.dom0.unmap_grants([mapping.handle]) == [GNTST_okay]
    assert bench.dom0.window[mapping.addr] == 0
    bench.dom0.window[mapping.addr] = 0x99
    assert bench.a.window[addr] == 1


def test_a_read_only_mapping_changes_nothing_for_the_owner(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.dom0, readonly=True)
    mapping = bench.map(bench.dom0, bench.a, ref, readonly=True)
    assert bench.dom0.window[mapping.addr] == 1
    bench.dom0.window[mapping.addr] = 0x99
    assert bench.a.window[addr] == 1


def test_a_batch_is_mapped_at_consecutive_addresses_with_holes_where_it_failed(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0, 5)
    bench.entry(bench.a, ref + 2)[:] = bytes(8)
    results = bench.dom0.map_grants(bench.a.domid, [*range(ref, ref + 5), 9999], readonly=False)
    assert results[2] == GNTST_general_error
    assert results[5] == GNTST_bad_gntref
    base = results[0].addr
    for i in (0, 1, 3, 4):
        assert results[i].addr == base + i * PAGE_SIZE
        assert bench.dom0.window[results[i].addr] == i + 1
    assert bench.dom0.window[base + 2 * PAGE_SIZE] == 0
    again = bench.map(bench.dom0, bench.a, ref)
    assert again.addr == base + 2 * PAGE_SIZE, "the hole is free for the next one"


def test_pages_scattered_in_the_machine_are_mapped_in_the_order_asked(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0, 6)
    order = [5, 0, 1, 4, 2, 2]
    results = bench.dom0.map_grants(bench.a.domid, [ref + i for i in order], readonly=True)
    assert [bench.dom0.window[result.addr] for result in results] == [i + 1 for i in order]
    assert bench.dom0.unmap_grants([result.handle for result in results[::-1]]) == [GNTST_okay] * 6
    assert not bench.a.grant_table.active


R, W = GTF_reading, GTF_writing


@pytest.mark.parametrize(
    ("steps", "bits"),
    [
        ([], []),
        (["ro"], [R]),
        (["rw"], [R | W]),
        (["ro", "rw", "-ro", "-rw"], [R, R | W, R | W, 0]),
        (["rw", "ro", "-rw", "-ro"], [R | W, R | W, R, 0]),
        (["rw", "rw", "-rw", "-rw"], [R | W, R | W, R | W, 0]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_status_bits_stand_in_the_entry_as_long_as_somebody_uses_it(
    bench: Any, steps: list[str], bits: list[int]
) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    handles: dict[str, list[int]] = {"ro": [], "rw": []}
    for step, wanted in zip(steps, bits, strict=True):
        kind = step.removeprefix("-")
        if step == kind:
            handles[kind].append(bench.map(bench.dom0, bench.a, ref, readonly=kind == "ro").handle)
        else:
            assert bench.dom0.unmap_grants([handles[kind].pop()]) == [GNTST_okay]
        assert flags_of(bench, bench.a, ref) == GTF_permit_access | wanted
        assert bench.a.end_grant(ref, bench.a.prepare_grants(0, 0, 1, readonly=False)) is (not wanted)
        if not wanted:
            assert bytes(bench.entry(bench.a, ref)) == bytes(8)


def test_end_access_is_refused_for_the_whole_run_while_one_page_is_mapped(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.dom0, 4)
    entries = bench.a.prepare_grants(0, addr, 4, readonly=False)
    mapping = bench.map(bench.dom0, bench.a, ref + 2)
    before = [bytes(bench.entry(bench.a, ref + i)) for i in range(4)]
    assert bench.a.end_grant(ref, entries) is False
    assert [bytes(bench.entry(bench.a, ref + i)) for i in range(4)] == before
    bench.dom0.unmap_grants([mapping.handle])
    assert bench.a.end_grant(ref, memoryview(entries)) is True
    bench.a.free_grefs(ref, 4)
    assert bench.dom0.map_grants(bench.a.domid, [ref], readonly=True) == [GNTST_general_error]


OTHER, DOM0 = 2, 0
BEYOND, HEAP, UNPOPULATED = "beyond", "heap", "unpopulated"


@pytest.mark.parametrize(
    ("flags", "domid", "frame", "readonly", "status"),
    [
        (GTF_permit_access, DOM0, None, False, GNTST_okay),
        (GTF_permit_access | GTF_readonly, DOM0, None, True, GNTST_okay),
        (GTF_permit_access | 0xE0, DOM0, None, False, GNTST_okay),
        (GTF_permit_access | GTF_readonly, DOM0, None, False, GNTST_general_error),
        (GTF_permit_access, OTHER, None, False, GNTST_general_error),
        (0, DOM0, None, True, GNTST_general_error),
        (GTF_accept_transfer, DOM0, None, True, GNTST_general_error),
        (3, DOM0, None, True, GNTST_general_error),
        (GTF_permit_access | 0x100, DOM0, None, True, GNTST_general_error),
        (GTF_permit_access, DOM0, OTHER, True, GNTST_bad_page),
        (GTF_permit_access, DOM0, HEAP, True, GNTST_bad_page),
        (GTF_permit_access, DOM0, BEYOND, True, GNTST_bad_page),
        (GTF_permit_access, DOM0, UNPOPULATED, True, GNTST_bad_page),
    ],
)
def test_bytes_poked_into_the_shared_entry_decide_what_a_map_gets(
    bench: Any, flags: int, domid: int, frame: Any, readonly: bool, status: int
) -> None:
    addr, ref = bench.share(bench.a, bench.dom0)
    frames = {
        None: bench.a.physmap.mfn[addr // PAGE_SIZE],
        OTHER: bench.b.physmap.mfn[0],
        HEAP: bench.a.physmap.mfn[bench.a.shared_info_pfn],
        BEYOND: 0xFFFFFFFF,
        UNPOPULATED: bench.a.physmap.mfn[60],
    }
    poked = ENTRY.pack(flags, domid, frames[frame])
    bench.entry(bench.a, ref)[:] = poked
    [result] = bench.dom0.map_grants(bench.a.domid, [ref], readonly=readonly)
    if status == GNTST_okay:
        assert bench.dom0.window[result.addr] == 1
        assert bench.dom0.unmap_grants([result.handle]) == [GNTST_okay]
    else:
        assert result == status
    assert bytes(bench.entry(bench.a, ref)) == poked


def test_a_page_in_use_cannot_be_exchanged_under_its_user_by_poking(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0, 2)
    first = bench.map(bench.dom0, bench.a, ref)
    other = ENTRY.unpack(bench.entry(bench.a, ref + 1))[2]
    bench.entry(bench.a, ref)[:] = ENTRY.pack(GTF_permit_access, bench.b.domid, other)
    second = bench.map(bench.dom0, bench.a, ref)
    assert bench.dom0.window[second.addr] == 1, "the frame found at the first pin"
    assert bench.b.map_grants(bench.a.domid, [ref], readonly=True) == [GNTST_general_error]
    assert bench.dom0.unmap_grants([first.handle, second.handle]) == [GNTST_okay] * 2
    mapping = bench.map(bench.b, bench.a, ref)
    assert bench.b.window[mapping.addr] == 2, "unpinned, the entry counts again"


def test_a_first_writer_of_a_page_in_use_is_judged_by_readonly_alone(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    bench.map(bench.dom0, bench.a, ref, readonly=True)
    bench.entry(bench.a, ref)[:] = ENTRY.pack(GTF_reading, bench.b.domid, 0)
    writer = bench.map(bench.dom0, bench.a, ref)
    assert bench.dom0.window[writer.addr] == 1
    assert flags_of(bench, bench.a, ref) == GTF_reading | GTF_writing


def test_a_second_writer_needs_no_permission_but_a_first_does(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    reader = bench.map(bench.dom0, bench.a, ref, readonly=True)
    bench.entry(bench.a, ref)[0] |= GTF_readonly
    assert bench.dom0.map_grants(bench.a.domid, [ref], readonly=False) == [GNTST_general_error]
    assert flags_of(bench, bench.a, ref) == GTF_permit_access | GTF_readonly | GTF_reading
    bench.dom0.unmap_grants([reader.handle])
    assert flags_of(bench, bench.a, ref) == GTF_permit_access | GTF_readonly


@pytest.mark.parametrize(("domid", "ref"), [(77, 8), (DOMID_SELF, 8), (1, -1), (1, 512), (1, 1 << 31)])
def test_no_such_domain_or_reference(bench: Any, domid: int, ref: int) -> None:
    wanted = GNTST_bad_gntref if domid == 1 else GNTST_bad_domain
    assert bench.dom0.map_grants(domid, [ref], readonly=True) == [wanted]


def test_a_handle_is_good_once_and_for_its_owner_only(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    handle = bench.map(bench.dom0, bench.a, ref).handle
    assert bench.b.unmap_grants([handle]) == [GNTST_bad_handle]
    assert bench.dom0.unmap_grants([handle, handle, -1]) == [GNTST_okay, GNTST_bad_handle, GNTST_bad_handle]


def test_when_the_area_for_foreign_pages_is_full_there_is_no_space(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0)
    limit = bench.dom0.capabilities.max_mapped
    mappings = bench.dom0.map_grants(bench.a.domid, [ref] * limit, readonly=True)
    assert all(isinstance(mapping, Mapping) for mapping in mappings)
    assert bench.dom0.map_grants(bench.a.domid, [ref], readonly=True) == [GNTST_no_space]
    bench.dom0.unmap_grants([mappings[5].handle])
    assert isinstance(bench.dom0.map_grants(bench.a.domid, [ref], readonly=True)[0], Mapping)


def test_a_grant_has_at_most_128_users_of_a_kind(bench: Any) -> None:
    mapper = bench.hypervisor.create_domain("greedy", 4, map_pages=300)
    _, ref = bench.share(bench.a, mapper)
    results = mapper.map_grants(bench.a.domid, [ref] * 130, readonly=True)
    assert [isinstance(result, Mapping) for result in results] == [True] * 128 + [False] * 2
    assert results[128:] == [GNTST_general_error] * 2
    assert isinstance(mapper.map_grants(bench.a.domid, [ref], readonly=False)[0], Mapping)


def test_a_remap_the_host_refuses_is_an_error_and_pins_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ref = bench.share(bench.a, bench.dom0, 2)

    def refuse(*_: object) -> None:
        raise HostError("window: too many mappings")

    with monkeypatch.context() as patch:
        patch.setattr(bench.dom0.physmap.window, "map", refuse)
        results = bench.dom0.map_grants(bench.a.domid, [ref, ref + 1], readonly=False)
    assert results == [GNTST_general_error] * 2
    assert flags_of(bench, bench.a, ref) == GTF_permit_access
    assert bench.hypervisor.statistics()[0].mappings == 0
    assert bench.dom0.window[bench.map(bench.dom0, bench.a, ref).addr] == 1


def test_a_domain_may_map_what_it_granted_to_itself(bench: Any) -> None:
    addr, ref = bench.share(bench.a, bench.a)
    mapping = bench.map(bench.a, bench.a, ref)
    bench.a.window[mapping.addr] = 0x42
    assert bench.a.window[addr] == 0x42


@pytest.mark.parametrize(
    ("asker", "domid", "answer"),
    [
        ("a", DOMID_SELF, (1, 64, GNTST_okay)),
        ("a", 1, (1, 64, GNTST_okay)),
        ("a", 2, (0, 0, GNTST_permission_denied)),
        ("dom0", 2, (1, 64, GNTST_okay)),
        ("dom0", 9, (0, 0, GNTST_bad_domain)),
    ],
)
def test_query_size_of_others_is_for_dom0(bench: Any, asker: str, domid: int, answer: tuple[int, int, int]) -> None:
    assert bench.hypervisor.grants.query_size(getattr(bench, asker).grant_table, domid) == answer


def test_mappings_are_counted(bench: Any) -> None:
    _, ref = bench.share(bench.a, bench.dom0, 3)
    mappings = bench.dom0.map_grants(bench.a.domid, [ref, ref + 1, ref + 2], readonly=True)
    bench.dom0.unmap_grants([mapping.handle for mapping in mappings[:2]])
    figures = bench.hypervisor.statistics()[0]
    assert (figures.hypercalls, figures.maps, figures.unmaps, figures.mappings) == (2, 3, 2, 1)
    assert bench.hypervisor.statistics()[1].grants_in_use == 1
