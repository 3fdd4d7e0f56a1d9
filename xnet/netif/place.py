"""Where a frontend's directory says that its queues are."""

from __future__ import annotations

from typing import NamedTuple

from xnet.errors import XnetError
from xnet.hv.api import Mapping, Xen
from xnet.xenstore import Conversation, Read


class Place(NamedTuple):
    """Of one queue, what the frontend's directory says: grant references and ports."""

    tx_ref: int
    rx_ref: int
    tx_port: int
    rx_port: int


def read_place(home: str) -> Conversation[Place]:
    """Where one queue's rings and channels are. XnetError names what is missing."""
    keys: dict[str, str | None] = {}
    for name in ("tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"):
        keys[name] = yield Read(f"{home}/{name}")
    if keys["event-channel-tx"] is None or keys["event-channel-rx"] is None:
        shared = yield Read(f"{home}/event-channel")
        keys["event-channel-tx"] = keys["event-channel-rx"] = shared
    for name, text in keys.items():
        if text is None or not (text.isascii() and text.isdecimal()):
            raise XnetError(f"reading {home}/{name}: {'missing' if text is None else 'not a number'}")
    return Place(*(int(text or 0) for text in keys.values()))


def map_ring(xen: Xen, domid: int, ref: int) -> Mapping:
    """A frontend's ring page, in our window."""
    result = xen.map_grants(domid, [ref], readonly=False)[0]
    if not isinstance(result, Mapping):
        raise XnetError(f"mapping ring reference {ref} of d{domid} failed (GNTST {result})")
    return result
