"""Frames change hands in any order: each has one owner and one place, and no page shows what is another's."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GNTST_bad_page, GNTST_okay
from xnet.host.memory import MachineMemory
from xnet.hv import Domain, Hypervisor
from xnet.mem import NO_FRAME

pytestmark = pytest.mark.integration

PAGES = 24
HEAP = 24
WHO = st.integers(0, 2)
COUNTS = st.integers(1, 4)


class Frames(RuleBasedStateMachine):
    """Three domains that give frames up, ask for them, and give them to each other."""

    spare = Bundle("spare")
    """(domain, loose frames)"""
    places = Bundle("places")
    """(domain, address, first reference, count, from whom): buffers posted for pages of another."""

    @initialize()
    def boot(self) -> None:
        self.memory = MachineMemory(160)
        self.hypervisor = Hypervisor(self.memory, heap_pages=HEAP)
        self.domains: list[Domain] = [
            self.hypervisor.create_domain(name, PAGES, map_pages=2) for name in ("dom0", "a", "b")
        ]
        self.held: dict[tuple[int, int], bytes] = {}
        """(domain, address) of pages out of the allocator, and what they show."""
        self.stamp = 0

    def page(self, who: int, addr: int) -> memoryview:
        return self.domains[who].window[addr : addr + PAGE_SIZE]

    def can_fill(self, domain: Domain, count: int) -> bool:
        """Whether pages without a frame could get one: the heap has some, and the domain may own more."""
        spare = count if domain.domid == 0 else domain.pages - domain.reservation.total
        empty = sum(mfn == NO_FRAME for mfn in domain.physmap.mfn[: domain.pages])
        return self.hypervisor.heap.room >= count + 2 and spare >= min(empty, count)

    @rule(who=WHO)
    def take_and_fill_a_page(self, who: int) -> None:
        domain = self.domains[who]
        if domain.pages_used >= PAGES - 6 or not self.can_fill(domain, 1):
            return
        addr = domain.alloc_pages(1)
        self.stamp += 1
        self.page(who, addr)[:] = self.stamp.to_bytes(4, "little") * (PAGE_SIZE // 4)
        self.held[who, addr] = bytes(self.page(who, addr))

    @rule(who=WHO, data=st.data())
    def free_a_page(self, who: int, data: st.DataObject) -> None:
        mine = [addr for each, addr in self.held if each == who]
        if mine:
            addr = data.draw(st.sampled_from(mine))
            del self.held[who, addr]
            self.domains[who].free_pages(addr, 1)

    @rule(target=spare, who=WHO, count=COUNTS)
    def ask_for_frames(self, who: int, count: int) -> tuple[int, list[int]]:
        room = self.hypervisor.heap.room
        frames = self.domains[who].increase_reservation(count)
        assert len(frames) <= min(count, room)
        return who, frames

    @rule(spare=consumes(spare))
    def give_frames_back(self, spare: tuple[int, list[int]]) -> None:
        who, frames = spare
        self.domains[who].release_frames(frames)

    @rule(target=places, who=WHO, giver=WHO, count=COUNTS)
    def post_places(self, who: int, giver: int, count: int) -> tuple[int, int, int, int, int] | None:
        domain = self.domains[who]
        if domain.pages_used + count > PAGES - 4 or not self.can_fill(domain, count) or domain.grefs_used > 400:
            return None
        addr, ref = domain.alloc_pages(count), domain.alloc_grefs(count)
        assert domain.decrease_reservation(addr, count) == count
        domain.grant(ref, domain.prepare_transfers(self.domains[giver].domid, count))
        return who, addr, ref, count, giver

    @rule(places=consumes(places), spare=consumes(spare), target=places)
    def give_pages(
        self, places: tuple[int, int, int, int, int] | None, spare: tuple[int, list[int]]
    ) -> tuple[int, int, int, int, int] | None:
        giver, frames = spare
        domain = self.domains[giver]
        mine = [addr for who, addr in self.held if who == giver]
        count = min(len(mine), len(frames), places[3] if places else 0)
        if places is None or not count:
            domain.release_frames(frames)
            return places
        taker, addr, ref, _, wanted = places
        before = self.domains[taker].reservation.total
        statuses = domain.transfer(
            mine[:count], frames[:count], self.domains[taker].domid, list(range(ref, ref + count))
        )
        gone = [each for each, status in zip(mine, statuses, strict=False) if status != GNTST_bad_page]
        assert len(gone) == count, "nothing keeps these pages"
        for i, each in enumerate(gone):
            if statuses[i] == GNTST_okay:
                assert giver == wanted
                self.expected[taker, addr + i * PAGE_SIZE] = self.held[giver, each]
            self.held[giver, each] = bytes(PAGE_SIZE)
        assert self.domains[taker].reservation.total - before == statuses.count(0) or taker == giver
        domain.release_frames(frames[count:])
        return places

    @property
    def expected(self) -> dict[tuple[int, int], bytes]:
        """What flipped pages must show, once they are looked at."""
        if not hasattr(self, "_expected"):
            self._expected: dict[tuple[int, int], bytes] = {}
        return self._expected

    @rule(places=consumes(places))
    def look_at_what_came(self, places: tuple[int, int, int, int, int] | None) -> None:
        if places is None:
            return
        who, addr, ref, count, _ = places
        domain = self.domains[who]
        missing = domain.end_transfers(ref, addr, count)
        for i in range(count):
            came = self.expected.pop((who, addr + i * PAGE_SIZE), None)
            assert (came is None) == (i in missing)
            assert bytes(self.page(who, addr + i * PAGE_SIZE)) == (came or bytes(PAGE_SIZE))
        domain.free_grefs(ref, count)
        domain.free_pages(addr, count)

    @invariant()
    def every_frame_has_one_place(self) -> None:
        if not hasattr(self, "domains"):
            return
        seen: set[int] = set()
        for domain in self.domains:
            own = [mfn for mfn in domain.physmap.mfn[: domain.pages] if mfn != NO_FRAME]
            frames = [*own, *domain.reservation.loose]
            assert len(frames) == domain.reservation.total
            assert not seen.intersection(frames)
            seen.update(frames)
            assert len(set(frames)) == len(frames)
        heap = self.hypervisor.heap
        lent = sum(domain.reservation.total - domain.pages for domain in self.domains)
        assert heap.used + heap.room + lent == HEAP

    @invariant()
    def pages_show_what_their_owners_left(self) -> None:
        for (who, addr), data in getattr(self, "held", {}).items():
            assert bytes(self.page(who, addr)) == data

    def teardown(self) -> None:
        if hasattr(self, "hypervisor"):
            try:
                self.hypervisor.close()
                assert self.hypervisor.machine.room == self.memory.nframes - HEAP
                assert self.hypervisor.heap.room == HEAP
            finally:
                self.memory.close()


TestFrames = Frames.TestCase
