"""Hypervisor: makes and buries domains, keeps the heap and the console, and runs the run queue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from xnet.abi.xen import DOMID_FIRST_RESERVED
from xnet.errors import HostError, HypercallError
from xnet.hv.console import Console
from xnet.hv.domain import Domain, DomainState
from xnet.hv.grantops import GrantOps
from xnet.hv.grants import GrantTable
from xnet.hv.heap import DOMID_XEN, Heap
from xnet.hv.ports import Ports, PortTable
from xnet.hv.reservation import Reservation
from xnet.hv.runqueue import RunQueue, Vcpu
from xnet.mem import FREE, NO_FRAME, Backing, Machine, Physmap
from xnet.mem.machine import runs_of

MAX_GRANT_FRAMES = 64
MIN_PAGES = 2
"""A guest has at least its console and its xenstore page."""


@dataclass(slots=True, frozen=True)
class DomainStatistics:
    """One domain's share of the hypervisor's work, since it was made."""

    domid: int
    name: str
    state: str
    pages: int
    pages_owned: int
    pages_used: int
    grant_frames: int
    grants_in_use: int
    mappings: int
    ports: int
    hypercalls: int
    copies: int
    bytes_copied: int
    maps: int
    unmaps: int
    frames_increased: int
    frames_decreased: int
    frames_given: int
    frames_received: int
    events_sent: int
    events_coalesced: int
    events_held: int
    upcalls: int


class Hypervisor:
    """One machine's hypervisor. `kick` asks for a `step` soon; `report` hears of handlers that raised.

    `heap_pages` frames are its own: shared_info pages and grant table frames come from there and nowhere else.
    """

    def __init__(
        self,
        memory: Backing,
        *,
        heap_pages: int,
        kick: Callable[[], None] = lambda: None,
        report: Callable[[int, Exception], None] | None = None,
        console_size: int = 16384,
    ) -> None:
        if heap_pages < 1:
            raise HypercallError("EINVAL", f"a heap of {heap_pages} pages")
        self.machine = Machine(memory)
        self.grants = GrantOps(self.machine, self._released)
        self.runqueue = RunQueue(kick)
        self.ports = Ports(self.runqueue)
        self.domains: dict[int, Domain] = {}
        """The living, shut down ones included, by domid."""
        self.zombies: dict[int, Domain] = {}
        """Destroyed, but others still have pages of theirs mapped."""
        self._console = Console(console_size)
        self._report = report
        self.dom_exc: Callable[[int], None] = lambda domid: None
        """VIRQ_DOM_EXC: told of each domain that shuts down."""
        self.heap = Heap(self.machine, heap_pages)
        self._last_domid = -1

    # --- domains
    def create_domain(self, name: str, pages: int, *, map_pages: int = 1024, domid: int | None = None) -> Domain:
        """A new, running domain with `pages` pages of its own and room for `map_pages` foreign ones.

        The first is dom0. HypercallError ENOMEM when the machine, the heap or the host has not enough, EEXIST when the
        wanted domid is taken, EINVAL; nothing is left of the attempt.
        """
        if pages < MIN_PAGES or map_pages < 0:
            raise HypercallError("EINVAL", f"{name}: {pages} pages and {map_pages} foreign ones")
        chosen = self._new_domid(domid)
        with ExitStack() as undo:
            try:
                domain = self._build(undo, name, chosen, pages, map_pages)
            except HostError as error:
                raise HypercallError("ENOMEM", f"{name}: {error}") from error
            undo.pop_all()
        if domid is None:
            self._last_domid = chosen
        self.domains[chosen] = domain
        self._console.write(f"d{chosen}: {name} created, {pages} pages")
        return domain

    def pause(self, domid: int) -> None:
        """Give a domain no turns; what is sent to it waits (XEN_DOMCTL_pausedomain). HypercallError ESRCH; EINVAL for
        dom0, and for one that does not run."""
        domain = self._domain(domid)
        if domid == 0 or domain.state not in (DomainState.RUNNING, DomainState.PAUSED):
            raise HypercallError("EINVAL", f"{domain.name} is {'dom0' if not domid else domain.state.value}")
        domain.state = DomainState.PAUSED

    def unpause(self, domid: int) -> None:
        """Go on where `pause` stopped it, beginning with a look at every port. HypercallError ESRCH, EINVAL."""
        domain = self._domain(domid)
        if domain.state is DomainState.RUNNING:
            return
        if domain.state is not DomainState.PAUSED:
            raise HypercallError("EINVAL", f"{domain.name} is {domain.state.value}")
        domain.state = DomainState.RUNNING
        self.ports.select_all(domid)

    def shutdown(self, domid: int, reason: str = "poweroff") -> None:
        """Stop a domain: no upcall reaches it any more; it keeps what it has. HypercallError ESRCH."""
        domain = self._domain(domid)
        domain.state = DomainState.SHUTDOWN
        domain.shutdown_reason = reason
        self._console.write(f"d{domid}: {domain.name} shut down: {reason}")
        self.dom_exc(domid)

    def resume(self, domid: int) -> None:
        """Let a domain that suspended itself run again (XEN_DOMCTL_resumedomain). HypercallError ESRCH; EINVAL for one
        that did not."""
        domain = self._domain(domid)
        if domain.state is not DomainState.SHUTDOWN or domain.shutdown_reason != "suspend":
            raise HypercallError("EINVAL", f"{domain.name} is not suspended")
        domain.state = DomainState.RUNNING
        domain.shutdown_reason = ""
        self._console.write(f"d{domid}: {domain.name} resumed")
        self.ports.select_all(domid)

    def destroy_domain(self, domid: int) -> None:
        """Take everything from a domain. What others have mapped of it stays until they unmap it; it is a zombie then.

        Its ports close (the far ends wait for it, in vain), its mappings of others go. HypercallError ESRCH; EPERM for
        dom0 while there are others.
        """
        domain = self._domain(domid)
        if domid == 0 and len(self.domains) > 1:
            raise HypercallError("EPERM", "dom0 is the last to go")
        domain.state = DomainState.DYING
        table = domain.grant_table
        self.ports.bury(domid)
        self.grants.unmap(table, list(table.maptrack))
        del self.domains[domid]
        self.grants.remove(domid)
        self.zombies[domid] = domain
        own = [mfn for mfn in domain.physmap.mfn[: domain.pages] if mfn != NO_FRAME] + sorted(domain.reservation.loose)
        domain.physmap.window.close()
        for first, n in runs_of(own):
            self.machine.release(domid, first, n)
        self.heap.settle(domain.pages - domain.reservation.total)
        self._console.write(f"d{domid}: {domain.name} destroyed")
        if table.active:
            self._console.write(f"d{domid}: zombie, {len(table.active)} of its grants are still in use")
        else:
            self._released(table)

    def close(self) -> None:
        """Destroy all domains, dom0 last."""
        for domid in sorted(self.domains, reverse=True):
            self.destroy_domain(domid)

    def step(self, budget: int = 256) -> int:
        """Deliver waiting events, about `budget` at most; how many (turns without any count as one)."""
        return self.runqueue.step(budget)

    # --- what domains ask (domain.Hypercalls)
    def setup_table(self, domain: Domain, nr_frames: int) -> None:
        """Let a domain's grant table have `nr_frames` frames, mapped into its window. HypercallError ENOMEM, ENOSPC."""
        table = domain.grant_table
        if nr_frames > table.max_frames:
            what = f"d{domain.domid}: {nr_frames} grant table frames, at most {table.max_frames}"
            raise HypercallError("ENOSPC", what)
        if nr_frames - len(table.frames) > self.heap.room:
            what = f"d{domain.domid}: {nr_frames} grant table frames, the heap has {self.heap.room} pages left"
            raise HypercallError("ENOMEM", what)
        while len(table.frames) < nr_frames:
            mfn = self.heap.alloc()
            pfn = domain.grant_table_pfn + len(table.frames)
            try:
                domain.physmap.place(pfn, mfn)
                try:
                    table.grow(mfn)
                except HostError:
                    domain.physmap.clear(pfn)
                    raise
            except HostError as error:
                self.heap.free(mfn)
                raise HypercallError("ENOMEM", f"d{domain.domid}: grant table: {error}") from error

    def console_write(self, text: str, domid: int | None = None, *, limited: bool = False) -> None:
        """Write on the console ring, for a domain or for the hypervisor itself."""
        if limited:
            self._console.limited(text, domid)
        else:
            self._console.write(text, domid)

    def tick(self) -> None:
        """Once a second."""
        self._console.tick()

    def console_lines(self) -> list[str]:
        """The console ring, oldest line first."""
        return self._console.lines()

    def console_statistics(self) -> dict[str, int]:
        """Lines that were written on the console, and messages that were too many a second."""
        return {"written": self._console.written, "suppressed": self._console.suppressed}

    def report(self, domid: int, error: Exception) -> None:
        """A handler of this domain raised; the others go on."""
        self._console.write(f"d{domid}: {type(error).__name__}: {error}")
        if self._report is not None:
            self._report(domid, error)

    # --- accounts
    def statistics(self) -> list[DomainStatistics]:
        """Per living domain, by domid."""
        return [self._statistics_of(self.domains[domid]) for domid in sorted(self.domains)]

    def leaks(self, pages: int = 0) -> list[str]:
        """What is left over when only dom0 should be left and its drivers hold nothing but so many `pages`; empty when
        all is in order."""
        found = [f"{domain!r} is still there" for domid, domain in self.domains.items() if domid]
        found += self.books()
        if 0 in self.domains:
            now = self._statistics_of(self.domains[0])
            for what, known in (("pages_used", pages), ("grants_in_use", 0), ("mappings", 0), ("ports", 0)):
                if count := getattr(now, what) - known:
                    found.append(f"dom0: {what} {count}")
            if grefs := self.domains[0].grefs_used:
                found.append(f"dom0: grant references {grefs}")
        return found

    def books(self) -> list[str]:
        """What is wrong with memory, at any moment; empty when frames have owners and the heap's sums are right."""
        found = [f"zombie {domain!r}" for domain in self.zombies.values()]
        machine = self.machine
        known = {DOMID_XEN, *self.domains, *self.zombies}
        owned = sum(machine.count(owner) for owner in known)
        if owned + machine.room != machine.nframes or machine.owner.count(FREE) != machine.room:
            found.append(f"{machine.nframes - owned - machine.room} frames belong to nobody")
        heap = sum(1 + len(domain.grant_table.frames) for domain in (*self.domains.values(), *self.zombies.values()))
        if self.heap.used != heap:
            found.append(f"{self.heap.used} heap pages out, {heap} accounted for")
        lent = sum(domain.reservation.total - domain.pages for domain in self.domains.values()) - self.heap.owed
        if self.heap.used + self.heap.room + lent != self.heap.size:
            found.append(f"heap: {self.heap.used} used, {self.heap.room} free, {lent} lent, of {self.heap.size}")
        return found

    def assert_no_leaks(self) -> None:
        """AssertionError that names every leak."""
        found = self.leaks()
        assert not found, "; ".join(found)

    # --- inside
    def _build(self, undo: ExitStack, name: str, domid: int, pages: int, map_pages: int) -> Domain:
        machine, backing = self.machine, self.machine.backing
        npages = pages + 1 + MAX_GRANT_FRAMES + map_pages
        window = backing.window(npages)
        undo.callback(window.close)
        physmap = Physmap(window, npages)
        runs = machine.alloc(domid, pages)
        for first, n in runs:
            undo.callback(machine.release, domid, first, n)
        pfn = 0
        for first, n in runs:
            physmap.place(pfn, first, n)
            pfn += n
        info = self.heap.alloc()
        undo.callback(self.heap.free, info)
        physmap.place(pages, info)
        reservation = Reservation(domid, pages, physmap, self.heap)
        own = backing.window(MAX_GRANT_FRAMES)
        table = GrantTable(domid, machine, physmap, reservation, own, MAX_GRANT_FRAMES, map_pages)
        undo.callback(self._free_table, table)
        domain = Domain(self, domid, name, physmap, pages, table)
        ports = PortTable(domid, machine.page(info), Vcpu(domain.upcall))
        domain.boot(ports)
        self.grants.add(table)
        self.ports.tables[domid] = ports
        return domain

    def _released(self, table: GrantTable) -> None:
        """The last that held a dead domain is gone: free what was kept for it."""
        domain = self.zombies.pop(table.domid)
        self.heap.free(domain.physmap.mfn[domain.shared_info_pfn])
        self._free_table(table)

    def _free_table(self, table: GrantTable) -> None:
        for mfn in table.close():
            self.heap.free(mfn)

    def _new_domid(self, wanted: int | None) -> int:
        """The wanted domid, or the next after the last one given, round and round, but none that is in use."""
        if wanted is not None:
            if not 0 <= wanted < DOMID_FIRST_RESERVED:
                raise HypercallError("EINVAL", f"domid {wanted}")
            if wanted in self.domains or wanted in self.zombies:
                raise HypercallError("EEXIST", f"domid {wanted} is in use")
            return wanted
        for i in range(1, DOMID_FIRST_RESERVED + 1):
            domid = (self._last_domid + i) % DOMID_FIRST_RESERVED
            if domid not in self.domains and domid not in self.zombies:
                return domid
        raise HypercallError("ENOMEM", "no domid is free")

    def _domain(self, domid: int) -> Domain:
        domain = self.domains.get(domid)
        if domain is None:
            raise HypercallError("ESRCH", f"no domain {domid}")
        return domain

    def _statistics_of(self, domain: Domain) -> DomainStatistics:
        table, ports = domain.grant_table, self.ports.tables[domain.domid]
        return DomainStatistics(
            domid=domain.domid,
            name=domain.name,
            state=domain.state.value,
            pages=domain.pages,
            pages_owned=domain.reservation.total,
            pages_used=domain.pages_used,
            grant_frames=len(table.frames),
            grants_in_use=len(table.active),
            mappings=len(table.maptrack),
            ports=len(ports.ports),
            hypercalls=table.hypercalls,
            copies=table.copying.copies,
            bytes_copied=table.copying.bytes_copied,
            maps=table.maps,
            unmaps=table.unmaps,
            frames_increased=domain.reservation.increased,
            frames_decreased=domain.reservation.decreased,
            frames_given=domain.reservation.given,
            frames_received=domain.reservation.received,
            events_sent=ports.sent,
            events_coalesced=ports.coalesced,
            events_held=ports.held,
            upcalls=domain.upcalls,
        )
