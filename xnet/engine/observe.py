"""What a machine shows of itself: one dict for people and programs (`describe`), one of counters only (`statistics`).

Nothing is kept here; every component answers for itself, and this walks and collects. All values are JSON's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xnet.abi.xen import PAGE_SIZE
from xnet.engine.driver_domain import Backend
from xnet.engine.edge import TapLink, summed
from xnet.engine.guest import Guest, GuestVif
from xnet.hv import Domain
from xnet.netif.hashing import KIND_NAMES, Hashing

if TYPE_CHECKING:
    from xnet.engine.machine import Machine


def describe(machine: Machine) -> dict[str, Any]:
    """The whole machine: domains with their vifs, features and counters; bridges, links, etherstubs."""
    lab, host = machine.lab, machine.host
    dom0 = {
        "name": "dom0",
        "id": 0,
        "type": "pv",
        "state": "r-----",
        "memory_mib": lab.dom0_memory >> 20,
        "vifs": [],
    }
    return {
        "lab": lab.name,
        "source": lab.source,
        "domains": [dom0, *(describe_guest(machine, guest) for guest in by_domid(machine))],
        "bridges": [{"name": b.name, "address": list(b.address), "mtu": b.mtu} for b in lab.bridges],
        "links": [{"name": link.name, "bridge": link.bridge, "mtu": link.mtu} for link in lab.links],
        "etherstubs": [{"name": stub.name, "mtu": stub.mtu} for stub in lab.etherstubs],
        "heap": heap(machine),
        "memory": {"pages": host.hypervisor.machine.nframes, "free": host.hypervisor.machine.room},
    }


def heap(machine: Machine) -> dict[str, int]:
    """The hypervisor's heap in pages: what it was made with, what is in its own use, what it can lend now."""
    heap = machine.host.hypervisor.heap
    return {"pages": heap.size, "used": heap.used, "free": heap.room}


def by_domid(machine: Machine) -> list[Guest]:
    """Guests in the order of their domain ids."""
    return sorted(machine.guests.values(), key=lambda guest: guest.domid)


def describe_guest(machine: Machine, guest: Guest) -> dict[str, Any]:
    """One guest as `xl list` would, and its vifs."""
    domain = guest.xen.domain
    return {
        "name": guest.name,
        "id": guest.domid,
        "type": guest.spec.type,
        "state": letters(domain),
        "memory_mib": domain.pages * PAGE_SIZE >> 20,
        "vifs": [describe_vif(vif, backend) for vif, backend in machine.ends(guest)],
    }


def letters(domain: Domain) -> str:
    """A guest's state as xl writes it: r b p s, why it shut down (r eboot, s uspend, c rash), d."""
    why = {"reboot": "r", "suspend": "s", "crash": "c"}.get(domain.shutdown_reason, "-")
    return {"running": "-b----", "paused": "--p---", "shutdown": f"---s{why}-", "dying": "-----d"}[domain.state.value]


def describe_vif(vif: GuestVif, backend: Backend | None) -> dict[str, Any]:
    """One vif, both ends of it."""
    front, back = vif.netfront, backend.netback if backend else None
    state = front.state.name
    if back is not None and back.state is not front.state:
        state += f"/{back.state.name}"
    return {
        "handle": vif.handle,
        "device": vif.device,
        "name": backend.name if backend else "",
        "mac": vif.spec.mac,
        "ip": list(vif.spec.ip),
        "mtu": vif.spec.mtu,
        "backend": backend.kind if backend else "",
        "attached": backend.attached if backend else "",
        "state": state,
        "link": "up" if vif.nic.cable else "down",
        "carrier": back is not None and back.carrier,
        "reason": front.reason or (back.reason if back else ""),
        "tx_mode": back.tx_mode if back else "",
        "rx_mode": front.rx_mode,
        "xdp_headroom": back.headroom if back else 0,
        "rate": None if back is None or back.rate is None else dict(zip(("bytes", "usec"), back.rate, strict=True)),
        "frontend_profile": front.profile.name,
        "backend_profile": back.profile.name if back else "",
        "queues": len(front.queues),
        "event_channels": sum(len({queue.tx_port, queue.rx_port}) for queue in front.queues),
        "hashing": describe_hashing(back.hashing) if back else None,
        "features": {"to_backend": front.agreed(), "to_guest": back.agreed() if back else {}},
        "statistics": vif_statistics(vif, backend),
    }


def describe_hashing(hashing: Hashing) -> dict[str, Any] | None:
    """How the guest wants its flows hashed; None: it did not say."""
    if not hashing.on:
        return None
    kinds = [name for bit, name in KIND_NAMES.items() if hashing.flags & bit]
    return {"algorithm": "toeplitz", "kinds": kinds, "key": hashing.key.hex(), "mapping": list(hashing.mapping)}


def vif_statistics(vif: GuestVif, backend: Backend | None) -> dict[str, Any]:
    """Counters of one vif: netfront, netback, what moved frames at each end, the vnic if it has one."""
    found: dict[str, Any] = {
        "netfront": vif.netfront.statistics(),
        "netback": backend.netback.statistics() if backend else {},
        "tap": summed(vif.nic.pumps),
    }
    if len(vif.netfront.queues) > 1:
        found["queues"] = {
            str(index): {"netfront": front.counters.statistics(), "netback": back.counters.statistics()}
            for index, (front, back) in enumerate(
                zip(vif.netfront.queues, backend.netback.queues if backend else (), strict=False)
            )
        }
    if backend is not None and isinstance(backend.link, TapLink):
        found["vif_tap"] = backend.link.counters()
    if backend is not None and backend.vnic is not None:
        found["vnic"] = backend.vnic.statistics()
    return found


def statistics(machine: Machine) -> dict[str, Any]:
    """Counters only: domains (grants, copies, events), vifs by ``guest/handle``, uplinks."""
    return {
        "domains": {each.name: asdict(each) for each in machine.host.hypervisor.statistics()},
        "vifs": {
            f"{guest.name}/{vif.handle}": vif_statistics(vif, backend)
            for guest in by_domid(machine)
            for vif, backend in machine.ends(guest)
        },
        "uplinks": {name: uplink.link.counters() for name, uplink in machine.drivers.uplinks.items()},
        "xenstore": asdict(machine.host.store.statistics()),
        "heap": heap(machine),
        "windows": {"remaps": machine.memory.remaps, "pages": machine.memory.pages_remapped},
        "console": machine.host.hypervisor.console_statistics(),
    }
