"""A vif as the lab file writes it: a table, or a string in the grammar of xl.cfg (xl-network-configuration(5)).

Both become a `VifSpec`. What Xen has and this version does not is refused by name, never passed over in silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, TypeVar, cast

from xnet.control.crossbow import link_properties, properties, word
from xnet.control.rate import rate
from xnet.control.reader import Table, nearest
from xnet.control.values import addresses, duration, flag, integer, mac, mtu, one_of, switches, text, vlan_number
from xnet.engine.lab import Lab, VifSpec
from xnet.errors import ConfigError, XnetError
from xnet.mac.bandwidth import MAXBW
from xnet.netif.features import FEATURE_NAMES, HEADROOM_MAX
from xnet.netif.profile import BACKENDS, FRONTENDS

T = TypeVar("T")

RX_MODE = one_of("copy", "flip")
"""Into the guest: HVcopy, or page flipping."""

SCRIPTS = {"bridge": ("vif-bridge",), "link": ("vif-vnic", "vif-dedicated")}
"""The hotplug scripts for each way of plugging a vif in; the first is the one when none is said."""

XL_LATER = {
    "gatewaydev": "routed vifs are",
    "netdev": "routed vifs are",
    "model": "emulated network cards are",
    "vifname": "a name of your own for the backend device is",
    "devid": "choosing the device id is",
}
"""Keys of the xl grammar whose feature comes later."""

QUEUES_MAX = 16
"""Of a vif: each is 548 pages of its guest's."""

DEFAULT_BRIDGE = "xenbr0"
"""Where xl plugs a vif that names no bridge."""


def plugs(lab: Lab) -> tuple[dict[str, int], dict[str, int]]:
    """What a vif can be plugged into, by name: bridges, links (etherstubs and aggregations are some here), each with
    its mtu."""
    stubs, links = ({each.name: each.mtu for each in lab.etherstubs}, {each.name: each.mtu for each in lab.links})
    aggrs = {each.name: min((links[name] for name in each.links if name in links), default=0) for each in lab.aggrs}
    return {each.name: each.mtu for each in lab.bridges}, stubs | links | aggrs


def default_mac(lab: str, domain: str, index: int) -> str:
    """A MAC in Xen's 00:16:3e range that stays the same from run to run."""
    digest = hashlib.sha256(f"{lab}/{domain}/{index}".encode()).digest()
    return f"00:16:3e:{digest[0] & 0x7F:02x}:{digest[1]:02x}:{digest[2]:02x}"


def not_yet(what: str) -> Callable[[object], None]:
    """A converter that refuses whatever it gets: the feature comes in a later version."""

    def refuse(value: object) -> None:
        raise ValueError(f"{what} not supported yet: take it out")

    return refuse


def parse_xl(spec: str) -> dict[str, object]:
    """``mac=…,bridge=…`` as the table it stands for (an empty string: on xenbr0). ValueError tells what is wrong."""
    found: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key in found:
            raise ValueError(f'"{key}" twice')
        if key in XL_LATER:
            raise ValueError(f'"{key}": {XL_LATER[key]} not supported yet: take it out')
        if key in ("trusted", "untrusted"):
            found["trusted"] = trusts(key, value)
            continue
        if not equals or not value:
            raise ValueError(f'"{part}": write it as key=value')
        found[key] = value
    if found.get("type", "vif") != "vif":
        raise ValueError('type=ioemu: emulated network cards are not supported yet, take it out or write "type=vif"')
    found.pop("type", None)
    for key in ("mtu", "queues", "max_queues", "vlan", "vlanid"):
        if str(found.get(key, "")).isdigit():
            found[key] = int(str(found[key]))
    if "ip" in found:
        found["ip"] = str(found["ip"]).split()
    if "bridge" not in found and "link" not in found:
        found["bridge"] = DEFAULT_BRIDGE
    return found


def vif_of_words(words: list[str], lab: Lab, domain: str, index: int) -> VifSpec:
    """The vif that ``key=value`` words describe, as xl network-attach takes them. XnetError tells all that is wrong."""
    problems: list[ConfigError] = []
    try:
        table = Table(parse_xl(",".join(words)), "", problems)
    except ValueError as error:
        raise ConfigError("", str(error)) from None
    spec = read_vif(table, default_mac(lab.name, domain, index), lab)
    table.finish()
    if problems:
        raise XnetError("\n".join(map(str, problems)))
    return spec


def trusts(key: str, value: str) -> bool:
    """``trusted``, ``untrusted``, ``trusted=0``: whether the backend is."""
    if value not in ("", "0", "1"):
        raise ValueError(f'"{key}={value}": write {key}=0 or {key}=1')
    return (value != "0") == (key == "trusted")


def read_vifs(domain: Table, lab: Lab, name: str) -> list[tuple[Table, VifSpec]]:
    """A domain's vifs, each with the table it was read from (for later messages)."""
    domain.asked.append("vif")
    rows = domain.data.get("vif", [])
    if not isinstance(rows, list):
        domain.wrong("vif", "must be a list: vif = [ … ]")
        return []
    found: list[tuple[Table, VifSpec]] = []
    for index, row in enumerate(rows):
        place = domain.place(f"vif[{index}]")
        if isinstance(row, str):
            try:
                row = parse_xl(row)
            except ValueError as error:
                domain.wrong(f"vif[{index}]", str(error))
                continue
        if not isinstance(row, dict):
            domain.wrong(f"vif[{index}]", 'must be a table { bridge = "…" } or a string "bridge=…"')
            continue
        table = domain.child(row, place)
        found.append((table, read_vif(table, default_mac(lab.name, name, index), lab)))
    return found


def read_vif(table: Table, fallback_mac: str, lab: Lab) -> VifSpec:
    """One vif. Wrong values are noted in the table's problems and replaced by their defaults."""
    bridge, link, limit = plugged(table, lab)
    none: dict[str, bool] = {}
    both = table.get("features", switches(FEATURE_NAMES), none)
    flip = table.get("rx_mode", RX_MODE, lab.rx_mode) == "flip"
    front_profile, back_profile, tx_mode = profiles(table, flip)
    front, back = ({"rx-copy": False, "rx-flip": True}, {"rx-flip": True}) if flip else (none, none)
    wanted_mtu = table.get("mtu", mtu, limit)
    if wanted_mtu > limit:
        table.wrong("mtu", f'{wanted_mtu} is more than the {limit} of "{bridge or link}": raise that one or lower this')
    refuse_later(table)
    return VifSpec(
        mac=table.get("mac", mac, fallback_mac),
        ip=table.get("ip", addresses, ()),
        bridge=bridge,
        link=link,
        mtu=wanted_mtu,
        vlan=either(table, "vlan", "vlanid", vlan_number("vlan"), 0) if link else 0,
        maxbw=either(table, "maxbw", "capped-bandwidth", bandwidth, "") if link else "",
        properties=table.get("properties", properties(link_properties()), {}) if link else {},
        queues=table.get("queues", queues, 1),
        max_queues=table.get("max_queues", queues, 0),
        rate=table.get("rate", rate, ""),
        xdp_headroom=headroom(table, front_profile, flip),
        rx_drain_s=table.get("rx_drain_timeout", drain, lab.rx_drain_s),
        rx_stall_s=table.get("rx_stall_timeout", duration, lab.rx_stall_s),
        script=script(table, "bridge" if bridge else "link"),
        tx_mode=tx_mode,
        trusted=table.get("trusted", flag, True),
        frontend_profile=front_profile,
        backend_profile=back_profile,
        frontend_features=front | both | table.get("frontend_features", switches(FEATURE_NAMES), none),
        backend_features=back | both | table.get("backend_features", switches(FEATURE_NAMES), none),
    )


def profiles(table: Table, flip: bool) -> tuple[str, str, Literal["copy", "map"]]:
    """Whose frontend, whose backend, and how that one takes frames."""
    front = table.get("frontend_profile", one_of(*FRONTENDS), "linux")
    back = table.get("backend_profile", one_of(*BACKENDS), "linux")
    tx_mode = cast(Literal["copy", "map"], table.get("tx_mode", one_of("copy", "map"), "copy"))
    if flip and not FRONTENDS[front].takes.rx_flip:
        table.wrong("frontend_profile", f'"{front}" takes frames by copy only: write rx_mode = "copy"')
    if flip and not table.data.get("trusted", True):
        table.wrong("trusted", 'a frontend that flips pages hides none: write rx_mode = "copy", or trusted = true')
    own = BACKENDS[back].tx_mode
    if own is not None and table.has("tx_mode") and tx_mode != own:
        table.wrong("tx_mode", f'"{back}" takes frames by {own} only: take tx_mode out')
    return front, back, own or tx_mode


def plugged(table: Table, lab: Lab) -> tuple[str | None, str | None, int]:
    """(bridge, link, its mtu): exactly one of the two names is set when nothing is wrong."""
    bridges, links = plugs(lab)
    bridge: str | None = table.get("bridge", text, "") or None
    link: str | None = table.get("link", text, "") or None
    if bridge and not link and str(table.data.get("script", "")).rpartition("/")[2] in SCRIPTS["link"]:
        bridge, link = None, bridge  # as xVM's xend has it
    if bridge and link:
        table.wrong("", "has both bridge and link: keep one (bridge: a Linux bridge, link: a vnic)")
    elif not table.has("bridge") and not table.has("link"):
        table.wrong("", 'is plugged into nothing: add bridge = "…" or link = "…"')
    for key, name, here, there in (
        ("bridge", bridge, bridges, links),
        ("link", link, links, bridges),
    ):
        if name is None or name in here:
            continue
        if name in there:
            other = "link" if key == "bridge" else "bridge"
            table.wrong(key, f'"{name}" is a {other}: write {other} = "{name}"')
        else:
            table.wrong(key, f'there is no {key} "{name}"{nearest(name, here)}')
    limit = bridges.get(bridge or "", links.get(link or "", 1500))
    return bridge, link, limit


def headroom(table: Table, front_profile: str, flip: bool) -> int:
    """Room in front of the data in each page the guest gets."""

    def convert(value: object) -> int:
        number = integer(value)
        if not 0 <= number <= HEADROOM_MAX:
            raise ValueError(f"{number} is out of range: headroom is 0 to {HEADROOM_MAX} bytes (Linux's XDP wants 256)")
        return number

    found = table.get("xdp_headroom", convert, 0)
    if found and front_profile != "linux":
        table.wrong("xdp_headroom", f'"{front_profile}" does not ask for headroom, only "linux" does: take it out')
    elif found and flip:
        table.wrong("xdp_headroom", 'pages that are flipped have none: write rx_mode = "copy", or take it out')
    return found


def drain(value: object) -> float:
    """How long a frame waits: some time."""
    seconds = duration(value)
    if not seconds:
        raise ValueError(f'"{value}": a frame must wait for some time: write "10ms" or more')
    return seconds


def script(table: Table, how: str) -> str:
    """The hotplug script: only those we stand in for, each where it belongs."""
    known = SCRIPTS[how]

    def convert(value: object) -> str:
        word = text(value)
        name = word.rpartition("/")[2]
        if name not in known:
            raise ValueError(
                f'"{word}": scripts of your own are not supported yet; on a {how} it is {" or ".join(known)}'
            )
        return name

    return table.get("script", convert, known[0])


def either(table: Table, key: str, xvms: str, convert: Callable[[object], T], none: T) -> T:
    """The value of a key, or of the name it has in xVM."""
    ours, theirs = table.get(key, convert, none), table.get(xvms, convert, none)
    if table.has(key) and table.has(xvms):
        table.wrong(xvms, f"is the same as {key}: keep one")
    return ours or theirs


def bandwidth(value: object) -> str:
    """A cap as dladm takes it."""
    found = word(value)
    if MAXBW.fullmatch(found) is None:
        raise ValueError(f'"{found}" is no bandwidth: write it as "100M" (bits a second; a bare number is Mbps)')
    return found


def refuse_later(table: Table) -> None:
    """Note keys whose feature this version does not have."""
    table.get("backend", backend, "dom0")


def queues(value: object) -> int:
    """Ring pairs of a vif."""
    count = integer(value)
    if not 1 <= count <= QUEUES_MAX:
        raise ValueError(f"{count} is no number of queues: write 1 to {QUEUES_MAX}")
    return count


def backend(value: object) -> str:
    """The domain that serves the vif: dom0."""
    word = text(value)
    if word.lower() not in ("dom0", "domain-0", "0"):
        raise ValueError(f'"{word}": driver domains are not supported yet, only dom0 serves vifs')
    return "dom0"
