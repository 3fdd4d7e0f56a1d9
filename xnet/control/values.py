"""What a value in a lab file may be: each function takes what TOML gave and returns it checked, or raises ValueError
with the reason and the fix. No file, no network, no state."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

MTU_MIN = 68
"""The smallest an IPv4 link may have (RFC 791)."""
MTU_MAX = 65517
"""netif's 16-bit packet size less the Ethernet header."""
MIB = 1 << 20
VLAN_MAX = 4094
IFNAME_MAX = 15
"""Bytes of an interface name (linux/if.h, IFNAMSIZ less the NUL)."""

DEVICE = re.compile(r"[A-Za-z0-9_.+-]+")
DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
LAB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
SIZE = re.compile(r"(\d+)\s*([KMG]?)(I?B)?", re.IGNORECASE)
BACKEND_NAME = re.compile(r"vif\d+\.\d+|xvm\d+_\d+")
DURATION = re.compile(r"([0-9]{1,9})(us|ms|s)")
TIMES = {"us": 10**6, "ms": 10**3, "s": 1}
"""Of one second."""
UNITS = {"": MIB, "K": 1 << 10, "M": MIB, "G": 1 << 30}


def text(value: object) -> str:
    """Any string."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string in quotes, not {kind(value)}")
    return value


def integer(value: object) -> int:
    """A whole number (true and false are none)."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {kind(value)}")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {kind(value)}")
    return value


def texts(value: object) -> tuple[str, ...]:
    """One string or a list of them."""
    if isinstance(value, list):
        return tuple(text(item) for item in value)
    return (text(value),)


def one_of(*choices: str) -> Callable[[object], str]:
    """A converter that takes these words only."""

    def convert(value: object) -> str:
        word = text(value)
        if word not in choices:
            raise ValueError(f'"{word}" is not one of {listed(choices)}')
        return word

    return convert


def size(value: object) -> int:
    """Bytes, of ``"32M"``, ``"1G"``, ``"512K"``; a bare number is MiB, as in xl.cfg."""
    if isinstance(value, str):
        match = SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f'"{value}" is not a size: write "32M", "1G" or a number of MiB')
        count, unit = int(match[1]), match[2].upper()
    else:
        count, unit = integer(value), ""
    if count <= 0:
        raise ValueError("must be more than nothing")
    return count * UNITS[unit]


def duration(value: object) -> float:
    """Seconds, of ``"10s"``, ``"200ms"``, ``"500us"``; 0 is no time at all."""
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if value == 0 and not isinstance(value, bool):
            return 0.0
        raise ValueError(f'"{value}" is no time: write it as "10s" or "200ms"')
    return int(match[1]) / TIMES[match[2]]


def mtu(value: object) -> int:
    """An MTU, without the Ethernet header."""
    number = integer(value)
    if not MTU_MIN <= number <= MTU_MAX:
        raise ValueError(f"{number} is out of range: an mtu is {MTU_MIN} to {MTU_MAX}")
    return number


def mac(value: object) -> str:
    """A station's own MAC, as six lower-case pairs."""
    word = text(value)
    if MAC.fullmatch(word) is None:
        raise ValueError(f'"{word}" is not a MAC: write six pairs of hex digits, 00:16:3e:00:00:01')
    if int(word[:2], 16) & 1:
        raise ValueError(f'"{word}" is a multicast MAC: the first byte must be even')
    if not int(word.replace(":", ""), 16):
        raise ValueError(f'"{word}" is nobody\'s MAC: write one like 00:16:3e:00:00:01')
    return word.lower()


def address(value: object) -> str:
    """An interface's address with its prefix length, ``10.0.0.1/24``; returned in its shortest spelling."""
    word = text(value)
    bare, slash, prefix = word.partition("/")
    try:
        ip = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f'"{word}" is not an IP address: write 10.0.0.1/24 or fd00::1/64') from None
    if ip.version == 6 and ip.scope_id is not None:
        raise ValueError(f'"{word}" names a zone: leave out "%{ip.scope_id}"')
    if not slash:
        raise ValueError(f'"{word}" has no prefix length: write {word}/{24 if ip.version == 4 else 64}')
    if not prefix.isdigit() or int(prefix) > ip.max_prefixlen:
        raise ValueError(f'"{word}": the prefix length must be 0 to {ip.max_prefixlen}')
    if ip.is_multicast or ip.is_unspecified:
        raise ValueError(f'"{word}" is no address an interface can have')
    if ip.version == 4 and int(prefix) < 31:
        network = ipaddress.IPv4Network(word, strict=False)
        if ip in (network.network_address, network.broadcast_address):
            which = "network" if ip == network.network_address else "broadcast"
            raise ValueError(f'"{word}" is the {which} address of its subnet: pick one between')
    return f"{ip}/{int(prefix)}"


def addresses(value: object) -> tuple[str, ...]:
    """One address or a list of them."""
    return tuple(address(item) for item in texts(value))


def hosts(value: object) -> tuple[str, ...]:
    """One IP without a prefix length or a list of them, at most one for each family (default routes)."""
    found: dict[int, str] = {}
    for word in texts(value):
        try:
            ip = ipaddress.ip_address(word)
        except ValueError:
            raise ValueError(f'"{word}" is not an IP address: write it like 10.0.0.254') from None
        if ip.version in found:
            raise ValueError(f"{found[ip.version]} and {ip}: only one for IPv{ip.version}")
        found[ip.version] = str(ip)
    return tuple(found.values())


def routes(value: object) -> tuple[tuple[str, str], ...]:
    """``"10.2.0.0/24 via 10.9.0.2"`` or a list of such: networks, each with the router to it."""
    found = []
    for word in texts(value):
        network, _, via = (part.strip() for part in word.partition(" via "))
        try:
            to, router = ipaddress.ip_network(network), ipaddress.ip_address(via)
        except ValueError:
            raise ValueError(f'"{word}" is no route: write it like "10.2.0.0/24 via 10.9.0.2"') from None
        if to.version != router.version:
            raise ValueError(f'"{word}": an IPv{to.version} network is not reached through IPv{router.version}')
        found.append((str(to), str(router)))
    return tuple(found)


def vlan_number(what: str) -> Callable[[object], int]:
    """A converter: a VLAN, which messages call `what`; 0 is none."""

    def convert(value: object) -> int:
        number = integer(value)
        if not 0 <= number <= VLAN_MAX:
            raise ValueError(f"{number} is out of range: a {what} is 1 to {VLAN_MAX}, 0 for none")
        return number

    return convert


def device_name(value: object) -> str:
    """A name that a network interface of Linux can have."""
    word = text(value)
    if not word or DEVICE.fullmatch(word) is None or word in (".", ".."):
        raise ValueError(f'"{word}" cannot name an interface: use letters, digits and . _ + -')
    if len(word) > IFNAME_MAX:
        raise ValueError(f'"{word}" is {len(word)} characters long: the kernel takes {IFNAME_MAX}')
    if word == "lo" or BACKEND_NAME.fullmatch(word):
        raise ValueError(f'"{word}" is taken: choose another name')
    return word


def domain_name(value: object) -> str:
    """A guest's name, which is its host name too."""
    word = text(value)
    if DOMAIN.fullmatch(word) is None:
        raise ValueError(f'"{word}" cannot name a domain: at most 64 letters, digits and . _ + -')
    if word.isdigit():
        raise ValueError(f'"{word}" would read as a domain id: add a letter')
    if word.lower() in ("dom0", "domain-0"):
        raise ValueError(f'"{word}" is the control domain: choose another name')
    return word


def lab_name(value: object) -> str:
    """A lab's name, which is a directory's too."""
    word = text(value)
    if LAB.fullmatch(word) is None:
        raise ValueError(f'"{word}" cannot name a lab: at most 32 letters, digits and . _ -')
    return word


def sysctls(value: object) -> dict[str, str]:
    """A table of ``net.…`` settings, values as the kernel reads them."""
    if not isinstance(value, dict):
        raise ValueError('must be a table: sysctl = { "net.ipv4.ip_forward" = 1 }')
    found: dict[str, str] = {}
    for key, setting in flattened(value):
        if not key.startswith("net.") or "/" in key or ".." in key:
            raise ValueError(f'"{key}": only net.… settings belong to one guest')
        if not isinstance(setting, str | int):
            raise ValueError(f'"{key}" must be a number or a string, not {kind(setting)}')
        found[key] = str(int(setting)) if isinstance(setting, bool) else str(setting)
    return found


def switches(known: Sequence[str]) -> Callable[[object], dict[str, bool]]:
    """A converter for a table of names from `known`, each true or false."""

    def convert(value: object) -> dict[str, bool]:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table: {{ {known[0]} = false }}")
        for key, setting in value.items():
            if key not in known:
                raise ValueError(f'unknown feature "{key}": there are {", ".join(known)}')
            if not isinstance(setting, bool):
                raise ValueError(f'"{key}" must be true or false, not {kind(setting)}')
        return dict(value)

    return convert


def flattened(table: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Unquoted dotted keys nest in TOML; as one key each again."""
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        rows += flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows


def kind(value: object) -> str:
    """What TOML calls a value of this type."""
    names = {bool: "true or false", int: "a number", float: "a fraction", str: "a string"}
    names |= {list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def listed(words: Sequence[str]) -> str:
    """``"a", "b"``."""
    return ", ".join(f'"{word}"' for word in words)
