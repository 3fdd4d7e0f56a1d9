"""Manager: the links of a running machine, and the one door through which the command line and programs order them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xnet.engine.datalinks.bundles import Bundles
from xnet.engine.datalinks.flows import PROPERTIES as FLOW_PROPERTIES
from xnet.engine.datalinks.flows import Flows
from xnet.engine.datalinks.model import Datalink
from xnet.engine.datalinks.properties import of, set_properties
from xnet.engine.datalinks.registry import Mac, Registry
from xnet.engine.datalinks.show import snapshot
from xnet.engine.datalinks.store import FILE, Store
from xnet.engine.datalinks.words import DatalinkError, Status
from xnet.engine.datalinks.zones import Zones
from xnet.engine.lab import FlowSpec, Lab
from xnet.errors import XnetError
from xnet.frame.arena import Arena
from xnet.frame.clock import Clock
from xnet.mac.bandwidth import Ticker
from xnet.mac.resources import Resources

Values = Mapping[str, Sequence[str]]


class Datalinks:
    """What dladm and flowadm do. Each order is carried out before the next one begins."""

    def __init__(
        self,
        lab: str,
        run_dir: Path | None,
        *,
        is_running: Callable[[str], bool],
        clock: Clock,
        arena: Arena,
        zones: Zones | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`is_running`: whether a device of dom0 is up, with a carrier. `arena`: dom0's, for frames that waited.
        `zones`: who makes interfaces of vnics. `tell` gets a line for people."""
        self.lab = lab
        self.zones = zones
        self.ticker = Ticker(clock)
        self.arena = arena
        self.flows = Flows(self)
        self.bundles = Bundles(self, tell)
        self.flows_of_vifs: tuple[FlowSpec, ...] = ()
        """The lab's, for vnics that come with their guests."""
        self.store = Store(run_dir / FILE if run_dir is not None else None)
        self.registry = Registry(self.store)
        self.is_running = is_running
        self.lock = asyncio.Lock()
        self.orders: dict[str, Callable[..., Awaitable[Any]]] = {
            "create-etherstub": self.create_etherstub,
            "delete-etherstub": self.delete_etherstub,
            "create-vnic": self.create_vnic,
            "delete-vnic": self.delete_vnic,
            "modify-vnic": self.modify_vnic,
            "create-vlan": self.create_vlan,
            "delete-vlan": self.delete_vlan,
            "create-aggr": self.create_aggr,
            "delete-aggr": self.delete_aggr,
            "add-aggr": self.add_aggr,
            "remove-aggr": self.remove_aggr,
            "modify-aggr": self.modify_aggr,
            "create-bridge": self.create_bridge,
            "delete-bridge": self.delete_bridge,
            "add-bridge": self.add_bridge,
            "remove-bridge": self.remove_bridge,
            "rename-link": self.rename_link,
            "set-linkprop": self.set_linkprop,
            "reset-linkprop": self.reset_linkprop,
            "add-flow": self.add_flow,
            "remove-flow": self.remove_flow,
            "set-flowprop": self.set_flowprop,
            "reset-flowprop": self.reset_flowprop,
        }

    async def do(self, request: Mapping[str, Any]) -> Any:
        """An order as it comes over the socket: ``do`` and its arguments. XnetError."""
        arguments = {key: value for key, value in request.items() if key not in ("verb", "do")}
        name = str(request.get("do"))
        if name == "show":
            return self.show(**arguments)
        if name not in self.orders:
            raise XnetError(f'unknown order "{name}"')
        async with self.lock:
            try:
                await self.orders[name](**arguments)
            except TypeError as error:
                raise XnetError(f"{name}: {error}") from None
        return None

    async def boot(self, lab: Lab) -> None:
        """The lab's own aggregations, bridges, vnics and VLANs, which it brings every time. DatalinkError."""
        for aggr in lab.aggrs:
            await self.create_aggr(aggr.name, list(aggr.links), aggr.policy, aggr.mode, temporary=True)
        for bridge in lab.linkbridges:
            await self.create_bridge(bridge.name, list(bridge.links), bridge.protect, temporary=True)
        for spec in lab.vnics:
            if spec.vlan:
                await self.create_vlan(spec.name, spec.over, spec.vid, temporary=True)
                await set_properties(self, self.registry.find(spec.name), spec.properties, temporary=True)
            else:
                mac = {"type": "fixed", "address": spec.mac} if spec.mac else None
                await self.create_vnic(
                    spec.name, spec.over, mac=mac, vid=spec.vid, properties=spec.properties, temporary=True
                )
            if spec.zone and self.zones is not None:
                link = self.registry.find(spec.name)
                try:
                    await self.zones.put(link, spec.zone, spec.ip)
                except Status as why:
                    raise DatalinkError(f"cannot set link property 'zone' on '{spec.name}'", why.status) from None
                link.values["zone"] = [spec.zone]
        self.flows_of_vifs = tuple(flow for flow in lab.flows if "/" in flow.link)
        for flow in lab.flows:
            if flow not in self.flows_of_vifs:
                await self.boot_flow(flow, flow.link)

    async def entered(self, zone: str) -> None:
        """A guest is there (again): its interfaces, too."""
        if self.zones is not None:
            await self.zones.entered(zone)

    async def left(self, zone: str) -> None:
        """A guest ends: its interfaces, too, until it comes back."""
        if self.zones is not None:
            await self.zones.left(zone)

    async def boot_flow(self, spec: FlowSpec, link: str) -> None:
        """A flow of the lab's, on that link. DatalinkError."""
        await self.add_flow(spec.name, link, spec.attributes, spec.properties, temporary=True)

    def resources_of(self, link: Datalink) -> Resources:
        """A client's caps and flows."""
        assert link.vnic is not None, "only clients have them"
        if link.resources is None:
            link.resources = Resources(link.vnic, self.ticker, self.arena)
        return link.resources

    def release(self, name: str) -> None:
        """A vif is done with its vnic: that goes, and its flows."""
        self.flows.forget(self.registry.links[name])
        self.registry.release(name)

    async def restore(self, tell: Callable[[str], None]) -> None:
        """Make again what an engine that was killed had to keep; what cannot be is told."""
        records = self.store.load()
        for name, values in list(self.store.properties.items()):  # of what the lab brings itself
            if name not in records and name in self.registry.links:
                await self.restored(name, {"do": "set-linkprop", "link": name, "properties": values}, tell)
        for name, record in records.items():
            if name in self.registry.links or name in self.bundles.bridges:
                continue
            await self.restored(name, record, tell)

    async def restored(self, name: str, record: Mapping[str, Any], tell: Callable[[str], None]) -> None:
        """One of them, with its properties."""
        try:
            await self.do(record)
            properties = self.store.properties.get(name, {})
            if name in self.flows.all:
                await self.set_flowprop(name, properties)
            elif properties and record["do"] != "set-linkprop":
                await self.set_linkprop(name, properties)
        except XnetError as error:
            tell(f"{name}: kept from before, and cannot be made again: {error}")
        else:
            tell(f"{name}: made again, as it was kept")

    def show(self) -> dict[str, Any]:
        """All there is."""
        return snapshot(self)

    def has_carrier(self, link: Datalink) -> bool:
        """Whether its wire is up, or any of its wires."""
        if link.kind in ("aggr", "bridge"):
            return any(self.has_carrier(self.registry.links[name]) for name in link.over)
        try:
            return link.device != "" and self.is_running(link.device)
        except XnetError:
            return False

    async def create_etherstub(self, name: str, temporary: bool = False) -> None:
        """A switch with no wire. DatalinkError."""
        self.registry.create_etherstub(name, temporary=temporary)

    async def delete_etherstub(self, name: str, temporary: bool = False) -> None:
        """Take it away. DatalinkError."""
        self.registry.delete_etherstub(name, temporary=temporary)

    async def create_vnic(
        self,
        name: str,
        over: str,
        mac: Mac | None = None,
        vid: int = 0,
        force: bool = False,
        properties: Values | None = None,
        temporary: bool = False,
    ) -> Datalink:
        """A client of a lower link, with its properties; all of it, or nothing. DatalinkError."""
        link = self.registry.create_vnic(name, over, mac=mac, vid=vid, force=force, temporary=temporary)
        try:
            await set_properties(self, link, properties or {}, temporary)
        except XnetError:
            self.registry.delete_client(name)
            raise
        return link

    async def delete_vnic(self, name: str, temporary: bool = False) -> None:
        """Take it away. DatalinkError."""
        self.registry.delete_client(name, temporary=temporary)

    async def modify_vnic(self, name: str, over: str = "", mac: Mac | None = None, vid: int | None = None) -> None:
        """Give it another place. DatalinkError."""
        self.registry.modify_vnic(name, over=over, mac=mac, vid=vid)

    async def create_vlan(
        self, name: str | None, over: str, vid: int, force: bool = False, temporary: bool = False
    ) -> None:
        """A client with the link's own address. DatalinkError."""
        self.registry.create_vlan(name, over, vid, force=force, temporary=temporary)

    async def delete_vlan(self, name: str, temporary: bool = False) -> None:
        """Take it away. DatalinkError."""
        self.registry.delete_client(name, kind="vlan", temporary=temporary)

    async def create_aggr(
        self, name: str, links: list[str], policy: str = "L4", mode: str = "trunk", temporary: bool = False
    ) -> None:
        """One link of several wires. DatalinkError."""
        self.bundles.create_aggr(name, links, policy=policy, mode=mode, temporary=temporary)

    async def delete_aggr(self, name: str, temporary: bool = False) -> None:
        """Its wires are links again. DatalinkError."""
        self.bundles.delete_aggr(name, temporary)

    async def add_aggr(self, name: str, links: list[str], temporary: bool = False) -> None:
        """More wires. DatalinkError."""
        self.bundles.add_aggr(name, links, temporary)

    async def remove_aggr(self, name: str, links: list[str], temporary: bool = False) -> None:
        """Fewer wires. DatalinkError."""
        self.bundles.remove_aggr(name, links, temporary)

    async def modify_aggr(self, name: str, policy: str, temporary: bool = False) -> None:
        """Another policy. DatalinkError."""
        self.bundles.modify_aggr(name, policy, temporary)

    async def create_bridge(
        self, name: str, links: list[str] | None = None, protect: str = "stp", temporary: bool = False
    ) -> None:
        """A learning bridge of links. DatalinkError."""
        self.bundles.create_bridge(name, links or [], protect=protect, temporary=temporary)

    async def delete_bridge(self, name: str, temporary: bool = False) -> None:
        """One without links. DatalinkError."""
        self.bundles.delete_bridge(name, temporary)

    async def add_bridge(self, name: str, links: list[str], temporary: bool = False) -> None:
        """More links in it. DatalinkError."""
        self.bundles.add_bridge(name, links, temporary)

    async def remove_bridge(self, name: str, links: list[str], temporary: bool = False) -> None:
        """Fewer. DatalinkError."""
        self.bundles.remove_bridge(name, links, temporary)

    async def rename_link(self, old: str, new: str) -> None:
        """A vanity name. DatalinkError."""
        self.registry.rename(old, new)

    async def set_linkprop(self, link: str, properties: Values, temporary: bool = False) -> None:
        """Set properties. DatalinkError."""
        if not properties:
            raise DatalinkError("link property must be specified")
        await set_properties(self, self.registry.find(link), properties, temporary)

    async def reset_linkprop(self, link: str, names: list[str] | None = None, temporary: bool = False) -> None:
        """Set properties back to their defaults: these, or all. DatalinkError."""
        found = self.registry.find(link)
        every = [name for name, each in of(found).items() if each.take is not None]
        await set_properties(self, found, {name: [] for name in (every if names is None else names)}, temporary)

    async def add_flow(
        self,
        name: str,
        link: str,
        attributes: Mapping[str, str],
        properties: Values | None = None,
        temporary: bool = False,
    ) -> None:
        """Name some of a client's frames. DatalinkError."""
        self.flows.add(name, link, attributes, properties or {}, temporary)

    async def remove_flow(self, name: str | None = None, link: str | None = None, temporary: bool = False) -> None:
        """A flow, or all of a link's. DatalinkError."""
        self.flows.remove(name, link, temporary)

    async def set_flowprop(self, flow: str, properties: Values, temporary: bool = False) -> None:
        """Set properties. DatalinkError."""
        self.flows.set(flow, properties, temporary)

    async def reset_flowprop(self, flow: str, names: list[str] | None = None, temporary: bool = False) -> None:
        """Set properties back to their defaults. DatalinkError."""
        self.flows.set(flow, {name: [] for name in (FLOW_PROPERTIES if names is None else names)}, temporary)
