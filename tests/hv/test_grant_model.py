"""Any sequence of grant, end, map, unmap, copy, poked bytes, births and deaths, against a model that knows no trick.

The model keeps the entries' bytes, the pins, and the contents of every page; it copies one operation after another.
After every step the shared tables, all pages and all mappings must read as in the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen import grant_table as gt
from xnet.host.memory import MachineMemory
from xnet.hv import Domain, Hypervisor, Mapping
from xnet.hv.api import COPY_RUN, CopyOp

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ENTRY = Struct("<HHI")
PAGES = 4
REFS = range(8, 12)
LIMIT = 3
"""Foreign pages a guest may have mapped: few, so that the area runs full."""


@dataclass
class Guest:
    """One domain, living or dead, and what the model knows of it."""

    domain: Domain
    first_pfn: int
    frames: list[int]
    entries: dict[int, bytes] = field(default_factory=dict)
    pins: dict[int, list[Any]] = field(default_factory=dict)
    """ref -> [user, frame, readers, writers]"""
    mapped: dict[int, tuple[int, int, int, int, bool]] = field(default_factory=dict)
    """handle -> (granter, ref, frame, address, readonly)"""
    alive: bool = True


slots = st.integers(0, 2)
refs = st.sampled_from([*REFS, *REFS, *REFS, 12, 511, 512, -1])
offsets = st.sampled_from([0, 0, 0, 1, 100, 4000, 4095, 4096])
lengths = st.sampled_from([0, 1, 96, 100, 4095, 4096, 4096, 4096, 4097])


class Grants(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.memory = MachineMemory(96)
        self.hypervisor = Hypervisor(self.memory, heap_pages=24)
        self.guests: dict[int, Guest] = {}
        self.pages: dict[int, bytearray] = {}
        self.owner: dict[int, int] = {}
        self.fill = 0
        self.living = [self.born("Domain-0"), self.born("a"), self.born("b")]

    def born(self, name: str) -> int:
        domain = self.hypervisor.create_domain(name, PAGES + 4, map_pages=LIMIT)
        addr = domain.alloc_pages(PAGES)
        assert domain.alloc_grefs(len(REFS)) == REFS[0]
        first = addr // PAGE_SIZE
        frames = list(domain.physmap.mfn[first : first + PAGES])
        guest = Guest(domain, first, frames, dict.fromkeys(REFS, bytes(8)))
        for frame in frames:
            assert frame not in self.pages, "a frame in two hands"
            self.fill = (self.fill + 1) % 256
            self.pages[frame] = bytearray([self.fill]) * PAGE_SIZE
            self.owner[frame] = domain.domid
        domain.window[addr : addr + PAGES * PAGE_SIZE] = b"".join(self.pages[frame] for frame in frames)
        self.guests[domain.domid] = guest
        return domain.domid

    # --- the model's rules
    def pin(self, giver: Guest, ref: int, user: int, write: bool, mapping: bool) -> int:
        if ref not in range(512):
            return gt.GNTST_bad_gntref
        if ref not in giver.entries:
            return gt.GNTST_general_error  # never granted: all zeros
        flags, domid, frame = ENTRY.unpack(giver.entries[ref])
        pin = giver.pins.get(ref)
        if pin and pin[0] != user:
            return gt.GNTST_general_error
        if not pin and (flags & 3 != gt.GTF_permit_access or domid != user or (mapping and flags & 0x100)):
            return gt.GNTST_general_error
        if write and flags & gt.GTF_readonly and not (pin and pin[3]):
            return gt.GNTST_general_error
        bits = gt.GTF_reading | (gt.GTF_writing if write else 0)
        if not pin and self.owner.get(frame) != giver.domain.domid:
            giver.entries[ref] = ENTRY.pack(flags & ~bits, domid, frame)
            return gt.GNTST_bad_page
        if not pin or (write and not pin[3]):
            giver.entries[ref] = ENTRY.pack(flags | bits, domid, frame)
        pin = giver.pins.setdefault(ref, [user, frame, 0, 0])
        pin[3 if write else 2] += 1
        return int(pin[1])

    def unpin(self, giver: Guest, ref: int, write: bool) -> None:
        pin = giver.pins[ref]
        pin[3 if write else 2] -= 1
        flags, domid, frame = ENTRY.unpack(giver.entries[ref])
        if write and not pin[3]:
            flags &= ~gt.GTF_writing
        if not pin[2] and not pin[3]:
            flags &= ~gt.GTF_reading
            del giver.pins[ref]
        giver.entries[ref] = ENTRY.pack(flags, domid, frame)

    def copy_one(self, user: Guest, op: Any) -> int:
        src, src_domid, src_offset, dst, dst_domid, dst_offset, length, flags = op
        if not length:
            return gt.GNTST_okay
        sides = [(src, src_domid, flags & 1, False), (dst, dst_domid, flags & 2, True)]
        for _, domid, gref, _ in sides:
            if domid != DOMID_SELF and not gref:
                return gt.GNTST_permission_denied
            if domid != DOMID_SELF and not (domid in self.guests and self.guests[domid].alive):
                return gt.GNTST_bad_domain
        frames, pinned, status = [], [], gt.GNTST_okay
        for page, domid, gref, write in sides:
            giver = user if domid == DOMID_SELF else self.guests[domid]
            if gref:
                frame = self.pin(giver, page, user.domain.domid, write, False)
                if frame >= 0:
                    pinned.append((giver, page, write))
            else:
                own = page - user.first_pfn
                frame = user.frames[own] if 0 <= own < PAGES else gt.GNTST_bad_page
            if frame < 0:
                status = frame
                break
            frames.append(frame)
        for giver, ref, write in pinned:
            self.unpin(giver, ref, write)
        if status:
            return status
        if src_offset + length > PAGE_SIZE or dst_offset + length > PAGE_SIZE:
            return gt.GNTST_bad_copy_arg
        piece = self.pages[frames[0]][src_offset : src_offset + length]
        self.pages[frames[1]][dst_offset : dst_offset + length] = piece
        return gt.GNTST_okay

    def copy_run(self, user: Guest, op: Any) -> int:
        src, src_domid, _, dst, dst_domid, _, length, flags = op
        status = gt.GNTST_okay
        for i in range((length + PAGE_SIZE - 1) // PAGE_SIZE):
            size = min(PAGE_SIZE, length - i * PAGE_SIZE)
            single = (src + i, src_domid, 0, dst + i, dst_domid, 0, size, flags & ~COPY_RUN)
            one = self.copy_one(user, single)  # they all run, whatever the first said
            status = status or one
        return status

    # --- what domains do
    @rule(slot=slots, ref=st.sampled_from(REFS), to=slots, page=st.integers(0, PAGES - 1), readonly=st.booleans())
    def grant(self, slot: int, ref: int, to: int, page: int, readonly: bool) -> None:
        guest = self.guests[self.living[slot]]
        if ref in guest.pins:
            return
        addr = (guest.first_pfn + page) * PAGE_SIZE
        entries = guest.domain.prepare_grants(self.living[to], addr, 1, readonly=readonly)
        guest.domain.grant(ref, entries)
        flags = gt.GTF_permit_access | (gt.GTF_readonly if readonly else 0)
        guest.entries[ref] = ENTRY.pack(flags, self.living[to], guest.frames[page])

    @rule(slot=slots, to=slots, readonly=st.booleans())
    def grant_all(self, slot: int, to: int, readonly: bool) -> None:
        for page, ref in enumerate(REFS):
            self.grant(slot, ref, to, page, readonly)

    @rule(slot=slots, first=st.sampled_from(REFS), count=st.integers(1, len(REFS)))
    def end(self, slot: int, first: int, count: int) -> None:
        guest = self.guests[self.living[slot]]
        run = range(first, min(first + count, REFS.stop))
        entries = b"".join(ENTRY.pack(ENTRY.unpack(guest.entries[ref])[0] & ~0x18, 0, 0) for ref in run)
        in_use = any(ENTRY.unpack(guest.entries[ref])[0] & 0x18 for ref in run)
        assert guest.domain.end_grant(first, entries) is not in_use
        if not in_use:
            guest.entries.update(dict.fromkeys(run, bytes(8)))

    @rule(
        slot=slots,
        ref=st.sampled_from(REFS),
        flags=st.sampled_from([0, 1, 1, 1, 2, 3, 5, 9, 0x11, 0x19, 0x1D, 0x101, 0xE1, 0xFFFF]),
        domid=st.integers(0, 3),
        frame=st.integers(-2, 97),
    )
    def poke(self, slot: int, ref: int, flags: int, domid: int, frame: int) -> None:
        guest = self.guests[self.living[slot]]
        raw = ENTRY.pack(flags, domid, frame & 0xFFFFFFFF)
        start = guest.domain.grant_table_pfn * PAGE_SIZE + ref * 8
        guest.domain.window[start : start + 8] = raw
        guest.entries[ref] = raw

    @rule(
        slot=slots, giver=st.integers(0, 4), wanted=st.lists(refs, min_size=1, max_size=LIMIT), readonly=st.booleans()
    )
    def map(self, slot: int, giver: int, wanted: list[int], readonly: bool) -> None:
        user = self.guests[self.living[slot]]
        domid = self.living[giver] if giver < 3 else giver + 1000
        results = user.domain.map_grants(domid, wanted, readonly=readonly)
        if all(result == gt.GNTST_no_space for result in results):
            assert user.mapped, "an empty area has room"
            return
        for ref, result in zip(wanted, results, strict=True):
            if domid not in self.guests:
                assert result == gt.GNTST_bad_domain
                continue
            frame = self.pin(self.guests[domid], ref, user.domain.domid, not readonly, True)
            if frame < 0:
                assert result == frame
            else:
                assert isinstance(result, Mapping)
                assert result.handle not in user.mapped
                user.mapped[result.handle] = (domid, ref, frame, result.addr, readonly)

    @rule(slot=slots, which=st.lists(st.integers(0, 4), min_size=1, max_size=4))
    def unmap(self, slot: int, which: list[int]) -> None:
        user = self.guests[self.living[slot]]
        known = sorted(user.mapped)
        handles = [known[i] if i < len(known) else 900 + i for i in which]
        statuses = user.domain.unmap_grants(handles)
        for handle, status in zip(handles, statuses, strict=True):
            assert status == (gt.GNTST_okay if handle in user.mapped else gt.GNTST_bad_handle)
            if handle in user.mapped:
                self.forget(user, handle)

    def forget(self, user: Guest, handle: int) -> None:
        domid, ref, frame, _, readonly = user.mapped.pop(handle)
        giver = self.guests[domid]
        self.unpin(giver, ref, not readonly)
        if not giver.alive and not any(pin[1] == frame for pin in giver.pins.values()):
            del self.pages[frame], self.owner[frame]
        if not giver.alive and not giver.pins:
            del self.guests[domid]

    @rule(slot=slots, data=st.data())
    def copy(self, slot: int, data: st.DataObject) -> None:
        user = self.guests[self.living[slot]]

        def side(gref: bool) -> tuple[int, int]:
            domids = [*self.living, *self.living, DOMID_SELF] if gref else [DOMID_SELF] * 5 + self.living
            pfns = [*range(user.first_pfn, user.first_pfn + PAGES), user.domain.shared_info_pfn, -1, 1 << 33]
            page = data.draw(refs if gref else st.sampled_from(pfns))
            return page, data.draw(st.sampled_from([*domids, 1001]))

        ops = []
        for _ in range(data.draw(st.integers(1, 3))):
            flags = data.draw(st.integers(0, 3))
            src, src_domid = side(bool(flags & 1))
            dst, dst_domid = side(bool(flags & 2))
            offset, to_offset, length = data.draw(offsets), data.draw(offsets), data.draw(lengths)
            run = data.draw(st.sampled_from([1, 1, 3])) if min(src, dst) >= 0 else 1
            for i in range(run):  # often it goes on from page to page
                ops.append((src + i, src_domid, offset, dst + i, dst_domid, to_offset, length, flags))
            if min(src, dst) >= 0 and data.draw(st.booleans()):
                size = data.draw(st.sampled_from([4097, 8192, 12288]))
                ops.append((src, src_domid, 0, dst, dst_domid, 0, size, flags | COPY_RUN))
        wanted = [self.copy_run(user, op) if op[7] & COPY_RUN else self.copy_one(user, op) for op in ops]
        assert user.domain.copy_grants([CopyOp(*op) for op in ops]) == (wanted if any(wanted) else None)

    @rule(
        slot=slots, page=st.integers(0, PAGES - 1), where=st.integers(0, 4000), text=st.binary(min_size=1, max_size=9)
    )
    def write(self, slot: int, page: int, where: int, text: bytes) -> None:
        guest = self.guests[self.living[slot]]
        start = (guest.first_pfn + page) * PAGE_SIZE + where
        guest.domain.window[start : start + len(text)] = text
        self.pages[guest.frames[page]][where : where + len(text)] = text

    @rule(slot=slots, which=st.integers(0, LIMIT), where=st.integers(0, 4000), text=st.binary(min_size=1, max_size=9))
    def write_through_a_mapping(self, slot: int, which: int, where: int, text: bytes) -> None:
        user = self.guests[self.living[slot]]
        writable = [mapping for mapping in user.mapped.values() if not mapping[4]]
        if which < len(writable):
            _, _, frame, addr, _ = writable[which]
            user.domain.window[addr + where : addr + where + len(text)] = text
            self.pages[frame][where : where + len(text)] = text

    @precondition(lambda self: len(self.guests) < 6)
    @rule(slot=st.integers(1, 2))
    def die_and_be_followed(self, slot: int) -> None:
        domid = self.living[slot]
        guest = self.guests[domid]
        self.hypervisor.destroy_domain(domid)
        for handle in list(guest.mapped):
            self.forget(guest, handle)
        guest.alive = False
        held = {pin[1] for pin in guest.pins.values()}
        for frame in guest.frames:
            if frame not in held:
                del self.pages[frame], self.owner[frame]
        if not guest.pins:
            del self.guests[domid]
        self.living[slot] = self.born(f"after {domid}")

    # --- what must always hold
    @invariant()
    def shared_tables_read_as_in_the_model(self) -> None:
        for domid in self.living:
            guest = self.guests[domid]
            start = guest.domain.grant_table_pfn * PAGE_SIZE + REFS[0] * 8
            table = guest.domain.window[start : start + len(REFS) * 8]
            assert bytes(table) == b"".join(guest.entries[ref] for ref in REFS)

    @invariant()
    def every_page_and_every_mapping_shows_the_right_bytes(self) -> None:
        for domid in self.living:
            guest = self.guests[domid]
            start = guest.first_pfn * PAGE_SIZE
            own = guest.domain.window[start : start + PAGES * PAGE_SIZE]
            assert bytes(own) == b"".join(self.pages[frame] for frame in guest.frames)
            for _, _, frame, addr, _ in guest.mapped.values():
                assert guest.domain.window[addr : addr + PAGE_SIZE].tobytes() == self.pages[frame]

    @invariant()
    def the_dead_are_zombies_as_long_as_they_are_held(self) -> None:
        assert set(self.hypervisor.zombies) == {domid for domid, guest in self.guests.items() if not guest.alive}

    def teardown(self) -> None:
        if not hasattr(self, "hypervisor"):
            return
        self.hypervisor.close()
        self.hypervisor.assert_no_leaks()
        assert self.hypervisor.machine.room == self.memory.nframes - self.hypervisor.heap.size
        assert self.hypervisor.heap.used == 0
        self.memory.close()


TestGrants = Grants.TestCase
TestGrants.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
