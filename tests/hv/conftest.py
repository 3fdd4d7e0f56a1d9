"""A machine of three domains over real memory: dom0, and two guests a and b."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.host.memory import MachineMemory
from xnet.hv import Domain, Hypervisor, Mapping


@dataclass
class Bench:
    """The machine on the bench, and what it called back."""

    memory: MachineMemory
    hypervisor: Hypervisor
    dom0: Domain
    a: Domain
    b: Domain
    kicks: list[None] = field(default_factory=list)
    reports: list[tuple[int, Exception]] = field(default_factory=list)

    def share(self, giver: Domain, user: Domain, count: int = 1, *, readonly: bool = False) -> tuple[int, int]:
        """(address, first reference) of new pages that another domain may use; page i is full of byte i + 1."""
        addr = giver.alloc_pages(count)
        for i in range(count):
            giver.window[addr + i * PAGE_SIZE : addr + (i + 1) * PAGE_SIZE] = bytes([i + 1]) * PAGE_SIZE
        first = giver.alloc_grefs(count)
        giver.grant(first, giver.prepare_grants(user.domid, addr, count, readonly=readonly))
        return addr, first

    def entry(self, domain: Domain, ref: int) -> memoryview:
        """The 8 bytes of a grant entry, as the domain itself can reach (and spoil) them."""
        start = domain.grant_table_pfn * PAGE_SIZE + ref * 8
        return domain.window[start : start + 8]

    def map(self, user: Domain, giver: Domain, ref: int, *, readonly: bool = False) -> Mapping:
        """One mapping that must succeed."""
        [mapping] = user.map_grants(giver.domid, [ref], readonly=readonly)
        assert isinstance(mapping, Mapping), mapping
        return mapping


@pytest.fixture
def bench() -> Iterator[Bench]:
    memory = MachineMemory(512)
    kicks: list[None] = []
    reports: list[tuple[int, Exception]] = []
    hypervisor = Hypervisor(
        memory, heap_pages=64, kick=lambda: kicks.append(None), report=lambda domid, exc: reports.append((domid, exc))
    )
    dom0, a, b = (hypervisor.create_domain(name, 64, map_pages=32) for name in ("Domain-0", "a", "b"))
    yield Bench(memory, hypervisor, dom0, a, b, kicks, reports)
    hypervisor.close()
    hypervisor.assert_no_leaks()
    assert hypervisor.machine.room == memory.nframes - hypervisor.heap.size
    memory.close()
