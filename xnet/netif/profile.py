"""Peer profiles: what the frontends and backends of this world are like, as data.

A `FrontProfile` says what a frontend writes and asks for in xenstore and when, what it takes and sends, and, unless it
is Linux's, the `Shape` of its traffic, which `shaped.ShapedQueue` gives it. A `BackProfile` says the same of a backend.
What a lab file switches off is off whatever the profile says; a profile never switches anything on.

Sources: Linux 6.12 xen-netfront, FreeBSD netfront, mirage-net-xen, Windows xenvif, illumos xnf, xVM's xnb 2007 to 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

from xnet.abi.xen.netif import XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH
from xnet.abi.xen.xenbus import XenbusState
from xnet.netif.features import Features, number
from xnet.xenstore import Conversation, Write, in_transaction

S = XenbusState


def only(*names: str) -> Features:
    """These features, and no others."""
    wanted = {name.replace("-", "_") for name in names}
    return Features(**{field.name: field.name in wanted for field in fields(Features)})


def both(one: Features, other: Features) -> Features:
    """What is on in both."""
    return Features(**{f.name: getattr(one, f.name) and getattr(other, f.name) for f in fields(Features)})


EVERYTHING = only(*[field.name for field in fields(Features)])


# --- how a feature's value is read


def decimal(text: str) -> bool:
    """Linux: an unsigned decimal that is not 0."""
    return bool(number(text))


def leading(text: str, digits: str, base: int, signs: str = "+-") -> int:
    """C's strtol and scanf: white space, a sign, digits as far as they go; 0 when there are none."""
    text = text.lstrip()
    sign = text[:1] if text[:1] and text[:1] in signs else ""
    rest = text[len(sign) :]
    count = len(rest) - len(rest.lstrip(digits))
    value = int(rest[:count][:64] or "0", base)
    return -value if sign == "-" else value


def byte(text: str) -> bool:
    """FreeBSD's ``%hhu``: eight bits of a leading decimal."""
    return bool(leading(text, "0123456789", 10) & 0xFF)


def signed(text: str) -> bool:
    """illumos's ``%d``: a leading decimal, which may be negative."""
    return bool(leading(text, "0123456789", 10) & 0xFFFFFFFF)


def binary(text: str) -> bool:
    """Windows' strtol in base 2: ``2`` is 0."""
    return bool(leading(text, "01", 2))


def exactly_one(text: str) -> bool:
    """MirageOS: the text ``1`` and nothing else."""
    return text == "1"


# --- frontends


@dataclass(slots=True, frozen=True)
class Shape:
    """How a frontend's frames look on the rings, and what it makes of the backend's answers."""

    ids: range = range(256)
    """Ids of tx requests."""
    blank: int = 3
    """tx flags of a frame with a blank checksum: csum_blank with data_validated, or alone (1); none at all (0)."""
    min_frame: int = 0
    """Shorter frames are padded with zeros."""
    header: int = 0
    """Headers go in a slot of their own, copied into a buffer of so many bytes; 0: they stay where they are."""
    block: int = 0
    """Frames are copied into pages shared for good, cut in blocks of so many bytes; 0: they are sent from where they
    are."""
    free_slots: int = 20
    """Request slots that must be free before a frame is taken."""
    group: int = 256
    """Requests are pushed when so many are there, and at the end of a burst."""
    lazy: bool = False
    """tx responses are looked at when request slots run short, not when they come."""
    status_checked: bool = False
    """A tx status that is none is fatal."""
    tells_dropped: bool = False
    """It tells a frame that was dropped from one that was wrong."""
    rx_ids: Literal["index", "running"] = "index"
    """Ids of rx requests: the slot's number, or a 16-bit counter."""
    rx_by_id: bool = False
    """The id of an rx response must be the request's; a frontend that goes by the slot alone does not care."""
    rx_unsigned: bool = False
    """The status of an rx response is read as a length, whatever its sign."""
    rx_extras: frozenset[int] = frozenset({XEN_NETIF_EXTRA_TYPE_GSO})
    """Extras it knows on the rx ring."""
    rx_asserts: bool = False
    """What a backend must not send (an extra it does not know, GSO without blank checksum or size) is fatal, else the
    frame is dropped."""


@dataclass(slots=True, frozen=True)
class FrontProfile:
    """A frontend."""

    name: str
    keys: tuple[str, ...]
    """What it writes after rings and channels, in its order (see `told`)."""
    takes: Features
    """What it says it takes from the backend."""
    sends: Features
    """What it uses of the backend's offer."""
    parse: Callable[[str], bool]
    """A feature's value as it reads it."""
    needs_rx_copy: bool = True
    """It refuses a backend without feature-rx-copy. All these write request-rx-copy = 1."""
    failed: XenbusState = S.Closing
    """Its state when it refuses."""
    connects_at: tuple[XenbusState, ...] = (S.InitWait,)
    """States of the backend at which it writes its keys and Connected."""
    state_within: bool = False
    """Connected is written in the transaction of the keys."""
    waits: bool = False
    """It uses the rings when the backend is Connected, and not before."""
    drives: bool = False
    """At its start it leads a backend it finds in an old connection through Closing and Closed."""
    mac: tuple[Literal["front", "back"], ...] = ("front",)
    """Where it reads its MAC address: its own directory, the backend's; the first that has one."""
    forgets: bool = False
    """It removes its keys when it closes."""
    disconnect_key: bool = False
    """It heeds ``disconnect`` in its directory: 1 means that the cable is out."""
    mtu_key: bool = False
    """It takes its MTU from its directory (1500 where there is none)."""
    queues: int = 8
    """The most it uses."""
    multicast: Literal["", "dynamic", "offered"] = ""
    """Where it asks for multicast control by itself: nowhere, of a backend whose filter can be changed at any time, of
    every one that has a filter. One that does not by itself does so when it is told to."""
    hashes: bool = False
    """It asks for hashed flows by itself, of a backend that has a control ring."""
    says_queues: Literal["offered", "many", "always", "never"] = "offered"
    """When it writes multi-queue-num-queues: when the backend said how many it has; when it uses more than one."""
    bounces: bool = False
    """It shows a backend that is not trusted (``trusted`` = 0) no more of its memory than the frames."""
    shape: Shape | None = None
    """None: Linux's, which is `FrontQueue` itself."""


OFFLOADS = ("feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6", "feature-ipv6-csum-offload")
NO_CSUM = "feature-no-csum-offload"
CTRL = ("ctrl-ring-ref?", "event-channel-ctrl?")

LINUX = FrontProfile(
    name="linux",
    keys=(),
    takes=EVERYTHING,
    sends=EVERYTHING,
    parse=decimal,
    bounces=True,
)
FREEBSD = FrontProfile(
    name="freebsd",
    keys=("request-rx-copy", "feature-rx-notify", "feature-sg", "feature-gso-tcpv4?", f"{NO_CSUM}?"),
    takes=only("rx-copy", "sg", "gso-tcpv4", "csum-offload", "rx-notify"),
    sends=only("sg", "gso-tcpv4", "csum-offload"),
    parse=byte,
    forgets=True,
    mac=("front", "back"),
    says_queues="many",
    shape=Shape(ids=range(1, 257), free_slots=21),
)
MIRAGE = FrontProfile(
    name="mirage",
    keys=("request-rx-copy", "feature-rx-notify", "feature-sg", "feature-gso-tcpv4", "feature-smart-poll"),
    takes=only("rx-copy", "sg", "gso-tcpv4", "csum-offload", "rx-notify"),
    sends=only("sg"),
    parse=exactly_one,
    needs_rx_copy=False,
    waits=True,
    mtu_key=True,
    queues=1,
    says_queues="never",
    shape=Shape(
        ids=range(1 << 16),
        blank=0,
        block=2048,
        status_checked=True,
        rx_ids="running",
        rx_by_id=True,
        rx_unsigned=True,
    ),
)
WINDOWS = FrontProfile(
    name="windows",
    keys=("request-rx-copy", "feature-rx-notify", NO_CSUM, *OFFLOADS, "request-multicast-control?", *CTRL),
    takes=replace(EVERYTHING, rx_flip=False),
    sends=EVERYTHING,
    parse=binary,
    needs_rx_copy=False,
    connects_at=(S.InitWait, S.Initialised),
    waits=True,
    drives=True,
    disconnect_key=True,
    mtu_key=True,
    multicast="dynamic",
    hashes=True,
    queues=64,
    says_queues="always",
    shape=Shape(
        ids=range(1024),
        min_frame=60,
        header=512,
        group=64,
        tells_dropped=True,
        rx_by_id=True,
        rx_extras=frozenset({XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH}),
        rx_asserts=True,
    ),
)
ILLUMOS = FrontProfile(
    name="illumos",
    keys=("request-rx-copy", "feature-rx-notify", "feature-sg", "feature-gso-tcpv4", "request-multicast-control?"),
    takes=only("rx-copy", "sg", "csum-offload", "rx-notify", "multicast-control"),
    sends=only("sg", "gso-tcpv4", "csum-offload"),
    parse=signed,
    failed=S.Closed,
    state_within=True,
    waits=True,
    mac=("back",),
    multicast="offered",
    queues=1,
    says_queues="never",
    shape=Shape(blank=1, lazy=True, rx_by_id=True),
)

FRONTENDS = {profile.name: profile for profile in (LINUX, FREEBSD, MIRAGE, WINDOWS, ILLUMOS)}
"""By the name a lab file gives them."""


def asked_for(profile: FrontProfile) -> dict[str, bool]:
    """Features that a frontend uses only if it asks for them: whether it does so unless it is told otherwise."""
    return {"multicast-control": bool(profile.multicast), "ctrl-ring": profile.hashes}


RINGS = ("multi-queue-num-queues", "queue-", "tx-ring-ref", "rx-ring-ref", "event-channel")
"""How the keys begin that tell of rings and channels."""


def told(keys: dict[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    """What a driver writes of the keys that Linux's would: those of its rings, and those `wanted`, ``name`` with 0 if
    Linux's has none, ``name?`` only if it is not 0, ``name=value`` whatever Linux's says. All of them, if none is."""
    if not wanted:
        return keys
    found = {name: value for name, value in keys.items() if name.startswith(RINGS) and not name.endswith("-ctrl")}
    for entry in wanted:
        name, fixed, value = entry.rstrip("?").partition("=")
        value = value if fixed else keys.get(name, "0")
        if value != "0" or not entry.endswith("?"):
            found[name] = value
    return found


# --- backends


@dataclass(slots=True, frozen=True)
class BackProfile:
    """A backend."""

    name: str
    keys: tuple[str, ...]
    """Features it writes, one by one, in its order (see `told`). Empty: Linux's, the first of them at once."""
    takes: Features
    """What it offers to take from the frontend."""
    sends: Features
    """What it uses of what the frontend takes."""
    tx_mode: Literal["copy", "map"] | None = None
    """How it takes a frame from the guest; None: as the lab file says."""
    headroom: int = 0
    """Bytes of the guest's page in front of a frame."""
    failed: XenbusState = S.Closing
    """Its state when it cannot connect."""
    sdu: int = 0
    """The most bytes of payload it takes, and the most a link may take that it is plugged into; 0: no such rule."""
    blank_to_guest: bool = True
    """On a vnic (xnbo) it leaves a checksum blank for the guest to take; else it is finished first."""


def offer(home: str, profile: BackProfile, features: Features, max_queues: int) -> Conversation[None]:
    """Write what a backend is able to do: Linux's keys in its order, or the profile's."""
    keys, rest = features.backend_keys(), features.backend_keys_singly(max_queues)
    if profile.keys:
        keys, rest = {}, told(keys, profile.keys)

    def at_once() -> Conversation[None]:
        for key, value in keys.items():
            yield Write(f"{home}/{key}", value)

    if keys:
        yield from in_transaction(at_once)
    for key, value in rest.items():
        yield Write(f"{home}/{key}", value)


XVM_SENDS = only("csum-offload")
XVM_2007 = BackProfile(
    name="xvm-2007",
    keys=(NO_CSUM,),
    takes=only("csum-offload", "rx-flip"),
    sends=XVM_SENDS,
    tx_mode="map",
    headroom=16,
    failed=S.Closed,
    sdu=1500,
    blank_to_guest=False,
)
XVM_2008 = BackProfile(
    name="xvm-2008",
    keys=(NO_CSUM, "feature-rx-copy", "feature-rx-flip=0"),
    takes=only("csum-offload", "rx-copy", "rx-flip"),
    sends=XVM_SENDS,
    tx_mode="map",
    headroom=16,
    failed=S.Closed,
    sdu=1500,
    blank_to_guest=False,
)
XVM_2009 = BackProfile(
    name="xvm-2009",
    keys=("feature-multicast-control", "feature-rx-copy", "feature-rx-flip=0"),
    takes=only("csum-offload", "multicast-control", "rx-copy", "rx-flip"),
    sends=XVM_SENDS,
    tx_mode="copy",
    failed=S.Closed,
    sdu=1500,
    blank_to_guest=False,
)
LINUX_BACK = BackProfile(
    name="linux",
    keys=(),
    takes=EVERYTHING,
    sends=EVERYTHING,
)


def offered(profile: BackProfile, wanted: Features) -> Features:
    """What a backend takes of what a lab file wants; how frames get into the guest is a generation's own."""
    found = both(wanted, profile.takes)
    return replace(found, rx_copy=profile.takes.rx_copy, rx_flip=profile.takes.rx_flip) if profile.keys else found


BACKENDS = {profile.name: profile for profile in (LINUX_BACK, XVM_2007, XVM_2008, XVM_2009)}
"""By the name a lab file gives them."""
