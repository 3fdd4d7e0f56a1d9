"""Link properties: which there are, what they may be, and what setting one does."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xnet.engine.datalinks import words
from xnet.engine.datalinks.bundles import TUNABLE
from xnet.engine.datalinks.model import CLIENTS, LOWER, Datalink, Kind
from xnet.engine.datalinks.words import DatalinkError, Status
from xnet.frame import mac_bytes
from xnet.mac import MacError
from xnet.mac.bandwidth import BandwidthError, format_maxbw, parse_maxbw
from xnet.mac.protect import MODES, Protection, parse_cid
from xnet.mac.vswitch import VID_MAX

if TYPE_CHECKING:
    from xnet.engine.datalinks.manager import Datalinks

Values = list[str]
Setter = Callable[["Datalinks", Datalink, Values], Awaitable[None] | None]

WIRES: frozenset[Kind] = frozenset({"phys", "aggr"})
ALL = LOWER | CLIENTS
MTU_MIN, MTU_MAX = 576, 9000
MOST = 32
"""Addresses, or client ids, that may be allowed."""


@dataclass(slots=True, frozen=True)
class Property:
    """One. `take` gets the values, empty for the default, and raises Status for what they cannot be."""

    kinds: frozenset[Kind]
    take: Setter | None = None
    """None: it is only read."""
    default: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()
    get: Callable[[Datalinks, Datalink], Values] | None = None
    """Where the value is not just what was set."""
    kept: bool = True
    """It can be persistent."""


def one_of(link: Datalink, name: str, values: Values) -> str | None:
    """The one value there is; None for the default. Status."""
    if len(values) > 1:
        raise Status(words.EINVAL)
    possible = PROPERTIES[name].possible
    if values and possible and values[0] not in possible:
        raise DatalinkError(f"warning: link property '{name}' must be one of: {','.join(possible)}")
    return values[0] if values else None


def set_mtu(links: Datalinks, link: Datalink, values: Values) -> None:
    """A client's own; a lower link's while nothing is over it."""
    text = one_of(link, "mtu", values)
    if link.vnic is not None:
        most = links.registry.find(link.over[0]).mtu
        size = most if text is None else number(text)
        if not MTU_MIN <= size <= most:
            raise Status("MTU outside of device's supported range")
        if link.user:
            raise Status(words.EBUSY)
        link.vnic.mtu = size
        return
    assert link.switch is not None, "a link has a client or a switch"
    default = 9000 if link.kind == "etherstub" else 1500
    size = default if text is None else number(text)
    if not MTU_MIN <= size <= MTU_MAX or (link.uplink is not None and size > link.uplink.mtu):
        raise Status("MTU outside of device's supported range")
    if links.registry.over(link.name) or link.bridge or link.user:
        raise Status(words.EBUSY)
    link.switch.mtu = size


def number(text: str) -> int:
    """A decimal. Status."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Status(words.EINVAL)
    return int(text)


async def set_zone(links: Datalinks, link: Datalink, values: Values) -> None:
    """Make it an interface of somebody's namespace, or nobody's."""
    name = one_of(link, "zone", values)
    if links.zones is None:
        raise Status(words.ENOTSUP)
    await links.zones.put(link, name)


def set_maxbw(links: Datalinks, link: Datalink, values: Values) -> None:
    """A cap for each direction."""
    text = one_of(link, "maxbw", values)
    if text is None and link.resources is None:
        return
    links.resources_of(link).set_maxbw(None if text is None else bandwidth(text))


def get_maxbw(links: Datalinks, link: Datalink) -> Values:
    """In Mbps, as dladm prints it."""
    bps = link.resources.bps if link.resources is not None else None
    return [] if bps is None else [format_maxbw(bps)]


def tunable(name: str, most: int) -> Setter:
    """The setter of a number that a bridge goes by."""

    def take(links: Datalinks, link: Datalink, values: Values) -> None:
        text = one_of(link, name, values)
        size = TUNABLE[name] if text is None else number(text)
        if size > most:
            raise Status(words.EINVAL)
        if name == "default_tag" and any(each.vid == size != 0 for each in links.registry.over(link.name)):
            raise Status(words.EBUSY)
        link.values[name] = [str(size)]
        links.bundles.tune(link)

    return take


def set_promisc_filtered(links: Datalinks, link: Datalink, values: Values) -> None:
    """Whether a promiscuous client hears what is others'."""
    assert link.vnic is not None, "clients have it"
    link.vnic.filter(one_of(link, "promisc-filtered", values) != "off")


def set_secondary_macs(links: Datalinks, link: Datalink, values: Values) -> None:
    """Addresses besides its own."""
    assert link.vnic is not None, "clients have them"
    found = [mac_bytes(text) for text in values]
    macs = [mac for mac in found if mac is not None]
    if len(macs) < len(found):
        raise Status(words.MAC_INVALID)
    try:
        link.vnic.give(macs)
    except MacError as error:
        raise Status(error.status) from None
    guard = link.vnic.guard
    if isinstance(guard, Protection):
        guard.macs = frozenset(link.vnic.macs)


def vlan_tags_only(links: Datalinks, link: Datalink, values: Values) -> None:
    """Frames have no priority of their own here, so there is none to tag."""
    if one_of(link, "tagmode", values) == "normal":
        raise Status(words.ENOTSUP)


def bandwidth(text: str) -> int:
    """Bits a second. Status."""
    try:
        return parse_maxbw(text)
    except BandwidthError as why:
        raise Status(str(why)) from None


def set_priority(links: Datalinks, link: Datalink, values: Values) -> None:
    """Whose waiting frames go first."""
    text = one_of(link, "priority", values)
    if text is not None or link.resources is not None:
        links.resources_of(link).set_priority(text or "high")


def protect(links: Datalinks, link: Datalink, name: str, values: Values) -> None:
    """One of the three properties of what a client may send changes: check it, and guard the client anew."""
    wanted = {each: link.values.get(each, []) for each in ("protection", "allowed-ips", "allowed-dhcp-cids")}
    wanted[name] = values
    try:
        allowed = [ipaddress.ip_network(text, strict=False) for text in wanted["allowed-ips"]]
        cids = [parse_cid(text) for text in wanted["allowed-dhcp-cids"]]
    except ValueError:
        raise Status(words.EINVAL) from None
    if len(allowed) > MOST or len(cids) > MOST:
        raise Status(words.EINVAL)
    for mode in wanted["protection"]:
        if mode not in MODES:
            raise DatalinkError(f"warning: link property 'protection' must be one of: {','.join(MODES)}")
    assert link.vnic is not None, "clients have them"
    before = link.vnic.guard
    guard = Protection(link.mac, wanted["protection"], links.ticker.clock, allowed, cids)
    guard.macs = frozenset(link.vnic.macs)
    if isinstance(before, Protection):
        guard.counters = before.counters
        if not allowed:
            guard.snoop = before.snoop
    keeps_counts = isinstance(before, Protection) and any(before.counters.values())
    link.vnic.guard = guard if guard.modes or keeps_counts else None


def protection(name: str) -> Setter:
    """The setter of one of the three."""
    return lambda links, link, values: protect(links, link, name, values)


def refused(links: Datalinks, link: Datalink, values: Values) -> None:
    """It is there on Solaris, and means nothing in an engine that is one thread."""
    if values:
        raise Status(words.ENOTSUP)


PROPERTIES: dict[str, Property] = {
    "mtu": Property(ALL, set_mtu, get=lambda links, link: [str(link.mtu)]),
    "zone": Property(CLIENTS, set_zone, kept=False),
    "maxbw": Property(CLIENTS, set_maxbw, get=get_maxbw),
    "cpus": Property(CLIENTS | WIRES, refused),
    "protection": Property(CLIENTS, protection("protection"), possible=MODES),
    "allowed-ips": Property(CLIENTS, protection("allowed-ips")),
    "allowed-dhcp-cids": Property(CLIENTS, protection("allowed-dhcp-cids")),
    "promisc-filtered": Property(CLIENTS, set_promisc_filtered, default=("on",), possible=("off", "on")),
    "secondary-macs": Property(CLIENTS, set_secondary_macs),
    "tagmode": Property(WIRES, vlan_tags_only, default=("vlanonly",), possible=("normal", "vlanonly")),
    "default_tag": Property(LOWER, tunable("default_tag", VID_MAX), default=(str(TUNABLE["default_tag"]),)),
    "forward": Property(LOWER, tunable("forward", 1), default=(str(TUNABLE["forward"]),), possible=("0", "1")),
    "stp": Property(LOWER, tunable("stp", 1), default=(str(TUNABLE["stp"]),), possible=("0", "1")),
    "learn_limit": Property(LOWER, tunable("learn_limit", 2**31 - 1), default=(str(TUNABLE["learn_limit"]),)),
    "learn_decay": Property(LOWER, tunable("learn_decay", 2**31 - 1), default=(str(TUNABLE["learn_decay"]),)),
    "priority": Property(CLIENTS, set_priority, default=("high",), possible=("low", "medium", "high")),
}


def of(link: Datalink) -> dict[str, Property]:
    """Those a link of this class has."""
    return {name: each for name, each in PROPERTIES.items() if link.kind in each.kinds}


def value_of(links: Datalinks, link: Datalink, name: str, each: Property) -> Values:
    """What it is now."""
    return each.get(links, link) if each.get is not None else link.values.get(name, list(each.default))


def describe_properties(links: Datalinks, link: Datalink) -> list[dict[str, Any]]:
    """All of a link's, as show-linkprop has them."""
    return [
        {
            "name": name,
            "perm": "rw" if each.take is not None else "r-",
            "value": value_of(links, link, name, each),
            "default": list(each.default),
            "possible": list(each.possible),
        }
        for name, each in of(link).items()
    ]


async def set_properties(
    links: Datalinks, link: Datalink, wanted: Mapping[str, Sequence[str]], temporary: bool
) -> None:
    """Set some, an empty value being the default. DatalinkError; those before stay set, as with dladm."""
    for name, given in wanted.items():
        each, values = of(link).get(name), list(given)
        what = f"cannot set link property '{name}' on '{link.name}'"
        if each is None:
            raise DatalinkError(f"warning: invalid link property '{name}'")
        if each.take is None:
            raise DatalinkError(what, words.EPERM)
        if not temporary and not each.kept and values:
            raise DatalinkError(what, words.NOT_PERSISTENT)
        try:
            done = each.take(links, link, values)
            if done is not None:
                await done
        except Status as why:
            raise DatalinkError(what, why.status) from None
        if values:
            link.values[name] = values
        else:
            link.values.pop(name, None)
        if not temporary and each.kept:
            links.store.set(link.name, {name: values})
