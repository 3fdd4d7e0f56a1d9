"""Grant hypercalls: map, unmap, copy, query_size, between the tables of two domains.

Each element of a batch has its own GNTST status, and they run in order. Source: xen/common/grant_table.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_no_space,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_permit_access,
    GTF_readonly,
)
from xnet.errors import HostError
from xnet.hv.api import COPY_RUN, CopyOp
from xnet.hv.grants import GrantTable, KnownRun, Tracked
from xnet.mem import Machine

SELF: Final = DOMID_SELF
SHIFT: Final = PAGE_SHIFT
PAGE: Final = PAGE_SIZE
FROM_GREF: Final = GNTCOPY_source_gref
TO_GREF: Final = GNTCOPY_dest_gref
READONLY: Final = GTF_readonly
ACCESS: Final = GTF_permit_access
FIRST: Final = 0xFFFFFFFF
"""The first word of an entry: flags and domid."""
FAR: Final = 1 << 62
KNOWN_RUNS: Final = 4096
"""Runs of one caller remembered before all are forgotten."""
MAX_RUN: Final = 256
"""Most pages of a COPY_RUN, so that a wrong length costs no more than a table's frame."""
ENTRIES: Final = [Struct(f"{8 * count}s").unpack_from for count in range(MAX_RUN + 1)]
"""By number: the bytes of so many grant entries. A view of them is dearer."""


class GrantOps:
    """The grant tables of all living domains and what is done between them.

    `released` is called with a dead domain's table when the last use of one of its grants has ended.
    """

    def __init__(self, machine: Machine, released: Callable[[GrantTable], None]) -> None:
        self.tables: dict[int, GrantTable] = {}
        self._machine = machine
        self._released = released

    def map(self, caller: GrantTable, pfn: int, domid: int, refs: Sequence[int], *, readonly: bool) -> list[int]:
        """Map grants of `domid` at the caller's pages pfn, pfn + 1, ...: per reference a handle, or a GNTST status.

        Neighbours in the machine are mapped by one remap. A page whose reference failed is left as it was.
        """
        caller.hypercalls += 1
        table = self.tables.get(domid)
        if table is None:
            return [GNTST_bad_domain] * len(refs)
        results = [GNTST_no_space] * len(refs)
        room = len(caller.handles)
        for i, ref in enumerate(refs[:room]):
            results[i] = table.pin(ref, caller.domid, write=not readonly, mapping=True)
        start = 0
        while start < len(results):
            end = start + 1
            if results[start] >= 0:
                while end < len(results) and results[end] == results[end - 1] + 1:
                    end += 1
                results[start:end] = self._map_run(
                    caller, pfn + start, table, refs[start:end], results[start], readonly
                )
            start = end
        return results

    def _map_run(
        self, caller: GrantTable, pfn: int, table: GrantTable, refs: Sequence[int], frame: int, readonly: bool
    ) -> list[int]:
        """Remap pinned neighbours and enter them in the maptrack: their handles."""
        try:
            caller.physmap.place(pfn, frame, len(refs), readonly=readonly)
        except HostError:
            for ref in refs:
                table.unpin(ref, write=not readonly)
            return [GNTST_general_error] * len(refs)
        handles = []
        for i, ref in enumerate(refs):
            handle = caller.handles.pop()
            caller.maptrack[handle] = Tracked(table, ref, pfn + i, frame + i, readonly)
            self._machine.get(frame + i)
            handles.append(handle)
        caller.maps += len(refs)
        return handles

    def unmap(self, caller: GrantTable, handles: Sequence[int]) -> list[int]:
        """Unmap what the handles stand for: a GNTST status each. Neighbours in the window go by one remap."""
        caller.hypercalls += 1
        results = [GNTST_okay] * len(handles)
        gone: list[Tracked] = []
        for i, handle in enumerate(handles):
            tracked = caller.maptrack.pop(handle, None)
            if tracked is None:
                results[i] = GNTST_bad_handle
            else:
                caller.handles.append(handle)
                gone.append(tracked)
        start = 0
        for i in range(1, len(gone) + 1):
            if i == len(gone) or gone[i].pfn != gone[i - 1].pfn + 1:
                caller.physmap.clear(gone[start].pfn, i - start)
                start = i
        for tracked in gone:  # only now: a freed frame must not be under anybody's window
            tracked.table.unpin(tracked.ref, write=not tracked.readonly)
            self._machine.put(tracked.frame)
            if self.tables.get(tracked.table.domid) is not tracked.table and not tracked.table.active:
                self._released(tracked.table)
        caller.unmaps += len(gone)
        return results

    def query_size(self, caller: GrantTable, domid: int) -> tuple[int, int, int]:
        """(nr_frames, max_nr_frames, status) of a domain's table; only dom0 may ask about others."""
        table = caller if domid == SELF else self.tables.get(domid)
        if table is None:
            return 0, 0, GNTST_bad_domain
        if table is not caller and caller.domid != 0:
            return 0, 0, GNTST_permission_denied
        return len(table.frames), table.max_frames, GNTST_okay

    def copy(self, caller: GrantTable, ops: list[CopyOp]) -> list[int] | None:  # hot: <= 0.8 us an op
        """Run copies in order: None when all went well, else a GNTST status for each.

        Longer than 40 lines because a call per op would double its price. An op that is plainly right is checked here;
        any doubt goes to `_check_slowly`, which knows the order of the rules. Ops that go on in the machine where the
        one before ended, on both sides, become one copy, unless it would read what an earlier op of the run wrote.
        """
        machine, tables, me = self._machine, self.tables, caller.domid
        owner, nframes, move = machine.owner, machine.nframes, machine.move
        own = caller.physmap.mfn
        own_pages = len(own)
        may_read = ACCESS | READONLY | me << 16  # the entry's first word, once READONLY has been or'ed in
        may_write = ACCESS | me << 16
        source = dest = caller
        src_table = dst_table = caller.pairs
        src_active = dst_active = caller.active
        last_source = last_dest = -1
        src_entries = dst_entries = src_owner = dst_owner = 0
        src_start = src_end = dst_start = dst_end = fence = -1
        copied = more = 0
        statuses: list[int] | None = None
        for i, op in enumerate(ops):
            src, src_domid, dst, dst_domid = op.src, op.src_domid, op.dst, op.dst_domid
            length, flags = op.length, op.flags
            if flags & COPY_RUN and length > PAGE:
                count = length + PAGE - 1 >> SHIFT
                if flags & FROM_GREF:
                    start = self._grant_run(caller, src, src_domid, count, False)
                else:
                    start = self._own_run(caller, src, src_domid, count)
                if flags & TO_GREF:
                    to = self._grant_run(caller, dst, dst_domid, count, True)
                else:
                    to = self._own_run(caller, dst, dst_domid, count)
                # the last: later pages are read after earlier ones were written
                if start < 0 or to < 0 or start < to < start + length:
                    if src_end > 0:
                        move(dst_start, src_start, src_end - src_start)
                        copied += src_end - src_start
                        src_end = dst_end = -1
                    more -= 1  # counted by the single ones
                    status = self._copy_singly(caller, op)
                    if status:
                        if statuses is None:
                            statuses = [GNTST_okay] * len(ops)
                        statuses[i] = status
                    continue
                more += count - 1
            else:
                src_offset, dst_offset = op.src_offset, op.dst_offset
                src_mfn = dst_mfn = nframes
                if flags & FROM_GREF:
                    if src_domid != last_source:
                        last_source = src_domid
                        source = tables.get(src_domid, caller)
                        src_entries = source.entries if source.domid == src_domid else 0
                        src_table, src_active, src_owner = source.pairs, source.active, source.domid
                    if 0 <= src < src_entries and src not in src_active:
                        entry = src_table[src]
                        if entry & FIRST | READONLY == may_read:
                            src_mfn = entry >> 32
                    from_owner = src_owner
                else:
                    if 0 <= src < own_pages and src_domid == SELF:
                        src_mfn = own[src]
                    from_owner = me
                if flags & TO_GREF:
                    if dst_domid != last_dest:
                        last_dest = dst_domid
                        dest = tables.get(dst_domid, caller)
                        dst_entries = dest.entries if dest.domid == dst_domid else 0
                        dst_table, dst_active, dst_owner = dest.pairs, dest.active, dest.domid
                    if 0 <= dst < dst_entries and dst not in dst_active:
                        entry = dst_table[dst]
                        if entry & FIRST == may_write:
                            dst_mfn = entry >> 32
                    to_owner = dst_owner
                else:
                    if 0 <= dst < own_pages and dst_domid == SELF:
                        dst_mfn = own[dst]
                    to_owner = me
                room = PAGE - length
                if (
                    src_mfn < nframes
                    and dst_mfn < nframes
                    and owner[src_mfn] == from_owner
                    and owner[dst_mfn] == to_owner
                    and 0 <= src_offset <= room < PAGE
                    and 0 <= dst_offset <= room
                ):
                    start = (src_mfn << SHIFT) + src_offset
                    to = (dst_mfn << SHIFT) + dst_offset
                else:
                    status, start, to = self._check_slowly(caller, op)
                    if status:
                        if statuses is None:
                            statuses = [GNTST_okay] * len(ops)
                        statuses[i] = status
                        continue
                    if not length:
                        continue
            end = start + length
            if start == src_end and to == dst_end and end <= fence:
                src_end = end
                dst_end = to + length
                continue
            if src_end > 0:
                move(dst_start, src_start, src_end - src_start)
                copied += src_end - src_start
            src_start, src_end, dst_start, dst_end = start, end, to, to + length
            fence = to if to > start else FAR
        if src_end > 0:
            move(dst_start, src_start, src_end - src_start)
            copied += src_end - src_start
        caller.copies += len(ops) + more
        caller.bytes_copied += copied
        return statuses

    def _grant_run(self, caller: GrantTable, ref: int, domid: int, count: int, write: bool) -> int:  # hot: 0.4 us
        """Where the pages of consecutive grants begin in the machine, if the caller may use them all so and they are
        neighbours there, too; else -1.

        What was found right is remembered with the very bytes of its entries: the same bytes are right again, as long
        as no other grant of the table is in use and no frame of the machine has changed hands.
        """
        table = self.tables.get(domid)
        if table is None or not 0 <= ref <= table.entries - count or count > MAX_RUN:
            return -1
        entries: bytes = ENTRIES[count](table.bytes, ref << 3)[0]
        # what differs most is lowest: dicts look there first
        key = ref | count << 32 | caller.domid << 42 | write << 60
        known = table.known_runs.get(key)
        version, changes = self._machine.version, table.changes
        if known is not None and known.entries == entries and known.version == version and known.changes == changes:
            return known.start
        if not table.active.keys().isdisjoint(range(ref, ref + count)):
            return -1
        start = self._judge_run(entries, caller.domid, domid, count, write) << SHIFT
        if start >= 0:
            if len(table.known_runs) >= KNOWN_RUNS:
                table.known_runs.clear()
            table.known_runs[key] = KnownRun(entries, version, changes, start)
        return start

    def _own_run(self, caller: GrantTable, page: int, domid: int, count: int) -> int:  # hot: 0.2 us
        """The same of the caller's own pages."""
        physmap = caller.physmap
        if domid != SELF or not 0 <= page <= physmap.own - count or count > MAX_RUN:
            return -1
        key = page | count << 32
        known = physmap.known_runs.get(key)
        if known is not None:
            return known
        first = self._neighbours(physmap.mfn[page : page + count].tolist(), caller.domid)
        if first >= 0:
            physmap.known_runs[key] = first << SHIFT
        return first << SHIFT

    def _judge_run(self, entries: bytes, user: int, owner: int, count: int, write: bool) -> int:
        """First machine frame of the grants whose entries these are, if `user` may use them all and they are a run."""
        words = memoryview(entries).cast("I").tolist()
        flags, frames = words[0::2], words[1::2]
        allowed = flags.count(ACCESS | user << 16)
        if not write:
            allowed += flags.count(ACCESS | READONLY | user << 16)
        return self._neighbours(frames, owner) if allowed == count else -1

    def _neighbours(self, frames: list[int], owner: int) -> int:
        """The first of these machine frames, if they are side by side and all the owner's; else -1."""
        first, count = frames[0], len(frames)
        if frames != [*range(first, first + count)]:
            return -1
        return first if self._machine.owner[first : first + count].count(owner) == count else -1

    def _copy_singly(self, caller: GrantTable, op: CopyOp) -> int:
        """Run the ops that one stands for, one by one: the first failure's status."""
        count, flags = op.length + PAGE - 1 >> SHIFT, op.flags & ~COPY_RUN
        if count > MAX_RUN:
            return GNTST_bad_copy_arg
        sizes = [PAGE] * (count - 1) + [op.length - (count - 1) * PAGE]
        statuses = self.copy(
            caller,
            [
                CopyOp(op.src + i, op.src_domid, 0, op.dst + i, op.dst_domid, 0, size, flags)
                for i, size in enumerate(sizes)
            ],
        )
        return next((status for status in statuses or () if status), GNTST_okay)

    def _check_slowly(self, caller: GrantTable, op: CopyOp) -> tuple[int, int, int]:
        """(status, source address, destination address) of one op, by all the rules in Xen's order."""
        src, src_domid, dst, dst_domid, length = op.src, op.src_domid, op.dst, op.dst_domid, op.length
        if length == 0:
            return GNTST_okay, 0, 0
        from_gref, to_gref = bool(op.flags & FROM_GREF), bool(op.flags & TO_GREF)
        status = self._may_name(src_domid, from_gref) or self._may_name(dst_domid, to_gref)
        if status:
            return status, 0, 0
        src_mfn = self._claim(caller, src, src_domid, from_gref, write=False)
        if src_mfn < 0:
            return src_mfn, 0, 0
        dst_mfn = self._claim(caller, dst, dst_domid, to_gref, write=True)
        if from_gref:
            self._table(caller, src_domid).unpin(src, write=False)
        if dst_mfn < 0:
            return dst_mfn, 0, 0
        if to_gref:
            self._table(caller, dst_domid).unpin(dst, write=True)
        if length < 0 or not (0 <= op.src_offset <= PAGE - length and 0 <= op.dst_offset <= PAGE - length):
            return GNTST_bad_copy_arg, 0, 0
        return GNTST_okay, (src_mfn << SHIFT) + op.src_offset, (dst_mfn << SHIFT) + op.dst_offset

    def _may_name(self, domid: int, gref: bool) -> int:
        """Status of naming a domain in a copy: own frames only as DOMID_SELF, grants of the living only."""
        if domid == SELF:
            return GNTST_okay
        if not gref:
            return GNTST_permission_denied
        return GNTST_okay if domid in self.tables else GNTST_bad_domain

    def _table(self, caller: GrantTable, domid: int) -> GrantTable:
        return caller if domid == SELF else self.tables[domid]

    def _claim(self, caller: GrantTable, page: int, domid: int, gref: bool, *, write: bool) -> int:
        """Machine frame of one side of a copy (a grant is pinned), or a negative status."""
        if gref:
            return self._table(caller, domid).pin(page, caller.domid, write=write, mapping=False)
        own = caller.physmap.mfn
        mfn = own[page] if 0 <= page < len(own) else self._machine.nframes
        if mfn >= self._machine.nframes or self._machine.owner[mfn] != caller.domid:
            return GNTST_bad_page
        return mfn
