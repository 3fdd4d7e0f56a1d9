"""Store: what was made without -t, in the lab's state directory (``datalink.json``), so that a lab whose engine was
killed has it again when it comes back. A lab that is taken down in order leaves nothing, this file included.

It holds, in the order of their making, the orders that make the objects again, and the properties set since.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILE = "datalink.json"
NAMES = frozenset({"name", "over", "link", "links"})
"""What names a link in a record."""


class Store:
    """The records. Without a path they are in memory only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        """Name of a link or flow -> the order that makes it."""
        self.properties: dict[str, dict[str, list[str]]] = {}
        """Name -> what was set."""

    def load(self) -> dict[str, dict[str, Any]]:
        """Take over the properties a killed engine left; its records, for who makes the objects again."""
        if self.path is None:
            return {}
        try:
            kept = json.loads(self.path.read_text())
            records, properties = dict(kept["records"]), dict(kept["properties"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        self.properties = properties
        return records

    def put(self, name: str, record: dict[str, Any]) -> None:
        """Keep an object."""
        self.records[name] = record
        self.save()

    def drop(self, name: str) -> bool:
        """Forget an object and its properties; whether there was one."""
        known = self.records.pop(name, None) is not None
        if self.properties.pop(name, None) is not None or known:
            self.save()
        return known

    def rename(self, old: str, new: str) -> None:
        """An object has another name, wherever it is named."""
        self.records = {
            new if name == old else name: {
                key: renamed(value, old, new) if key in NAMES else value for key, value in record.items()
            }
            for name, record in self.records.items()
        }
        if old in self.properties:
            self.properties[new] = self.properties.pop(old)
        self.save()

    def set(self, name: str, values: dict[str, list[str]]) -> None:
        """Keep properties; an empty value is the default."""
        kept = self.properties.setdefault(name, {})
        for key, value in values.items():
            if value:
                kept[key] = value
            else:
                kept.pop(key, None)
        if not kept:
            del self.properties[name]
        self.save()

    def save(self) -> None:
        """Write the file anew: all of it, or not at all."""
        if self.path is None:
            return
        text = json.dumps({"records": self.records, "properties": self.properties})
        scratch = self.path.with_suffix(".new")
        scratch.write_text(text)
        os.replace(scratch, self.path)


def renamed(value: Any, old: str, new: str) -> Any:
    """A record's value with a link's new name."""
    if isinstance(value, list):
        return [renamed(each, old, new) for each in value]
    return new if value == old else value
