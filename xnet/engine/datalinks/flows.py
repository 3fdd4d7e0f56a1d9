"""Flows of all links by name: what flowadm does to them. A flow's properties are ``maxbw`` and ``priority``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xnet.engine.datalinks import words
from xnet.engine.datalinks.model import CLIENTS, Datalink
from xnet.engine.datalinks.words import DatalinkError
from xnet.mac.bandwidth import PRIORITIES, BandwidthError, format_maxbw, parse_maxbw
from xnet.mac.flow import Flow, FlowError

if TYPE_CHECKING:
    from xnet.engine.datalinks.manager import Datalinks

PROPERTIES = ("maxbw", "priority")


class Flows:
    """The flows there are: name -> (link, flow)."""

    def __init__(self, links: Datalinks) -> None:
        self.links = links
        self.all: dict[str, tuple[Datalink, Flow]] = {}

    def find(self, name: str) -> tuple[Datalink, Flow]:
        """DatalinkError."""
        if name not in self.all:
            raise DatalinkError(f"invalid flow: '{name}'")
        return self.all[name]

    def add(
        self,
        name: str,
        link: str,
        attributes: Mapping[str, str],
        properties: Mapping[str, Sequence[str]],
        temporary: bool,
    ) -> None:
        """A flow of a client, with its properties; all of it, or nothing. DatalinkError."""
        where = self.links.registry.find(link)
        if name in self.all or name in self.links.registry.links:
            raise DatalinkError("add flow failed", words.EEXIST)
        if where.kind not in CLIENTS:
            raise DatalinkError("add flow failed", words.ENOTSUP)
        if not name or not name[0].isalpha() or len(name) > 127:
            raise DatalinkError(f"invalid flow name '{name}'")
        try:
            flow = self.links.resources_of(where).add_flow(name, attributes)
        except FlowError as why:
            raise DatalinkError("add flow failed", str(why)) from None
        self.all[name] = (where, flow)
        try:
            self.set(name, properties, temporary=True)
        except DatalinkError:
            self.drop(name)
            raise
        if not temporary and not where.temporary:
            record = {"do": "add-flow", "name": name, "link": link, "attributes": dict(attributes)}
            self.links.store.put(name, record | {"properties": {key: list(each) for key, each in properties.items()}})

    def drop(self, name: str) -> None:
        """It is not there any more."""
        where, _ = self.all.pop(name)
        self.links.resources_of(where).remove_flow(name)

    def remove(self, name: str | None, link: str | None, temporary: bool) -> None:
        """One flow, or all of a link's. DatalinkError."""
        if name is not None and name not in self.all and not temporary and self.links.store.drop(name):
            return
        if name is not None:
            self.find(name)
            names = [name]
        else:
            where = self.links.registry.find(link or "")
            names = [each for each, (other, _) in self.all.items() if other is where]
        for each in names:
            self.drop(each)
            if not temporary:
                self.links.store.drop(each)

    def forget(self, link: Datalink) -> None:
        """A guest's vnic goes, and its flows with it."""
        for name in [name for name, (other, _) in self.all.items() if other is link]:
            self.drop(name)

    def set(self, name: str, properties: Mapping[str, Sequence[str]], temporary: bool) -> None:
        """Set properties, an empty value being the default. DatalinkError."""
        where, _ = self.find(name)
        resources = self.links.resources_of(where)
        for key, values in properties.items():
            what = f"cannot set flow property '{key}' on '{name}'"
            if key not in PROPERTIES:
                raise DatalinkError(f"invalid flow property '{key}'")
            if len(values) > 1:
                raise DatalinkError(what, words.EINVAL)
            if key == "maxbw":
                try:
                    resources.set_flow_maxbw(name, parse_maxbw(values[0]) if values else None)
                except BandwidthError as why:
                    raise DatalinkError(what, str(why)) from None
            else:
                priority = values[0] if values else "medium"
                if priority not in PRIORITIES:
                    raise DatalinkError(what, words.EINVAL)
                resources.set_flow_priority(name, priority)
            if not temporary:
                self.links.store.set(name, {key: list(values)})

    def describe(self) -> list[dict[str, Any]]:
        """All of them, JSON-ready."""
        return [
            {
                "name": name,
                "link": link.name,
                "attributes": flow.attributes,
                "properties": [
                    {
                        "name": "maxbw",
                        "perm": "rw",
                        "value": [] if flow.bps is None else [format_maxbw(flow.bps)],
                        "default": [],
                        "possible": [],
                    },
                    {
                        "name": "priority",
                        "perm": "rw",
                        "value": [flow.priority],
                        "default": ["medium"],
                        "possible": ["low", "medium", "high"],
                    },
                ],
                "statistics": flow.statistics(),
            }
            for name, (link, flow) in self.all.items()
        ]
