"""Domain: one virtual machine, and the least a guest kernel needs to live in it (`api.Xen`).

Its window, in pages (pfn) from 0 on::

    own pages | shared_info | grant table, up to max_frames | foreign pages, mapped by grant
              the two in the middle are the hypervisor's, from its heap

The guest-kernel side works through the window alone: it writes grant entries into the mapped table, scans its
pending bits in the mapped shared_info, reads mapped foreign pages where they were mapped. Only hypercalls go past it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Protocol

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHN_MASK,
)
from xnet.abi.xen.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GNTTAB_RESERVED_CONSOLE,
    GNTTAB_RESERVED_XENSTORE,
    GRANT_ENTRIES_PER_FRAME,
    GRANT_ENTRY_V1,
    GNTST_no_space,
    GNTST_okay,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_transfer_completed,
    GTF_writing,
)
from xnet.errors import HypercallError
from xnet.hv.api import Capabilities, CopyOp, Mapping, Xen
from xnet.hv.events import Inbox
from xnet.hv.grantops import GrantOps
from xnet.hv.grants import GrantTable
from xnet.hv.ports import Ports, PortTable
from xnet.mem import NO_FRAME, Machine, Physmap, Pool
from xnet.mem.machine import runs_of
from xnet.mem.view import View

ENTRY: Final = GRANT_ENTRY_V1.size
IN_USE: Final = GTF_reading | GTF_writing


class DomainState(Enum):
    """A paused domain has no turn until it is unpaused; a shut down one keeps all it has until it is destroyed; a dying
    one waits for others to unmap its pages."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    DYING = "dying"


class Hypercalls(Protocol):
    """What a domain needs of the hypervisor."""

    machine: Machine
    grants: GrantOps
    ports: Ports

    def setup_table(self, domain: Domain, nr_frames: int) -> None:
        """GNTTABOP_setup_table: let the domain's table have that many frames, mapped into its window."""

    def console_write(self, text: str, domid: int | None = None, *, limited: bool = False) -> None: ...

    def report(self, domid: int, error: Exception) -> None: ...


class Domain(Xen):
    """See `api.Xen` for the calls. Made and buried by the hypervisor only."""

    def __init__(
        self, hypervisor: Hypercalls, domid: int, name: str, physmap: Physmap, pages: int, table: GrantTable
    ) -> None:
        self.domid = domid
        self.name = name
        self.pages = pages
        self.state = DomainState.RUNNING
        self.shutdown_reason = ""
        self.upcalls = 0
        self.physmap = physmap
        self.window = physmap.window.view
        self.grant_table = table
        self.reservation = table.reservation
        self.shared_info_pfn = pages
        self.grant_table_pfn = pages + 1
        self.store_addr: int | None = None
        """Address of the xenstore ring page, granted to dom0 by reference 1; dom0 itself has none."""
        self.console_addr: int | None = None
        """Address of the console ring page, granted to dom0 by reference 0; dom0 itself has none."""
        foreign = pages + 1 + table.max_frames
        self.capabilities = Capabilities(map=True, flip=True, max_mapped=len(physmap.mfn) - foreign)
        self._hypervisor = hypervisor
        self._grants = hypervisor.grants
        self._ports = hypervisor.ports
        self._own = Pool(0, pages)
        self._foreign = Pool(foreign, len(physmap.mfn) - foreign)
        self._mapped: dict[int, int] = {}
        self._grefs = Pool(GNTTAB_NR_RESERVED_ENTRIES, 0)
        self._entries = View(self.window[:0])
        self._handlers: dict[int, Callable[[], None]] = {}
        self.deferred: list[tuple[int, int, bytes]] = []

    def boot(self, ports: PortTable) -> None:
        """Set up what a domain finds when it starts: table, shared_info, and for a guest its two ring pages."""
        self._port_table = ports
        info = self.shared_info_pfn << PAGE_SHIFT
        self._info = self.window[info : info + PAGE_SIZE]
        self._inbox = Inbox(self._info)
        self._grow(1)
        if self.domid != 0:
            self.console_addr = self.alloc_pages(1)
            self.store_addr = self.alloc_pages(1)
            self.grant(GNTTAB_RESERVED_CONSOLE, self.prepare_grants(0, self.console_addr, 1, readonly=False))
            self.grant(GNTTAB_RESERVED_XENSTORE, self.prepare_grants(0, self.store_addr, 1, readonly=False))

    # --- memory
    def alloc_pages(self, count: int) -> int:
        """See `api.Xen`. Memory is taken from the host now, so that touching the pages later cannot fail."""
        self._alive()
        pfn = self._own.take(count)
        if pfn is None:
            raise HypercallError("ENOMEM", f"{self.name}: {count} pages in a row, {self._own.room} left in all")
        if NO_FRAME in self.physmap.mfn[pfn : pfn + count] and not self.reservation.fill(pfn, count):
            self._own.give(pfn, count)
            raise HypercallError("ENOMEM", f"{self.name}: {count} pages, some given up, and the heap has none for them")
        done = pfn
        try:
            for first, n in runs_of(list(self.physmap.mfn[pfn : pfn + count])):
                if not self._hypervisor.machine.populate(self.domid, first, n):
                    self.window[done << PAGE_SHIFT : (done + n) << PAGE_SHIFT] = bytes(n << PAGE_SHIFT)
                done += n
        except HypercallError:
            self._own.give(pfn, count)
            raise
        return pfn << PAGE_SHIFT

    def free_pages(self, addr: int, count: int) -> None:
        """See `api.Xen`. ValueError when they are not out."""
        self._own.give(addr >> PAGE_SHIFT, count)

    @property
    def pages_used(self) -> int:
        """Own pages out of the allocator."""
        return self._own.used

    def decrease_reservation(self, addr: int, count: int) -> int:
        """See `api.Xen`."""
        self._alive()
        return self.reservation.decrease(addr >> PAGE_SHIFT, count)

    def increase_reservation(self, count: int) -> list[int]:
        """See `api.Xen`. What cannot be had is on the console."""
        self._alive()
        frames = self.reservation.increase(count)
        if len(frames) < count and not self.reservation.full:
            what = f"memory: d{self.domid} got {len(frames)} of {count} pages: the heap is used up"
            self._hypervisor.console_write(what, limited=True)
        return frames

    def release_frames(self, frames: list[int]) -> None:
        """See `api.Xen`."""
        self.reservation.give_up(frames)

    # --- grants given
    def alloc_grefs(self, count: int) -> int:
        """See `api.Xen`. The table grows by frames as it is needed; ENOMEM when the hypervisor's heap has none."""
        first = self._grefs.take(count)
        if first is None:
            missing = count - self._grefs.tail()
            more = (missing + GRANT_ENTRIES_PER_FRAME - 1) // GRANT_ENTRIES_PER_FRAME
            self._grow(len(self.grant_table.frames) + more)
            first = self._grefs.take(count)
            assert first is not None
        return first

    def free_grefs(self, first: int, count: int) -> None:
        """See `api.Xen`. ValueError when they are not out or still let somebody in."""
        if any(self._entries.read(first * ENTRY, count * ENTRY)[::ENTRY]):
            raise ValueError(f"{self.name}: grants {first}+{count} are not ended")
        self._grefs.give(first, count)

    @property
    def grefs_used(self) -> int:
        """Grant references out of the allocator."""
        return self._grefs.used

    def prepare_grants(self, domid: int, addr: int, count: int, *, readonly: bool) -> bytes:  # hot: <= 0.5 us
        """See `api.Xen`. The entries name machine frames, as a PV guest's do."""
        pfn = addr >> PAGE_SHIFT
        flags = GTF_permit_access | GTF_readonly if readonly else GTF_permit_access
        if count == 1:
            return GRANT_ENTRY_V1.pack(flags, domid, self.physmap.mfn[pfn])
        words = array("I", [flags | domid << 16]) * (2 * count)
        words[1::2] = self.physmap.mfn[pfn : pfn + count]
        return words.tobytes()

    def grant(self, first: int, entries: bytes | memoryview) -> None:  # hot: <= 0.3 us
        """See `api.Xen`. ValueError past the end of the table."""
        self._entries.write(first * ENTRY, entries)

    def end_grant(self, first: int, entries: bytes | memoryview) -> bool:  # hot: <= 0.4 us
        """See `api.Xen`."""
        start, size = first * ENTRY, len(entries)
        if self._entries.clear(start, entries):
            return True
        flags = memoryview(self._entries.read(start, size)).cast("H")[::4]  # in use, or no longer what we wrote
        if any(flag & IN_USE for flag in flags):
            return False
        self._entries.write(start, bytes(size))
        return True

    def prepare_transfers(self, domid: int, count: int) -> bytes:
        """See `api.Xen`."""
        return GRANT_ENTRY_V1.pack(GTF_accept_transfer, domid, 0) * count

    def end_transfers(self, first: int, addr: int, count: int) -> list[int]:
        """See `api.Xen`. A frame that the host will not map goes back to the heap."""
        entries = memoryview(self._entries.read(first * ENTRY, count * ENTRY)).cast("I")
        self._entries.write(first * ENTRY, bytes(count * ENTRY))
        brought = [i for i in range(count) if entries[2 * i] & GTF_transfer_completed]
        pfn, none = addr >> PAGE_SHIFT, set(range(count)).difference(brought)
        for start, n in runs_of(brought):
            frames = list(entries[2 * start + 1 : 2 * (start + n) : 2])
            try:
                self.reservation.place(pfn + start, frames)
            except HypercallError as error:
                self.console(f"transfer: {error}", limited=True)
                now = self.physmap.mfn[pfn + start : pfn + start + n]
                none.update(start + i for i in range(n) if now[i] != frames[i])
                self.reservation.give_up(sorted(self.reservation.loose.intersection(frames)))
        return sorted(none)

    # --- grants used
    def map_grants(self, domid: int, refs: Sequence[int], *, readonly: bool) -> list[Mapping | int]:
        """See `api.Xen`. GNTST_no_space for all when the area for foreign pages has no such run."""
        self._alive()
        pfn = self._foreign.take(len(refs))
        if pfn is None:
            return [GNTST_no_space] * len(refs)
        results: list[Mapping | int] = []
        handles = self._grants.map(self.grant_table, pfn, domid, refs, readonly=readonly)
        for i, handle in enumerate(handles):
            if handle < 0:
                self._foreign.give(pfn + i, 1)
                results.append(handle)
            else:
                self._mapped[handle] = pfn + i
                results.append(Mapping(handle, (pfn + i) << PAGE_SHIFT))
        return results

    def unmap_grants(self, handles: Sequence[int]) -> list[int]:
        """See `api.Xen`."""
        self._alive()
        statuses = self._grants.unmap(self.grant_table, handles)
        pairs = zip(handles, statuses, strict=True)
        for pfn, n in runs_of([self._mapped.pop(handle) for handle, status in pairs if status == GNTST_okay]):
            self._foreign.give(pfn, n)
        return statuses

    def copy_grants(self, ops: list[CopyOp]) -> list[int] | None:
        """See `api.Xen`."""
        self._alive()
        self.grant_table.hypercalls += 1
        return self._grants.copy(self.grant_table, ops)

    def transfer(self, addrs: list[int], frames: list[int], domid: int, refs: list[int]) -> list[int]:
        """See `api.Xen`."""
        self._alive()
        pfns = [addr >> PAGE_SHIFT for addr in addrs]
        return self._grants.transfer(self.grant_table, pfns, frames, domid, refs)

    # --- event channels
    def alloc_unbound(self, remote: int) -> int:
        """See `api.Xen`. `remote` need not exist yet."""
        return self._ports.alloc_unbound(self.domid, remote)

    def bind_interdomain(self, remote: int, remote_port: int) -> int:
        """See `api.Xen`."""
        return self._ports.bind_interdomain(self.domid, remote, remote_port)

    def set_handler(self, port: int, handler: Callable[[], None] | None) -> None:
        """See `api.Xen`. An event of a port without one is taken and forgotten."""
        if handler is None:
            self._handlers.pop(port, None)
        else:
            self._handlers[port] = handler

    def send(self, port: int) -> None:
        """See `api.Xen`."""
        self._ports.send(self._port_table, port)

    def close_port(self, port: int) -> None:
        """See `api.Xen`. HypercallError EINVAL when it is closed already."""
        self._ports.close(self.domid, port)
        self._handlers.pop(port, None)
        self._info[EVTCHN_MASK + (port >> 3)] &= ~(1 << (port & 7))

    def mask(self, port: int) -> None:
        """See `api.Xen`. A store into shared_info, no hypercall."""
        if not 0 < port < EVTCHN_2L_NR_CHANNELS:
            raise HypercallError("EINVAL", f"{self.name}: no port {port}")
        self._info[EVTCHN_MASK + (port >> 3)] |= 1 << (port & 7)

    def unmask(self, port: int) -> None:
        """See `api.Xen`."""
        self._ports.unmask(self._port_table, port)

    def upcall(self) -> int:  # hot: <= 0.8 us + the handlers
        """Take the pending events that are not masked, lowest port first, and call their handlers: how many."""
        if self.state is not DomainState.RUNNING:
            return 0
        inbox, handlers = self._inbox, self._handlers
        self.upcalls += 1
        done = 0
        port = inbox.first()
        while port >= 0:
            done += 1
            handler = handlers.get(port)
            if handler is not None:
                try:
                    handler()
                except Exception as error:
                    self._hypervisor.report(self.domid, error)
                if self.state is not DomainState.RUNNING:
                    break
            port = inbox.next()
        return done

    def console(self, text: str, *, limited: bool = False) -> None:
        """See `api.Xen`."""
        self._hypervisor.console_write(text, self.domid, limited=limited)

    def __repr__(self) -> str:
        return f"<Domain {self.domid} {self.name} {self.state.value}>"

    def _alive(self) -> None:
        if self.state is DomainState.DYING:
            raise HypercallError("ESRCH", f"d{self.domid} is dead")

    def _grow(self, nr_frames: int) -> None:
        """Have a bigger grant table, and its new references to hand out."""
        self._hypervisor.setup_table(self, nr_frames)
        start = self.grant_table_pfn << PAGE_SHIFT
        self._entries = View(self.window[start : start + (nr_frames << PAGE_SHIFT)])
        entries = nr_frames * GRANT_ENTRIES_PER_FRAME
        self._grefs.grow(entries - GNTTAB_NR_RESERVED_ENTRIES - self._grefs.size)
