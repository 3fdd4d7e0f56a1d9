"""Copies that are plainly right are done by `Copier`, all others by the rules: nobody can tell which it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref, GTF_readonly
from xnet.host.memory import MachineMemory
from xnet.hv import Domain, Hypervisor
from xnet.hv.api import COPY_RUN, CopyOp

pytestmark = pytest.mark.integration

PAGES = 8
REFS = 8
"""The first reference of each guest; the pages from there on are granted to dom0."""
PINNED, READONLY, NEVER, STOLEN = 3, 4, 5, 6
"""Pages of them that are special."""


class Never:
    """A Copier that is always in doubt."""

    def copy(self, caller: Any, ops: Any) -> bool:
        return False


@contextmanager
def machine(by_rules: bool) -> Iterator[tuple[Hypervisor, list[Domain]]]:
    """dom0 and two guests with a page of each kind, each page full of its own byte."""
    memory = MachineMemory(192)
    hypervisor = Hypervisor(memory, heap_pages=32)
    if by_rules:
        hypervisor.grants._copier = Never()  # type: ignore[assignment]
    domains = [hypervisor.create_domain(name, 24, map_pages=8) for name in ("dom0", "a", "b")]
    for number, domain in enumerate(domains):
        addr = domain.alloc_pages(PAGES)
        for i in range(PAGES):
            domain.window[addr + i * PAGE_SIZE : addr + (i + 1) * PAGE_SIZE] = bytes([16 * number + i]) * PAGE_SIZE
        assert domain.alloc_grefs(PAGES) == REFS
        domain.grant(REFS, domain.prepare_grants(0, addr, PAGES, readonly=False))
        entries = domain.window[domain.grant_table_pfn * PAGE_SIZE :].cast("I")
        entries[2 * (REFS + READONLY)] |= GTF_readonly
        entries[2 * (REFS + NEVER)] = 0
        entries[2 * (REFS + STOLEN) + 1] = hypervisor.domains[0].physmap.mfn[0]
        if number:
            domains[0].map_grants(domain.domid, [REFS + PINNED], readonly=True)
    yield hypervisor, domains
    hypervisor.close()
    memory.close()


domids = st.sampled_from([0, 1, 1, 2, 2, DOMID_SELF, DOMID_SELF, 9])
places = st.one_of(st.integers(REFS - 1, REFS + PAGES), st.integers(0, PAGES), st.sampled_from([-1, 511, 512, 1 << 31]))
lengths = st.sampled_from([-1, 0, 1, 100, 4000, 4096, 4096, 4097, 8192, 9000, 3 * 4096, 300 * 4096])
offsets = st.sampled_from([0, 0, 0, 0, 1, 96, 4095, 4096, -1])
flags = st.integers(0, 3).flatmap(lambda flag: st.sampled_from([flag, flag, flag | COPY_RUN]))
ops = st.lists(st.tuples(places, domids, offsets, places, domids, offsets, lengths, flags), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(ops, min_size=1, max_size=3), caller=st.integers(0, 2))
def test_the_same_statuses_bytes_and_figures_either_way(batches: list[Any], caller: int) -> None:
    found = []
    for by_rules in (False, True):
        with machine(by_rules) as (hypervisor, domains):
            said = [domains[caller].copy_grants([CopyOp(*op) for op in batch]) for batch in batches]
            book = hypervisor.machine
            owned = [mfn for mfn in range(book.nframes) if book.owner[mfn] in (0, 1, 2)]
            seen = [bytes(book.page(mfn)) for mfn in owned]
            figures = hypervisor.statistics()[caller]
            found.append((said, seen, figures.copies, figures.bytes_copied))
    assert found[0] == found[1]


SIDES = [
    (0, DOMID_SELF, 0, 1, DOMID_SELF, 0, 4096, 0),
    (REFS, 1, 0, 0, DOMID_SELF, 0, 4096, GNTCOPY_source_gref),
    (REFS, 1, 5, REFS + 1, 2, 7, 99, GNTCOPY_source_gref | GNTCOPY_dest_gref),
    (REFS, 1, 0, REFS, 2, 0, 9000, GNTCOPY_source_gref | GNTCOPY_dest_gref | COPY_RUN),
    (REFS + READONLY, 1, 0, 2, DOMID_SELF, 0, 1, GNTCOPY_source_gref),
]
DOUBTFUL = [
    (REFS + PINNED, 1, 0, 2, DOMID_SELF, 0, 1, GNTCOPY_source_gref),
    (REFS + READONLY, 1, 0, REFS + READONLY, 2, 0, 1, GNTCOPY_source_gref | GNTCOPY_dest_gref),
    (REFS + NEVER, 1, 0, 2, DOMID_SELF, 0, 1, GNTCOPY_source_gref),
    (REFS + STOLEN, 1, 0, 2, DOMID_SELF, 0, 1, GNTCOPY_source_gref),
    (REFS, 1, 0, 0, DOMID_SELF, 4095, 2, GNTCOPY_source_gref),
    (REFS, 9, 0, 0, DOMID_SELF, 0, 2, GNTCOPY_source_gref),
    (REFS, 1, 0, 0, DOMID_SELF, 0, 0, GNTCOPY_source_gref),
]


@pytest.mark.parametrize("op", SIDES)
def test_what_is_plain_is_not_done_by_the_rules(op: tuple[int, ...]) -> None:
    pytest.importorskip("xnet.hv._copier", reason="not compiled: nothing is plain")
    with machine(False) as (hypervisor, domains):
        assert hypervisor.grants._copier.copy(domains[0].grant_table.copying, [CopyOp(*op)])


@pytest.mark.parametrize("op", DOUBTFUL)
def test_in_doubt_about_one_nothing_is_done(op: tuple[int, ...]) -> None:
    with machine(False) as (hypervisor, domains):
        before = bytes(hypervisor.machine.view)
        batch = [CopyOp(*SIDES[1]), CopyOp(*op)]
        assert not hypervisor.grants._copier.copy(domains[0].grant_table.copying, batch)
        assert bytes(hypervisor.machine.view) == before
        assert hypervisor.statistics()[0].bytes_copied == 0


def test_a_run_that_reads_what_it_wrote_reads_it_as_single_copies_do() -> None:
    with machine(False) as (_, domains):
        dom0 = domains[0]
        assert dom0.copy_grants([CopyOp(0, DOMID_SELF, 0, 1, DOMID_SELF, 0, 4 * PAGE_SIZE, COPY_RUN)]) is None
        assert {dom0.window[i * PAGE_SIZE] for i in range(5)} == {0}


def test_a_dead_domain_is_nobody() -> None:
    with machine(False) as (hypervisor, domains):
        hypervisor.destroy_domain(1)
        assert domains[0].copy_grants([CopyOp(*SIDES[1])]) == [-2]
