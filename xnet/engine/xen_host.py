"""XenHost: hypervisor, dom0 and xenstore put together; guests made and buried. No loop and no device in it.

It does what Xen, xenstored and the toolstack do before a driver says its first word: make the domain, introduce it to
the store, connect its xenstore page. `Machine` gives it a real host around it, `testing.World` a simulated one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from xnet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTTAB_RESERVED_XENSTORE
from xnet.errors import HypercallError
from xnet.frame.arena import Arena
from xnet.hv import Domain, Hypervisor
from xnet.hv.api import Mapping
from xnet.mem import Backing
from xnet.xenstore import RingClient, RingConnection, Server, local_session
from xnet.xenstore.toolstack import introduce_dom0, introduce_domain, remove_domain

ARENA_PAGES = 1024
"""dom0's staging memory: a TAP's burst, a fetched burst and what is segmented in software, one inside the other."""
DOM0_MAP_PAGES = 4096
"""Foreign pages dom0 can have mapped: three a vif, and bursts of mapped packets."""


@dataclass(slots=True)
class GuestDomain:
    """A guest as dom0 knows it: the domain, and both ends of its xenstore page."""

    domain: Domain
    client: RingClient
    connection: RingConnection
    store_port: int
    store_page: Mapping


class XenHost:
    """One host. `kick` asks for `hypervisor.step` soon; `report` hears of handlers that raised."""

    def __init__(
        self,
        memory: Backing,
        *,
        heap_pages: int,
        dom0_pages: int,
        kick: Callable[[], None] = lambda: None,
        report: Callable[[int, Exception], None] | None = None,
    ) -> None:
        self.hypervisor = Hypervisor(memory, heap_pages=heap_pages, kick=kick, report=report)
        self.dom0 = self.hypervisor.create_domain("Domain-0", dom0_pages, map_pages=DOM0_MAP_PAGES)
        self.store = Server(on_introduce=self.introduced)
        self.session = local_session(self.store)
        self.arena_addr = self.dom0.alloc_pages(ARENA_PAGES)
        self.arena = Arena(self.dom0.window, self.arena_addr, ARENA_PAGES * PAGE_SIZE)
        self.guests: dict[int, GuestDomain] = {}
        self.session.run(introduce_dom0(memory_kib=dom0_pages * PAGE_SIZE >> 10))

    def create_guest(self, name: str, pages: int) -> GuestDomain:
        """A running domain known to the store, with a session of its own. HypercallError when there is no room."""
        domain = self.hypervisor.create_domain(name, pages)
        assert domain.store_addr is not None, "guests have a xenstore page"
        port = domain.alloc_unbound(0)
        frame = domain.physmap.mfn[domain.store_addr >> PAGE_SHIFT]
        self.session.run(
            introduce_domain(
                domain.domid,
                name=name,
                uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, f"xnet/{name}/{domain.domid}")),
                memory_kib=pages * PAGE_SIZE >> 10,
                store_frame=frame,
                store_port=port,
            )
        )
        return self.guests[domain.domid]

    def introduced(self, domid: int, frame: int, port: int) -> None:
        """XS_INTRODUCE: map the domain's xenstore page (by its reserved grant) and bind its channel, both ends."""
        domain = self.hypervisor.domains.get(domid)
        if domain is None or domain.store_addr is None or domid in self.guests:
            return
        mapping = self.dom0.map_grants(domid, [GNTTAB_RESERVED_XENSTORE], readonly=False)[0]
        if not isinstance(mapping, Mapping):
            raise HypercallError(f"GNTST {mapping}", f"d{domid}: xenstore page (frame {frame:#x})")
        local = self.dom0.bind_interdomain(domid, port)
        connection = RingConnection(
            self.store,
            domid,
            self.dom0.window[mapping.addr : mapping.addr + PAGE_SIZE],
            lambda: self.dom0.send(local),
        )
        self.dom0.set_handler(local, connection.upcall)
        client = RingClient(domain.window[domain.store_addr : domain.store_addr + PAGE_SIZE], lambda: domain.send(port))
        domain.set_handler(port, client.upcall)
        self.guests[domid] = GuestDomain(domain, client, connection, local, mapping)

    def destroy_guest(self, domid: int, *, forget: bool = True) -> None:
        """Bury a guest: its nodes (unless the whole store goes, too), its page, its domain."""
        guest = self.guests.pop(domid)
        guest.client.close()
        guest.connection.close()
        self.dom0.close_port(guest.store_port)
        self.dom0.unmap_grants([guest.store_page.handle])
        if forget:
            self.session.run(remove_domain(domid))
        self.hypervisor.destroy_domain(domid)

    def destroy_guests(self) -> None:
        """Bury every guest, as the whole host is about to go."""
        for domid in sorted(self.guests, reverse=True):
            self.destroy_guest(domid, forget=False)

    def leaks(self) -> list[str]:
        """What guests that are gone left behind, by the hypervisor's and the store's books."""
        return self.hypervisor.leaks(ARENA_PAGES)

    def close(self) -> None:
        """Bury every guest, then dom0."""
        self.destroy_guests()
        self.session.close()
        self.dom0.free_pages(self.arena_addr, ARENA_PAGES)
        self.hypervisor.close()
