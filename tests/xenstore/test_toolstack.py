"""What the toolstack writes, against the recording of the real one, and that it takes everything back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.errors import StoreError
from xnet.xenstore import Conversation, Server, Session, Write, local_session
from xnet.xenstore.connection import Connection
from xnet.xenstore.perms import Perm
from xnet.xenstore.toolstack import (
    add_vif,
    backend_keys,
    destroy_vif,
    introduce_dom0,
    introduce_domain,
    remove_domain,
    remove_vif,
    vif_paths,
)
from xnet.xenstore.wire import Parser

RECORDING = Path(__file__).parent / "data" / "libxl-add-vif.txt"
MAC = "00:16:3e:00:00:01"
NAMES = {value: name.removeprefix("XS_") for name, value in vars(xs).items() if name.startswith("XS_")}


class Traced:
    """A dom0 session that keeps what it asks, in the trace's words."""

    def __init__(self) -> None:
        self.server = Server()
        self.trace: list[str] = []
        connection: Connection
        parser = Parser()

        def send(data: bytes) -> None:
            for message in parser.feed(data):
                words = message.payload.decode().replace("\0", " ")
                self.trace.append(f"{NAMES[message.type]} ({words})")
            connection.receive(data)

        self.session = Session(send)
        connection = self.server.connect(0, privileged=True, wake=lambda: self.session.receive(connection.take()))

    def run(self, conversation: Conversation[object]) -> object:
        done: list[object] = []
        self.session.run(conversation, done.append)
        (result,) = done
        if isinstance(result, Exception):
            raise result
        return result

    def values(self) -> dict[str, str]:
        return {path: node.value.decode() for path, node in self.server.tree.nodes.items()}

    def perms(self, path: str) -> str:
        return " ".join(map(str, self.server.tree.nodes[path].perms))


@pytest.fixture
def traced() -> Traced:
    host = Traced()
    host.run(introduce_dom0())
    host.run(introduce_domain(1, name="a", uuid="1234-5678", memory_kib=32768))
    host.trace.clear()
    return host


def test_a_vif_is_written_as_recorded(traced: Traced) -> None:
    traced.run(add_vif(1, 0, mac=MAC, bridge="br0", extra={"script": "/etc/xen/scripts/vif-fast"}))
    recorded = [line for line in RECORDING.read_text().splitlines() if not line.startswith("#")]
    start, *asked, end = traced.trace
    assert asked == recorded
    assert (start, end) == ("TRANSACTION_START ( )", "TRANSACTION_END (T )")


def test_a_backend_watcher_sees_the_recorded_events(traced: Traced) -> None:
    """In the recording: the directory, then each key once, although the directory was removed and made before."""
    seen: list[str] = []
    local_session(traced.server).watch("backend", lambda path, token: seen.append(path))
    traced.run(add_vif(1, 0, mac=MAC, bridge="br0"))
    keys = ["frontend", "frontend-id", "online", "state", "script", "mac", "bridge", "handle", "type", "hotplug-status"]
    assert seen == ["backend", "backend/vif/1/0", *(f"backend/vif/1/0/{key}" for key in keys)]


def test_a_vif_is_not_added_twice(traced: Traced) -> None:
    traced.run(add_vif(1, 0, mac=MAC))
    before = traced.values()
    with pytest.raises(StoreError) as error:
        traced.run(add_vif(1, 0, mac="00:16:3e:00:00:02"))
    assert error.value.code == "EEXIST"
    assert traced.values() == before
    traced.run(add_vif(1, 1, mac="00:16:3e:00:00:02", backend_domid=3))
    assert traced.values()["/local/domain/3/backend/vif/1/1/frontend"] == "/local/domain/1/device/vif/1"
    assert traced.perms("/local/domain/1/device/vif/1/state") == "n1 r3"
    assert traced.perms("/local/domain/1/device/vif/1/mtu") == "n3 r1"
    assert traced.perms("/local/domain/3/backend/vif/1/1") == "n3 r1"


KEYS: dict[str, tuple[str | None, Mapping[str, str], str]] = {
    "bare": (None, {}, "script mac"),
    "bridge": ("xenbr0", {}, "script mac bridge"),
    "all in libxl's order": (
        "xenbr0",
        {"vlan": "7", "rate": "1250000,50000", "ip": "10.0.0.1", "mtu": "9000", "vifname": "v0", "mine": "x"},
        "script vifname mac ip rate mtu vlan bridge",
    ),
    "the usual mtu is not written": ("xenbr0", {"mtu": "1500"}, "script mac bridge"),
}


@pytest.mark.parametrize(("bridge", "extra", "between"), KEYS.values(), ids=KEYS.keys())
def test_optional_keys_stand_where_libxl_puts_them(bridge: str | None, extra: Mapping[str, str], between: str) -> None:
    keys = backend_keys(1, 2, mac=MAC, bridge=bridge, extra=extra)
    expected = f"frontend-id online state {between} handle type hotplug-status".split()
    assert list(keys) == expected + (["mine"] if "mine" in extra else [])
    assert (keys["handle"], keys.get("bridge"), keys["mac"]) == ("2", bridge, MAC)


def test_the_mtu_is_in_the_frontend_for_the_guest_to_read_only(traced: Traced) -> None:
    traced.run(add_vif(1, 0, mac=MAC, extra={"mtu": "9000"}))
    assert traced.values()["/local/domain/1/device/vif/0/mtu"] == "9000"
    assert traced.values()["/local/domain/0/backend/vif/1/0/mtu"] == "9000"


def test_a_domain_has_the_nodes_libxl_gives_it(traced: Traced) -> None:
    values = traced.values()
    expected = {
        "/local/domain/1/name": ("a", "n0 r1"),
        "/local/domain/1/vm": ("/vm/1234-5678", "n0 r1"),
        "/local/domain/1/domid": ("1", "n0 r1"),
        "/local/domain/1/memory/target": ("32768", "n0 r1"),
        "/local/domain/1/cpu/0/availability": ("online", "n0 r1"),
        "/local/domain/1/device": ("", "n0 r1"),
        "/local/domain/1/device/suspend/event-channel": ("", "n1"),
        "/local/domain/1/control/shutdown": ("", "n1"),
        "/local/domain/1/data": ("", "n1"),
        "/local/domain/1/error": ("", "n1"),
        "/vm/1234-5678/name": ("a", "n0 r1"),
        "/vm/1234-5678/uuid": ("1234-5678", "n0 r1"),
        "/libxl/1/type": ("pv", "n0"),
    }
    assert {path: (values[path], traced.perms(path)) for path in expected} == expected
    assert 1 in traced.server.introduced


def test_a_guest_may_not_touch_what_is_not_its_own(traced: Traced) -> None:
    traced.run(add_vif(1, 0, mac=MAC))
    guest = local_session(traced.server, 1, privileged=False)

    def write(path: str) -> str:
        def talk() -> Conversation[None]:
            yield Write(path, "1")

        done: list[object] = []
        guest.run(talk(), done.append)
        return done[0].code if isinstance(done[0], StoreError) else "OK"

    allowed = ["device/vif/0/state", "device/vif/0/tx-ring-ref", "data/x", "error/device/vif/0/error", "attr/vif/0"]
    refused = ["name", "device/vif/0/mtu", "device/vif/1/state", "memory/target", "/libxl/1/x", "/vm/1234-5678/name"]
    assert {path: write(path) for path in allowed} == dict.fromkeys(allowed, "OK")
    assert {path: write(path) for path in refused} == dict.fromkeys(refused, "EACCES")


def test_unplug_asks_the_backend_and_then_removes_all(traced: Traced) -> None:
    before = traced.values()
    traced.run(add_vif(1, 0, mac=MAC))
    back = vif_paths(1, 0).back
    assert traced.run(remove_vif(1, 0)) is True
    assert (traced.values()[f"{back}/online"], traced.values()[f"{back}/state"]) == ("0", "5")

    def closed() -> Conversation[None]:
        yield Write(f"{back}/state", "6")

    traced.run(closed())
    assert traced.run(remove_vif(1, 0)) is False
    assert traced.values()[f"{back}/state"] == "6"
    traced.run(destroy_vif(1, 0))
    assert traced.run(remove_vif(1, 0)) is False
    assert traced.values() == {path: value for path, value in before.items() if path != "/libxl/1/device"}
    traced.run(destroy_vif(1, 0))
    traced.run(add_vif(1, 0, mac=MAC))


def test_a_domain_leaves_nothing_but_its_neighbours() -> None:
    host = Traced()
    host.run(introduce_dom0())
    empty = host.values()
    for domid in (1, 2):
        host.run(introduce_domain(domid, name=f"d{domid}", uuid=f"uuid-{domid}", memory_kib=1024))
        for handle in (0, 1):
            host.run(add_vif(domid, handle, mac=MAC, backend_domid=0))
    host.run(remove_domain(2))
    host.run(remove_domain(2))
    assert not [path for path in host.values() if "/2" in path or "uuid-2" in path]
    assert "/local/domain/0/backend/vif/1/1/mac" in host.values()
    host.run(remove_domain(1))
    left = set(host.values()) - set(empty)
    assert left <= {"/vm", "/libxl"}
    assert host.server.introduced == {0}
    assert {node.perms for node in host.server.tree.nodes.values()} == {(Perm(0, 0),)}
    assert host.server.tree.owned(1) == 0
