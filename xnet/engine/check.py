"""Check: whether a running machine has anything that nobody accounts for.

Every page, frame, grant reference, port and mapping of a domain must belong to one of its drivers; every netback, TAP,
bridge port, vnic and device directory in the store to a vif that a guest has. `check` says what does not, a line each.
It is true between two turns only, so nothing may be half done while it looks: an order that is being carried out shows
up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xnet.engine.driver_domain import Backend
from xnet.engine.xen_host import ARENA_PAGES, XenHost
from xnet.hv import Domain, DomainStatistics
from xnet.netif import Netback, Netfront
from xnet.xenstore import Conversation, listing

if TYPE_CHECKING:
    from xnet.engine.machine import Machine

GUEST_PAGES = 2
"""The console's and the store's."""


async def check(machine: Machine) -> dict[str, Any]:
    """``problems``, a line each, and counts of what there is."""
    links = await machine.netlink.links()
    hypervisor = machine.host.hypervisor
    statistics = hypervisor.statistics()
    fronts = {guest.domid: [vif.netfront for vif in guest.vifs.values()] for guest in machine.guests.values()}
    problems = [
        *accounts(machine.host, fronts, [backend.netback for backend in machine.drivers.backends.values()]),
        *strangers(machine),
        *devices(machine, links),
        *directories(machine),
    ]
    return {
        "problems": problems,
        "domains": len(statistics),
        "vifs": len(machine.drivers.backends),
        "pages": sum(each.pages_used for each in statistics),
        "grants": sum(domain.grefs_used for domain in hypervisor.domains.values()),
        "ports": sum(each.ports for each in statistics),
        "mappings": sum(each.mappings for each in statistics),
        "interfaces": len(links),
    }


def accounts(host: XenHost, fronts: Mapping[int, Sequence[Netfront]], backs: Sequence[Netback]) -> Iterator[str]:
    """What of the emulated hardware is nobody's. `fronts`: of each guest, by its domain id."""
    statistics = {each.domid: each for each in host.hypervisor.statistics()}
    yield from host.hypervisor.books()
    yield from dom0(host, len(fronts), backs, statistics[0])
    for domid, theirs in fronts.items():
        rings = sum(len(back.rings) for back in backs if back.domid == domid)
        yield from guest_domain(host.hypervisor.domains[domid], theirs, rings, statistics[domid])


def differs(who: str, what: str, found: int, wanted: int) -> Iterator[str]:
    """A line for a count that is not what the drivers account for."""
    if found != wanted:
        yield f"{who}: {found} {what}, {wanted} accounted for"


def dom0(host: XenHost, guests: int, backs: Sequence[Netback], found: DomainStatistics) -> Iterator[str]:
    """What the backends hold, besides a channel and a page of each guest's for xenstore."""
    deliverers = [queue.deliverer for back in backs for queue in back.queues]
    held = sum(each.pages for each in deliverers)
    yield from differs("dom0", "pages out", found.pages_used, ARENA_PAGES + held)
    yield from differs("dom0", "ports", found.ports, guests + sum(len(back.ports) for back in backs))
    yield from differs("dom0", "mappings", found.mappings, guests + sum(len(back.rings) for back in backs))
    spare = sum(len(each.spare) for each in deliverers)
    yield from differs("dom0", "frames under no page", len(host.dom0.reservation.loose), spare)
    yield from differs("dom0", "grant references out", host.dom0.grefs_used, 0)


def guest_domain(domain: Domain, fronts: Sequence[Netfront], rings: int, found: DomainStatistics) -> Iterator[str]:
    """What a guest's frontends hold; `rings` of their pages are mapped by backends."""
    held = sum(front.pages for front in fronts)
    lost = len(domain.deferred)
    yield from differs(domain.name, "pages out", found.pages_used, GUEST_PAGES + held + lost)
    yield from differs(domain.name, "grant references out", domain.grefs_used, held + lost)
    yield from differs(domain.name, "ports", found.ports, 1 + sum(len(front.ports) for front in fronts))
    yield from differs(domain.name, "grants in use", found.grants_in_use, 1 + rings)


def strangers(machine: Machine) -> Iterator[str]:
    """Domains and backends without a guest."""
    known = {guest.domid for guest in machine.guests.values()}
    for domid, domain in machine.host.hypervisor.domains.items():
        if domid and domid not in known:
            yield f"d{domid} ({domain.name}): no guest of this lab"
    for guest in machine.guests.values():
        for vif, backend in machine.ends(guest):
            if backend is None:
                yield f"{guest.name} {vif.device}: no backend"
    vifs = {(guest.domid, handle) for guest in machine.guests.values() for handle in guest.vifs}
    for key, backend in machine.drivers.backends.items():
        if key not in vifs:
            yield f"{backend.netback.name}: a backend without a vif"


def devices(machine: Machine, links: dict[str, str]) -> Iterator[str]:
    """dom0's interfaces, bridge ports and vnics."""
    backends: list[Backend] = list(machine.drivers.backends.values())
    wanted = {each.tap.name: each.attached for each in backends if each.tap is not None}
    wanted |= {link.name: link.bridge or "" for link in machine.lab.links if not (link.nic or link.veth)}
    for name, bridge in wanted.items():
        if name not in links:
            yield f"dom0: no interface {name}"
        elif links[name] != bridge:
            yield f"dom0: {name} is in bridge {links[name] or 'none'}, not in {bridge or 'none'}"
    bridges = {spec.name for spec in machine.lab.bridges if not spec.existing}
    for name, bridge in links.items():
        if bridge in bridges and name not in wanted:
            yield f"dom0: {name} is a port of {bridge}, and nobody's"
    datalinks = machine.datalinks.registry.links
    for link in datalinks.values():
        for port in link.switch.ports if link.switch is not None else ():
            if port.name not in datalinks:
                yield f"dom0: {port.name} is a vnic on {link.name}, and nobody's"
    held = {each.vnic.name if each.vnic is not None else each.attached for each in backends}
    for name, link in datalinks.items():
        if link.user.startswith("vif") and name not in held:
            yield f"dom0: {name} is {link.user}'s, and it is not there"
        if link.user == "zone dom0" and name not in links:
            yield f"dom0: no interface {name}"


def directories(machine: Machine) -> Iterator[str]:
    """The store's directories of domains and vifs."""
    domids = {str(guest.domid) for guest in machine.guests.values()}
    found: list[str] = []

    def look() -> Conversation[None]:
        for home, known in (("/local/domain", domids | {"0"}), ("/libxl", domids)):
            found.extend(f"{home}/{name}" for name in (yield from listing(home)) or [] if name not in known)
        for domid in (yield from listing("/local/domain/0/backend/vif")) or []:
            home = f"/local/domain/0/backend/vif/{domid}"
            found.extend(f"{home}/{handle}" for handle in (yield from listing(home)) or [] if not has(domid, handle))
        for guest in machine.guests.values():
            for home in (f"/local/domain/{guest.domid}/device/vif", f"/libxl/{guest.domid}/device/vif"):
                handles = (yield from listing(home)) or []
                found.extend(f"{home}/{handle}" for handle in handles if not has(str(guest.domid), handle))

    def has(domid: str, handle: str) -> bool:
        return any(str(guest.domid) == domid and handle in map(str, guest.vifs) for guest in machine.guests.values())

    machine.host.session.run(look())
    for path in found:
        yield f"xenstore: {path} is nobody's"
