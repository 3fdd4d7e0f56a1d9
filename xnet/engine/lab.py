"""Lab: what a machine is to be, as plain data. `control.config` makes one from a TOML file and checks it; a test or a
program may make one by hand. Sizes in bytes, names as Linux and Xen spell them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xnet.netif.patience import DRAIN_S, STALL_S

MIB = 1 << 20


@dataclass(slots=True, frozen=True)
class BridgeSpec:
    """A Linux bridge in dom0. `existing`: the host's own, used and never deleted (dom0 netns "host" only)."""

    name: str
    address: tuple[str, ...] = ()
    mtu: int = 1500
    existing: bool = False


@dataclass(slots=True, frozen=True)
class EtherstubSpec:
    """A Crossbow etherstub: a switch with no wire."""

    name: str
    mtu: int = 9000


@dataclass(slots=True, frozen=True)
class LinkSpec:
    """A lower link for vnics. Its uplink is a TAP plugged into `bridge` (None: no cable in), or the interface `nic`, or
    one end of a pair of ours whose other end is `veth`; at most one of the three is set."""

    name: str
    bridge: str | None = None
    mtu: int = 1500
    nic: str = ""
    via: Literal["packet", "macvtap"] = "packet"
    """How the frames of `nic` are had: beside its own stack, or by us alone."""
    promiscuous: bool = False
    """Take also frames that are for no vnic here, where the link is `nic`."""
    veth: str = ""
    zone: str = ""
    """Whose namespace has `veth`: "dom0" (or ""), a name of ``ip netns``, or a path."""
    ip: tuple[str, ...] = ()
    """Addresses of `veth`."""


@dataclass(slots=True, frozen=True)
class AggrSpec:
    """An aggregation of links. `policy`: L2, L3, L4 with commas; `mode`: "trunk" or "dlmp" (see `mac.aggr`)."""

    name: str
    links: tuple[str, ...]
    policy: str = "L4"
    mode: str = "trunk"


@dataclass(slots=True, frozen=True)
class LinkBridgeSpec:
    """A learning bridge of links, aggregations and etherstubs (see `mac.bridge`). `protect`: "stp" or "none"."""

    name: str
    links: tuple[str, ...] = ()
    protect: str = "stp"


@dataclass(slots=True, frozen=True)
class VnicSpec:
    """A vnic of dom0's over a link, aggregation or etherstub, or (`vlan`: with the link's own address) a VLAN.

    `zone`: whose namespace has it as an interface ("dom0", a guest, or a name of ``ip netns``), with these addresses;
    "": nobody's. `properties` as dladm sets them.
    """

    name: str
    over: str
    mac: str = ""
    vid: int = 0
    vlan: bool = False
    zone: str = ""
    ip: tuple[str, ...] = ()
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class FlowSpec:
    """A flow of a link: `attributes` and `properties` as flowadm takes them. `link` is a link of dom0, or a guest's vif
    as ``guest/handle``."""

    name: str
    link: str
    attributes: dict[str, str] = field(default_factory=dict)
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class VifSpec:
    """One PV network interface: `bridge` makes it xnbu, `link` (a link or an etherstub) xnbo; exactly one is set."""

    mac: str
    ip: tuple[str, ...] = ()
    bridge: str | None = None
    link: str | None = None
    mtu: int = 1500
    vlan: int = 0
    queues: int = 1
    """The most queues the frontend wants, and the TAPs have."""
    max_queues: int = 0
    """The most the backend offers; 0: as many as the frontend wants."""
    rate: str = ""
    """What the guest may send: the key ``rate``, "bytes,usec"; empty: as much as it likes."""
    rx_drain_s: float = DRAIN_S
    """Seconds a frame waits for a guest without buffers."""
    rx_stall_s: float = STALL_S
    """Seconds without buffers after which a guest is stalled, and its vif without carrier; 0: never."""
    xdp_headroom: int = 0
    """Bytes the guest wants free in front of the data in each page it gets."""
    script: str = ""
    """The hotplug script: "vif-bridge", "vif-vnic" or "vif-dedicated" (the link itself is the guest's)."""
    maxbw: str = ""
    """The cap of its vnic each way, as dladm writes it (xVM's ``capped-bandwidth``); empty: none."""
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """More properties of its vnic."""
    tx_mode: Literal["copy", "map"] = "copy"
    trusted: bool = True
    """Whether the guest may let the backend see more than its frames; False: Linux's frontend clears its pages."""
    frontend_profile: str = "linux"
    """Whose frontend it is: a key of `netif.profile.FRONTENDS`."""
    backend_profile: str = "linux"
    """Whose backend: a key of `netif.profile.BACKENDS`."""
    frontend_features: dict[str, bool] = field(default_factory=dict)
    """What the frontend wants, by key name without ``feature-`` (``sg``, ``gso-tcpv4`` ...); absent: on."""
    backend_features: dict[str, bool] = field(default_factory=dict)
    """What the backend offers, likewise."""


@dataclass(slots=True, frozen=True)
class DomainSpec:
    """A guest. `gateway`: default route, at most one per family; `route`: networks (CIDR), each with the router to it.
    `sysctl`: written in its network namespace."""

    name: str
    type: Literal["pv"] = "pv"
    memory: int = 32 * MIB
    vifs: tuple[VifSpec, ...] = ()
    gateway: tuple[str, ...] = ()
    route: tuple[tuple[str, str], ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)
    autostart: bool = True
    on_crash: str = "destroy"
    """What becomes of it when its first process is killed: "destroy", "restart" or "preserve" (xl's key)."""


@dataclass(slots=True, frozen=True)
class Lab:
    """A whole machine. `memory` 0: as much as the domains, dom0 and the heap need. `heap`: the hypervisor's own."""

    name: str
    domains: tuple[DomainSpec, ...] = ()
    bridges: tuple[BridgeSpec, ...] = ()
    etherstubs: tuple[EtherstubSpec, ...] = ()
    links: tuple[LinkSpec, ...] = ()
    aggrs: tuple[AggrSpec, ...] = ()
    linkbridges: tuple[LinkBridgeSpec, ...] = ()
    vnics: tuple[VnicSpec, ...] = ()
    flows: tuple[FlowSpec, ...] = ()
    memory: int = 0
    dom0_memory: int = 64 * MIB
    heap: int = 16 * MIB
    rx_mode: str = "copy"
    """How frames get into guests whose vif says nothing else: "copy" or "flip"."""
    rx_drain_s: float = DRAIN_S
    rx_stall_s: float = STALL_S
    """How long guests without buffers are waited for, likewise (seconds)."""
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    gro: bool = True
    """Whether segments of a TCP stream are joined on their way to a TAP (`frame.gro`)."""
    dom0_netns: Literal["private", "host"] = "private"
    source: str = ""
    """Path of the file it came from, for messages."""
