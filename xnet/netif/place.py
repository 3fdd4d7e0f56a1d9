"""Where a frontend's directory says that its rings and channels are, and how a backend gets hold of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from xnet.errors import HypercallError, XnetError
from xnet.hv.api import Mapping, Xen
from xnet.netif.features import HEADROOM, OFFLOAD_KEYS, number
from xnet.netif.multicast import REQUEST
from xnet.xenstore import Conversation, Read

KEYS: Final = (
    "multi-queue-num-queues",
    "request-rx-copy",
    "feature-rx-notify",
    REQUEST,
    HEADROOM,
    *OFFLOAD_KEYS,
)


class Place(NamedTuple):
    """Of one queue, what the frontend's directory says: grant references and ports."""

    tx_ref: int
    rx_ref: int
    tx_port: int
    rx_port: int


class ControlPlace(NamedTuple):
    """The same of a control ring."""

    ref: int
    port: int


class Said(NamedTuple):
    """What a connecting frontend says."""

    keys: dict[str, str | None]
    """`KEYS`, None for absent ones."""
    queues: list[Place]
    control: ControlPlace | None


def read_said(home: str, max_queues: int, *, ctrl_ring: bool) -> Conversation[Said]:
    """What its directory has. XnetError names what is missing, or cannot be."""
    keys: dict[str, str | None] = {}
    for name in KEYS:
        keys[name] = yield Read(f"{home}/{name}")
    text = keys["multi-queue-num-queues"]
    count = number(text, 1)
    if not 1 <= count <= max_queues:
        asked = text if text is not None and text.isascii() and text.isdigit() else repr((text or "")[:20])
        raise XnetError(f"frontend asks for {asked} queues, {max_queues} offered")
    queues = []
    for queue in [home] if count == 1 else [f"{home}/queue-{i}" for i in range(count)]:
        queues.append((yield from read_place(queue)))
    return Said(keys, queues, (yield from read_control(home)) if ctrl_ring else None)


def read_control(home: str) -> Conversation[ControlPlace | None]:
    """Where a vif's control ring and its channel are, if there is one. XnetError names what is missing."""
    ref = yield Read(f"{home}/ctrl-ring-ref")
    if ref is None:
        return None
    port = yield Read(f"{home}/event-channel-ctrl")
    return ControlPlace(numeral(f"{home}/ctrl-ring-ref", ref), numeral(f"{home}/event-channel-ctrl", port))


def read_place(home: str) -> Conversation[Place]:
    """Where one queue's rings and channels are. XnetError names what is missing."""
    keys: dict[str, str | None] = {}
    for name in ("tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"):
        keys[name] = yield Read(f"{home}/{name}")
    if keys["event-channel-tx"] is None or keys["event-channel-rx"] is None:
        shared = yield Read(f"{home}/event-channel")
        keys["event-channel-tx"] = keys["event-channel-rx"] = shared
    return Place(*(numeral(f"{home}/{name}", text) for name, text in keys.items()))


def numeral(path: str, text: str | None) -> int:
    """What a node must say in digits."""
    if text is None or not (text.isascii() and text.isdecimal()):
        raise XnetError(f"reading {path}: {'missing' if text is None else 'not a number'}")
    return int(text)


def map_ring(xen: Xen, domid: int, ref: int) -> Mapping:
    """A frontend's ring page, in our window."""
    result = xen.map_grants(domid, [ref], readonly=False)[0]
    if not isinstance(result, Mapping):
        raise XnetError(f"mapping ring reference {ref} of d{domid} failed (GNTST {result})")
    return result


def bind(xen: Xen, domid: int, port: int) -> int:
    """Our end of a frontend's event channel."""
    try:
        return xen.bind_interdomain(domid, port)
    except HypercallError as error:
        raise XnetError(f"binding event channel {port} of d{domid}: {error.status}") from error
