"""Writes docs/netif.md: what the code relies on, from the code's own tables and from what it does when it is run.

python tools/netif_doc.py          write it        python tools/netif_doc.py --check    say whether it is as it would be
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct, calcsize
from types import ModuleType
from typing import Any

from xnet.abi.xen import PAGE_SIZE, netif, ring, xenbus
from xnet.abi.xen.netif import EXTRA_GSO, TX_REQUEST, TX_SLOT_SIZE
from xnet.abi.xen.ring import HEADER_SIZE, nr_ents
from xnet.netif import BadRing
from xnet.netif.back import WANTED
from xnet.netif.back_queue import WAITING_BYTES
from xnet.netif.gather import next_packet
from xnet.testing import World
from xnet.xenstore.xenbus import TRANSITIONS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "netif.md"
TEMPLATE = Path(__file__).with_name("netif.md.in")
COMMENTED = re.compile(r"^(?P<name>\w+): Final = Struct\(\"(?P<format>[^\"]+)\"\)\s+# (?P<fields>.+)$", re.MULTILINE)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def layouts(module: ModuleType) -> Iterator[str]:
    """Each Struct of an abi module, field by field; the names stand behind it in a comment."""
    for found in COMMENTED.finditer(inspect.getsource(module)):
        form, names = found["format"], found["fields"].split()
        at, rows = 0, []
        for code in re.findall(r"\d*[a-zA-Z]", form.lstrip("<>=!")):
            size = calcsize(f"<{code}")
            name = "(padding)" if code[-1] == "x" else names.pop(0)
            kind = (
                f"{size} bytes"
                if code[-1] in "sx"
                else f"{'s' if code.islower() and code in 'bhiq' else 'u'}{8 * size}"
            )
            rows.append((at, size, kind, f"`{name}`"))
            at += size
        assert (at, names) == (Struct(form).size, [])
        yield f"`{found['name']}`, {at} bytes\n\n" + table(("offset", "size", "type", "field"), rows)


def constants(module: ModuleType, *prefixes: str) -> str:
    """The numbers whose names begin so."""
    rows = [
        (f"`{name}`", value)
        for name, value in vars(module).items()
        if isinstance(value, int) and name.startswith(prefixes)
    ]
    return table(("name", "value"), rows)


def rings() -> str:
    """Which rings there are, and how many slots fit in a page."""
    rows = []
    for name, request, response in (("tx", 12, 4), ("rx", 8, 8), ("control", 16, 12)):
        slot = max(request, response)
        count = nr_ents(slot)
        rows.append((name, request, response, slot, count, f"{HEADER_SIZE} to {HEADER_SIZE + count * slot - 1}"))
    return table(("ring", "request", "response", "slot", "slots in a page", "bytes of the page"), rows)


def states() -> str:
    """The way of a backend from state to state."""
    steps = sorted({(at, step) for (at, _), step in TRANSITIONS.items()})
    lines = [f"    {at.name} --> {step.name}" for at, step in steps]
    return "```mermaid\nstateDiagram-v2\n    [*] --> Initialising\n" + "\n".join(lines) + "\n```"


def wanted() -> str:
    """What a frontend's state asks of the backend."""
    rows = [
        (f"{state.value} {state.name}", WANTED[state].name if state in WANTED else "nothing")
        for state in xenbus.XenbusState
    ]
    return table(("frontend's state", "the backend goes to"), rows)


def recorded() -> str:
    """What both ends write while they connect, in order, as a world without a clock does it."""
    with World() as world:
        guest = world.guest("a")
        world.plan(guest.domain.domid)
        vif = world.vif(guest, 1, start="none")
        journal = world.record(vif.back_home, vif.front_home)
        vif.netback.start()
        world.step()
        vif.netfront.start()
        world.step()
        homes = {vif.back_home: "backend", vif.front_home: "frontend"}
        rows = []
        for path, value in journal:
            home = next(home for home in homes if path.startswith(home))
            rows.append((homes[home], f"`{path.removeprefix(home + '/')}`", f"`{value}`"))
    return table(("who", "key", "value"), rows)


def slot(size: int, *, flags: int = 0, offset: int = 0) -> bytes:
    """A tx request."""
    return TX_REQUEST.pack(8, offset, flags, 0, size)


def extra(kind: int, *, flags: int = 0, size: int = 1448, gso: int = 1) -> bytes:
    """An extra in a tx slot."""
    return EXTRA_GSO.pack(kind, flags, size, gso, 0, 0).ljust(TX_SLOT_SIZE, b"\0")


MORE, INFO, BLANK = netif.NETTXF_more_data, netif.NETTXF_extra_info, netif.NETTXF_csum_blank
PACKETS = {
    "14 bytes in one slot": [slot(14)],
    "13 bytes": [slot(13)],
    "a whole page": [slot(PAGE_SIZE)],
    "offset + size past the page": [slot(PAGE_SIZE, offset=1)],
    "a later slot past its page": [slot(5000, flags=MORE), slot(PAGE_SIZE, offset=1)],
    "more_data, and the ring ends": [slot(5000, flags=MORE)],
    "extra_info, and the ring ends": [slot(60, flags=INFO)],
    "later slots of more than the packet's size": [slot(100, flags=MORE), slot(101)],
    "a first fragment of 13 bytes, later ones more": [slot(100, flags=MORE), slot(87)],
    "a later slot of no bytes": [slot(100, flags=MORE), slot(0)],
    "18 slots": [slot(17 * 100 + 100, flags=MORE), *[slot(100, flags=MORE)] * 16, slot(100)],
    "19 slots": [slot(18 * 100 + 100, flags=MORE), *[slot(100, flags=MORE)] * 17, slot(100)],
    "20 slots": [slot(19 * 100 + 100, flags=MORE), *[slot(100, flags=MORE)] * 18, slot(100)],
    "21 slots": [slot(20 * 100 + 100, flags=MORE), *[slot(100, flags=MORE)] * 19, slot(100)],
    "22 slots": [slot(21 * 100 + 100, flags=MORE), *[slot(100, flags=MORE)] * 20, slot(100)],
    "a GSO extra": [slot(3000, flags=INFO | BLANK), extra(1)],
    "a GSO extra without csum_blank": [slot(3000, flags=INFO), extra(1)],
    "GSO of size 0": [slot(3000, flags=INFO | BLANK), extra(1, size=0)],
    "a GSO type nobody knows": [slot(3000, flags=INFO | BLANK), extra(1, gso=3)],
    "a hash extra": [slot(60, flags=INFO), extra(4)],
    "a chain of two extras": [slot(3000, flags=INFO | BLANK), extra(1, flags=1), extra(4)],
    "an extra of type 0": [slot(60, flags=INFO), extra(0)],
    "an extra of type 5": [slot(60, flags=INFO), extra(5)],
    "a multicast extra": [slot(0, flags=INFO), extra(2)],
}


def verdicts() -> str:
    """What becomes of packets, by asking the rules."""
    rows = []
    for name, slots in PACKETS.items():
        try:
            packet = next_packet(b"".join(slots), 0)
        except BadRing as error:
            rows.append((name, f"**fatal**: {error}"))
        else:
            said = "answered at once" if "multicast" in name else f"ERROR for each slot, `{packet.error}`"
            rows.append((name, said if packet.error else "taken"))
    return table(("on the ring", "verdict"), rows)


CONTROL = {
    "GET_HASH_FLAGS": ("", "a mask of kinds", "no algorithm is set: NOT_SUPPORTED"),
    "SET_HASH_FLAGS": ("a mask of kinds; 0: none", "", "a bit nobody knows, or no algorithm"),
    "SET_HASH_KEY": (
        "reference, bytes",
        "",
        "more than 40 bytes, a page that cannot be read; fewer are filled with zeros",
    ),
    "GET_HASH_MAPPING_SIZE": ("", "the most entries", ""),
    "SET_HASH_MAPPING_SIZE": ("entries; 0: no mapping", "", "more than there may be; all entries are queue 0 then"),
    "SET_HASH_MAPPING": ("reference, entries, the first", "", "entries past the mapping, or a queue there is not"),
    "SET_HASH_ALGORITHM": ("an algorithm", "", "one nobody knows"),
}
"""Control requests: what their data words are, what the answer's is, and what makes it INVALID_PARAMETER."""


def control() -> str:
    """`CONTROL`, with its numbers; KeyError if one is missing."""
    prefix = "XEN_NETIF_CTRL_TYPE_"
    names = [name.removeprefix(prefix) for name in vars(netif) if name.startswith(prefix)]
    rows = [(getattr(netif, prefix + name), f"`{name}`", *CONTROL[name]) for name in names if name != "INVALID"]
    return table(("type", "name", "data", "answer", "refused"), rows)


KEYS = {
    "mac": ("toolstack, both ends", "needed", "the guest's address; which end's copy is read is in profiles.md"),
    "handle": ("toolstack, both ends", "needed", "the vif's number in its guest"),
    "mtu": ("toolstack, both ends", "1500", "the largest payload; Linux's frontend does not read it"),
    "trusted": ("toolstack, frontend", "1", "0: the frontend shows the backend copies of its frames only"),
    "online": ("toolstack, backend", "0", "0: Closed is for good"),
    "rate": (
        "toolstack, backend",
        "no limit",
        "`bytes,usec` of credit for what the guest sends; read again when changed",
    ),
    "hotplug-status": ("hotplug script, backend", "waited for", "`connected`, or `error` with `hotplug-error`"),
    "disconnect": ("toolstack, frontend", "0", "1: the cable is out; only Windows looks"),
    "feature-sg": ("both", "0", "takes frames of more than one slot; without it they are at most a page"),
    "feature-gso-tcpv4": ("both", "0", "takes unsegmented TCP; needs sg and blank checksums"),
    "feature-gso-tcpv6": ("both", "0", "the same, IPv6"),
    "feature-no-csum-offload": ("both", "0", "1: takes no blank checksums over IPv4"),
    "feature-ipv6-csum-offload": ("both", "0", "takes blank checksums over IPv6"),
    "feature-rx-copy": ("backend", "0", "is able to copy into granted pages"),
    "feature-rx-flip": ("backend", "1", "is able to flip pages"),
    "request-rx-copy": ("frontend", "flips, if offered", "1: copy into my pages; 0: flip"),
    "feature-rx-notify": (
        "frontend",
        "0",
        "sends an event when it posts buffers; without it, nobody waits long for them",
    ),
    "feature-smart-poll": ("frontend", "0", "nobody looks at it; MirageOS writes it"),
    "feature-split-event-channels": ("backend", "0", "takes a channel for each ring"),
    "event-channel": ("frontend", "or the two below", "one for both rings"),
    "event-channel-tx": ("frontend", "with `event-channel-rx`", "one for tx alone"),
    "event-channel-rx": ("frontend", "with `event-channel-tx`", "one for rx alone"),
    "tx-ring-ref": ("frontend", "needed", "the ring page's grant"),
    "rx-ring-ref": ("frontend", "needed", "the ring page's grant"),
    "multi-queue-max-queues": ("backend", "1", "queues it is able to have"),
    "multi-queue-num-queues": ("frontend", "1", "queues there are; more than the backend's is an error"),
    "feature-multicast-control": ("backend", "0", "sends only multicast that was asked for, if told to"),
    "feature-dynamic-multicast-control": ("backend", "0", "that may be told at any time, not only on connect"),
    "request-multicast-control": ("frontend", "0", "tells it to; groups come and go by extras on the tx ring"),
    "feature-ctrl-ring": ("backend", "0", "hashes flows as the guest says, on a ring of its own"),
    "ctrl-ring-ref": ("frontend", "no control ring", "that ring page's grant; one for all queues"),
    "event-channel-ctrl": ("frontend", "needed with it", "its channel"),
    "feature-xdp-headroom": ("backend", "0", "leaves bytes free in front of the data in each page"),
    "xdp-headroom": ("frontend", "0", "how many; changed while connected by way of Reconfiguring"),
}
"""Keys by who writes them where, what their absence means, and what they say."""
NEGOTIATED = re.compile(r"\"((?:feature|request|multi-queue|xdp|event-channel)-[a-z0-9-]+|(?:[tr]x|ctrl)-ring-ref)\"")


def keys() -> str:
    """`KEYS`; AssertionError if the code knows one that is not there, or the other way round."""
    homes = [*(ROOT / "xnet" / "netif").rglob("*.py"), ROOT / "xnet" / "xenstore" / "toolstack.py"]
    source = "\n".join(path.read_text() for path in homes)
    missing = set(NEGOTIATED.findall(source)) - set(KEYS)
    assert not missing, f"keys without a description: {missing}"
    unknown = {key for key in KEYS if not re.search(rf"[\"/}}]{key}\"", source)}
    assert not unknown, f"keys that the code does not know: {unknown}"
    return table(("key", "written by", "absent", "meaning"), [(f"`{key}`", *said) for key, said in KEYS.items()])


def counters() -> str:
    """Names of counters, from where they are counted."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "xnet" / "netif").rglob("*.py")):
        for name in re.findall(r"\b(?:count|drop)\(\"(\w+)\"", path.read_text()):
            found.setdefault(name, set()).add(path.stem)
        for name in re.findall(r"error = (?:error or )?\"(tx_\w+)\"", path.read_text()):
            found.setdefault(name, set()).add(path.stem)
    return table(
        ("counter", "counted in"), [(f"`{name}`", ", ".join(sorted(where))) for name, where in sorted(found.items())]
    )


def document() -> str:
    """The whole page."""
    parts: dict[str, Any] = {
        "rings": rings(),
        "ring_constants": constants(ring, "REQ_", "RSP_"),
        "layouts": "\n\n".join(layouts(netif)),
        "grant_layouts": "\n\n".join(layouts(importlib.import_module("xnet.abi.xen.grant_table"))),
        "tx_flags": constants(netif, "NETTXF_"),
        "rx_flags": constants(netif, "NETRXF_"),
        "extras": constants(netif, "XEN_NETIF_EXTRA_", "XEN_NETIF_GSO_"),
        "control": control(),
        "hash_kinds": constants(netif, "XEN_NETIF_CTRL_HASH_"),
        "statuses": constants(netif, "XEN_NETIF_RSP_"),
        "verdicts": verdicts(),
        "recorded": recorded(),
        "keys": keys(),
        "states": states(),
        "wanted": wanted(),
        "counters": counters(),
        "waiting_kib": WAITING_BYTES >> 10,
    }
    text = TEMPLATE.read_text()
    for name, part in parts.items():
        assert f"{{{{{name}}}}}" in text, name
        text = text.replace(f"{{{{{name}}}}}", str(part))
    assert "{{" not in text, "a part that nobody made"
    return text


def main() -> None:
    """Write the page, or look whether it is as it should be."""
    text = document()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"{PAGE} is old: python tools/netif_doc.py")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
