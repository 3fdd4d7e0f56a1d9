"""What the toolstack writes for a domain and its vifs: Xen's libxl, node by node, in its order, with its permissions.

Three directories describe a vif: the frontend's ``/local/domain/N/device/vif/H`` (the guest's), the backend's
``/local/domain/D/backend/vif/N/H``, and ``/libxl/N/device/vif/H``, the toolstack's own memory of it. The drivers see
them appear at once, for all is one transaction. Source: a trace of a real ``xl create`` (Xen 4.17), libxl_nic.c,
libxl_device.c, libxl_create.c, libxl_dom.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import StoreError
from xnet.xenstore.client import Conversation, in_transaction, listing
from xnet.xenstore.ops import Introduce, Mkdir, Read, Release, Rm, SetPerms, Write

BEFORE_MAC = ("script", "vifname", "forwarddev")
AFTER_MAC = ("ip", "gatewaydev", "rate", "mtu", "vlan", "bridge")
"""Optional keys of the backend's directory, in libxl's order: around ``mac``, before ``handle``."""

DEFAULT_SCRIPT = "/etc/xen/scripts/vif-bridge"
DEFAULT_MTU = "1500"

GUEST_READABLE = ("cpu", "memory", "device", "control")
GUEST_OWNED = (
    *("control/shutdown", "control/feature-poweroff", "control/feature-reboot", "control/feature-suspend"),
    *("control/sysrq", "data", "drivers", "feature", "attr", "error"),
)
"""What libxl makes in a domain's directory for the domain to read, and to use as it likes."""


class VifPaths(NamedTuple):
    """The three directories of a vif."""

    front: str
    back: str
    libxl: str


def vif_paths(domid: int, handle: int, backend_domid: int = 0) -> VifPaths:
    return VifPaths(
        front=f"/local/domain/{domid}/device/vif/{handle}",
        back=f"/local/domain/{backend_domid}/backend/vif/{domid}/{handle}",
        libxl=f"/libxl/{domid}/device/vif/{handle}",
    )


def add_vif(
    domid: int,
    handle: int,
    *,
    mac: str,
    backend_domid: int = 0,
    bridge: str | None = None,
    trusted: bool = True,
    extra: Mapping[str, str] | None = None,
) -> Conversation[VifPaths]:
    """Write a vif's three directories. `trusted`: the frontend need not hide its memory from the backend. `extra`: more
    keys of the backend's, `AFTER_MAC` ones at libxl's place.

    StoreError EEXIST when the vif is there.
    """
    paths = vif_paths(domid, handle, backend_domid)
    back = backend_keys(domid, handle, mac=mac, bridge=bridge, extra=extra or {})
    mtu = back.get("mtu", DEFAULT_MTU)
    guest, owner = f"n{domid} r{backend_domid}".split(), f"n{backend_domid} r{domid}".split()

    def body() -> Conversation[None]:
        if (yield Read(paths.libxl)) is not None:
            raise StoreError("EEXIST", paths.libxl)
        yield from _rm(paths.libxl)
        yield Write(f"{paths.libxl}/frontend", paths.front)
        yield Write(f"{paths.libxl}/backend", paths.back)
        yield from _directory(paths.front, guest)
        yield Write(f"{paths.front}/backend", paths.back)
        front: dict[str, str | int] = {
            "backend-id": backend_domid,
            "state": 1,
            "handle": handle,
            "mac": mac,
            "trusted": int(trusted),
        }
        for key, value in front.items():
            yield Write(f"{paths.front}/{key}", value)
            yield SetPerms(f"{paths.front}/{key}", guest)
        yield Write(f"{paths.front}/mtu", mtu)
        yield SetPerms(f"{paths.front}/mtu", owner)
        yield from _directory(paths.back, owner)
        yield Write(f"{paths.back}/frontend", paths.front)
        for home in (paths.back, paths.libxl):
            for key, text in back.items():
                yield Write(f"{home}/{key}", text)

    yield from in_transaction(body)
    return paths


def backend_keys(domid: int, handle: int, *, mac: str, bridge: str | None, extra: Mapping[str, str]) -> dict[str, str]:
    """The backend directory's keys after ``frontend``, in libxl's order; keys libxl does not know come at the end."""
    given = {"script": DEFAULT_SCRIPT, **extra}
    if bridge is not None:
        given["bridge"] = bridge
    if given.get("mtu") == DEFAULT_MTU:
        del given["mtu"]
    keys = {"frontend-id": str(domid), "online": "1", "state": "1"}
    keys |= {key: given.pop(key) for key in BEFORE_MAC if key in given}
    keys["mac"] = mac
    keys |= {key: given.pop(key) for key in AFTER_MAC if key in given}
    keys |= {"handle": str(handle), "type": "vif", "hotplug-status": ""}
    return keys | given


def hotplug_connected(back: str) -> Conversation[None]:
    """What a hotplug script writes at its end, in the backend's directory."""
    yield Write(f"{back}/hotplug-status", "connected")


def hotplug_failed(back: str, reason: str) -> Conversation[None]:
    """What it writes when it could not do its work."""
    yield Write(f"{back}/hotplug-error", reason)
    yield Write(f"{back}/hotplug-status", "error")


def remove_vif(domid: int, handle: int, *, backend_domid: int = 0) -> Conversation[bool]:
    """Ask the backend to close for good. False when there is nothing to wait for: it is closed, or not there.

    The caller waits for the backend's state 6 (libxl: 10 s at most), then takes the directories with `destroy_vif`.
    """
    back = vif_paths(domid, handle, backend_domid).back

    def body() -> Conversation[bool]:
        state = yield Read(f"{back}/state")
        if state is None or state == str(XenbusState.Closed.value):
            return False
        yield Write(f"{back}/online", 0)
        yield Write(f"{back}/state", XenbusState.Closing.value)
        return True

    return (yield from in_transaction(body))


def destroy_vif(domid: int, handle: int, *, backend_domid: int = 0) -> Conversation[None]:
    """Remove a vif's directories, and those above that are left empty."""
    paths = vif_paths(domid, handle, backend_domid)

    def body() -> Conversation[None]:
        for path in paths:
            yield from _remove_and_tidy(path)

    yield from in_transaction(body)


def introduce_domain(
    domid: int,
    *,
    name: str,
    uuid: str,
    memory_kib: int,
    store_frame: int = 0,
    store_port: int = 0,
) -> Conversation[None]:
    """Write a new domain's directories, then tell the store of it (@introduceDomain)."""
    home = f"/local/domain/{domid}"
    details: dict[str, str | int] = {
        "memory/static-max": memory_kib,
        "memory/target": memory_kib,
        "memory/videoram": 0,
        "domid": domid,
        "store/port": store_port,
        "store/ring-ref": store_frame,
        "cpu/0/availability": "online",
    }

    def build() -> Conversation[None]:
        for key, value in details.items():
            yield Write(f"{home}/{key}", value)

    yield from in_transaction(lambda: _make_domain(domid, name, uuid))
    yield from in_transaction(build)
    yield Introduce(domid, store_frame, store_port)


def _make_domain(domid: int, name: str, uuid: str) -> Conversation[None]:
    home, vm, libxl = f"/local/domain/{domid}", f"/vm/{uuid}", f"/libxl/{domid}"
    readable, owned = ("n0", f"r{domid}"), (f"n{domid}",)
    yield from _directory(home, readable)
    yield from _directory(vm, readable)
    yield from _directory(libxl, ("n0",))
    yield from _directory(f"{libxl}/device", ("n0",))
    yield Write(f"{home}/vm", vm)
    yield Write(f"{home}/name", name)
    for path in GUEST_READABLE:
        yield from _directory(f"{home}/{path}", readable)
        if path == "device":
            yield from _directory(f"{home}/device/suspend/event-channel", owned)
    for path in GUEST_OWNED:
        yield from _directory(f"{home}/{path}", owned)
    yield Write(f"{vm}/uuid", uuid)
    yield Write(f"{vm}/name", name)
    yield Write(f"{home}/control/platform-feature-multiprocessor-suspend", 1)
    yield Write(f"{home}/control/platform-feature-xs_reset_watches", 1)
    yield Write(f"{libxl}/type", "pv")


def introduce_dom0(*, memory_kib: int = 0) -> Conversation[None]:
    """What stands in a fresh store before the first guest: dom0's own nodes and xenstored's."""
    yield Mkdir("/tool/xenstored")
    for key, value in (("domid", "0"), ("name", "Domain-0"), ("memory/target", str(memory_kib))):
        yield Write(f"/local/domain/0/{key}", value)


def remove_domain(domid: int) -> Conversation[None]:
    """Remove all the store has of a domain, its vifs' directories too, and release it (@releaseDomain)."""
    home = f"/local/domain/{domid}"

    def body() -> Conversation[None]:
        for handle in (yield from listing(f"/libxl/{domid}/device/vif")) or []:
            back = yield Read(f"/libxl/{domid}/device/vif/{handle}/backend")
            if back:
                yield from _remove_and_tidy(back)
        vm = yield Read(f"{home}/vm")
        for path in (vm, home, f"/libxl/{domid}"):
            if path:
                yield from _rm(path)

    yield from in_transaction(body)
    try:
        yield Release(domid)
    except StoreError as error:
        if error.code != "ENOENT":  # the machine may have released it already
            raise


def _directory(path: str, perms: tuple[str, ...] | list[str]) -> Conversation[None]:
    """A fresh, empty node with permissions of its own."""
    yield from _rm(path)
    yield Mkdir(path)
    yield SetPerms(path, perms)


def _rm(path: str) -> Conversation[None]:
    """Remove what may be missing."""
    try:
        yield Rm(path)
    except StoreError as error:
        if error.code != "ENOENT":
            raise


def _remove_and_tidy(path: str) -> Conversation[None]:
    """Remove a node, then every node above it that has no children left."""
    if (yield Read(path)) is None:
        return
    yield Rm(path)
    while path := path.rpartition("/")[0]:
        if (yield from listing(path)):
            return
        yield Rm(path)
