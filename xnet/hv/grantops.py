"""Grant hypercalls: map, unmap, copy, transfer, query_size, between the tables of two domains.

Each element of a batch has its own GNTST status, and they run in order. Source: xen/common/grant_table.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
)
from xnet.errors import HostError, HypercallError
from xnet.hv.api import COPY_RUN, CopyOp
from xnet.hv.copier import Copier, Table
from xnet.hv.grants import GrantTable, Tracked
from xnet.mem import NO_FRAME, Machine

MAX_RUN: Final = 256
"""Most pages of a COPY_RUN, so that a wrong length costs no more than a table's frame. `_copier.c` has it, too."""


class GrantOps:
    """The grant tables of all living domains and what is done between them.

    `released` is called with a dead domain's table when the last use of one of its grants has ended.
    """

    def __init__(self, machine: Machine, released: Callable[[GrantTable], None]) -> None:
        self.tables: dict[int, GrantTable] = {}
        self._copying: dict[int, Table] = {}
        self._copier = Copier(machine.view, machine.owner, self._copying)
        self._machine = machine
        self._released = released

    def add(self, table: GrantTable) -> None:
        """A domain lives."""
        self.tables[table.domid] = table
        self._copying[table.domid] = table.copying

    def remove(self, domid: int) -> None:
        """It does no more."""
        del self.tables[domid], self._copying[domid]

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

    def transfer(
        self, caller: GrantTable, pfns: Sequence[int], frames: list[int], domid: int, refs: Sequence[int]
    ) -> list[int]:
        """Give the frames under own pages to `domid`, by transfer grants of its; loose `frames` take their place.

        A GNTST status each. After GNTST_bad_page the page is as it was, and its replacement still loose. After any
        other refusal the frame is the caller's no more, but the heap's, as Xen has it. HypercallError EINVAL for
        replacements that are not loose, or not as many as pages.
        """
        caller.hypercalls += 1
        own, table = caller.reservation, self.tables.get(domid)
        if len(frames) != len(pfns):
            raise HypercallError("EINVAL", f"d{caller.domid}: {len(pfns)} pages to give, {len(frames)} to replace them")
        book = caller.physmap.mfn
        going = [book[pfn] if 0 <= pfn < own.pages else NO_FRAME for pfn in pfns]
        may = [self._may_go(caller, mfn) for mfn in going]
        for start, end in stretches(pfns, may):
            try:
                own.place(pfns[start], frames[start:end])
            except HypercallError as error:
                if error.status != "ENOMEM":
                    raise
        results = []
        for mfn, ref, stealable in zip(going, refs, may, strict=True):
            if not stealable or mfn not in own.loose:
                results.append(GNTST_bad_page)
                continue
            status = GNTST_okay
            if table is None:
                status = GNTST_bad_domain
            elif table.reservation.full or not table.complete(ref, caller.domid, mfn):
                status = GNTST_general_error
            if table is None or status:
                own.give_up([mfn])
            else:
                own.send(mfn)
                self._machine.owner[mfn] = domid
                table.reservation.receive(mfn)
            results.append(status)
        return results

    def _may_go(self, caller: GrantTable, mfn: int) -> bool:
        """Whether a frame is the caller's own, has memory, and nobody else has it mapped."""
        machine = self._machine
        return mfn < machine.nframes and machine.owner[mfn] == caller.domid and not machine.mapped(mfn)

    def query_size(self, caller: GrantTable, domid: int) -> tuple[int, int, int]:
        """(nr_frames, max_nr_frames, status) of a domain's table; only dom0 may ask about others."""
        table = caller if domid == DOMID_SELF else self.tables.get(domid)
        if table is None:
            return 0, 0, GNTST_bad_domain
        if table is not caller and caller.domid != 0:
            return 0, 0, GNTST_permission_denied
        return len(table.frames), table.max_frames, GNTST_okay

    def copy(self, caller: GrantTable, ops: list[CopyOp]) -> list[int] | None:  # hot
        """Run copies in order: None when all went well, else a GNTST status for each."""
        if self._copier.copy(caller.copying, ops):
            return None
        statuses = [self._copy_by_rules(caller, op) for op in ops]
        return statuses if any(statuses) else None

    def _copy_by_rules(self, caller: GrantTable, op: CopyOp) -> int:
        """Run one op, or those that it stands for, all of them: the first failure's status."""
        if not op.flags & COPY_RUN or op.length <= PAGE_SIZE:
            return self._copy_one(caller, op)
        if op.length > MAX_RUN * PAGE_SIZE:
            return GNTST_bad_copy_arg
        status = GNTST_okay
        for i, done in enumerate(range(0, op.length, PAGE_SIZE)):
            size = min(PAGE_SIZE, op.length - done)
            page = CopyOp(op.src + i, op.src_domid, 0, op.dst + i, op.dst_domid, 0, size, op.flags)
            found = self._copy_one(caller, page)
            status = status or found
        return status

    def _copy_one(self, caller: GrantTable, op: CopyOp) -> int:
        """Run one op: its status."""
        status, start, to = self._check(caller, op)
        caller.copying.copies += 1
        if not status:
            self._machine.move(to, start, op.length)
            caller.copying.bytes_copied += op.length
        return status

    def _check(self, caller: GrantTable, op: CopyOp) -> tuple[int, int, int]:
        """(status, source address, destination address) of one op, by all the rules in Xen's order."""
        src, src_domid, dst, dst_domid, length = op.src, op.src_domid, op.dst, op.dst_domid, op.length
        if length == 0:
            return GNTST_okay, 0, 0
        from_gref, to_gref = bool(op.flags & GNTCOPY_source_gref), bool(op.flags & GNTCOPY_dest_gref)
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
        if length < 0 or not (0 <= op.src_offset <= PAGE_SIZE - length and 0 <= op.dst_offset <= PAGE_SIZE - length):
            return GNTST_bad_copy_arg, 0, 0
        return GNTST_okay, (src_mfn << PAGE_SHIFT) + op.src_offset, (dst_mfn << PAGE_SHIFT) + op.dst_offset

    def _may_name(self, domid: int, gref: bool) -> int:
        """Status of naming a domain in a copy: own frames only as DOMID_SELF, grants of the living only."""
        if domid == DOMID_SELF:
            return GNTST_okay
        if not gref:
            return GNTST_permission_denied
        return GNTST_okay if domid in self.tables else GNTST_bad_domain

    def _table(self, caller: GrantTable, domid: int) -> GrantTable:
        return caller if domid == DOMID_SELF else self.tables[domid]

    def _claim(self, caller: GrantTable, page: int, domid: int, gref: bool, *, write: bool) -> int:
        """Machine frame of one side of a copy (a grant is pinned), or a negative status."""
        if gref:
            return self._table(caller, domid).pin(page, caller.domid, write=write, mapping=False)
        own = caller.physmap.mfn
        mfn = own[page] if 0 <= page < len(own) else self._machine.nframes
        if mfn >= self._machine.nframes or self._machine.owner[mfn] != caller.domid:
            return GNTST_bad_page
        return mfn


def stretches(pfns: Sequence[int], chosen: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """(start, end) of every run of places whose pages are chosen and neighbours."""
    start = 0
    for i in range(1, len(pfns) + 1):
        if i == len(pfns) or not (chosen[i] and chosen[i - 1] and pfns[i] == pfns[i - 1] + 1):
            if chosen[start]:
                yield start, i
            start = i
