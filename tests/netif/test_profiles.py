"""Each frontend as the others see it: one table of what they do, a row a difference, against a backend by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xnet.abi.xen.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6
from xnet.netif.profile import FRONTENDS
from xnet.testing import BackByHand, Vif, World
from xnet.testing.frames import plain, tcp
from xnet.testing.world import single
from xnet.xenstore import Read, local_session

pytestmark = pytest.mark.integration

BACK, FRONT = "/local/domain/0/backend/vif/1/0", "/local/domain/1/device/vif/0"
BLANK = CSUM_BLANK | DATA_VALIDATED
GSO4 = BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
GSO6 = BLANK | GSO_TCPV6 | 1428 << GSO_SIZE_SHIFT
OKAY, NULL, ERROR, DROPPED = 0, 1, -1, -2
VALID, BLANK_RX, MORE, EXTRA = 1, 2, 4, 8
MCAST_ADD, HASH = 2, 4


class Ends:
    """A frontend of some profile, and a backend by hand that is not there yet."""

    def __init__(self, world: World, profile: str) -> None:
        self.world = world
        guest = world.guest("a", 2048)
        self.vif: Vif = world.vif(guest, front_profile=profile, queues=2, start="front")
        self.hand = BackByHand(world, self.vif.guest)

    def sends(self, frame: bytes, word: int = 0) -> list[tuple[int, int, int, int]]:
        """The slots of a frame: (page among the frame's, offset, flags, size)."""
        assert self.vif.wire.send(frame, word=word) == 1
        slots = self.hand.requests()
        found: list[tuple[int, int, int, int]] = []
        refs: list[int] = []
        after_extra = False
        for index, slot in enumerate(slots):
            gref, offset, flags, _, size = TX_REQUEST.unpack(slot)
            if index == 1 and after_extra:
                kind, _, mss, family, _, _ = EXTRA_GSO.unpack_from(slot)
                found.append((-kind, mss, 0, family))
                continue
            after_extra = bool(flags & EXTRA)
            if gref not in refs:
                refs.append(gref)
            found.append((refs.index(gref), offset, flags, size))
        return found


# --- what is looked at, by row


def refusal(ends: Ends) -> tuple[str, bool]:
    """State, and whether the error node says something, when the backend cannot copy."""
    ends.hand.offer(rx_copy="0", rx_flip="1")
    error = ends.world.read("/local/domain/1/error/device/vif/0/error")
    return ends.vif.netfront.state.name, bool(error and error.startswith("19 "))


def keys(ends: Ends) -> list[tuple[str, str | None]]:
    """What it writes for a backend that has everything, in its order; numbers of its own are N."""
    journal = ends.world.record(FRONT)
    for key in ("feature-split-event-channels", "feature-multicast-control", "feature-dynamic-multicast-control"):
        ends.world.write(f"{BACK}/{key}", "1")
    ends.world.write(f"{BACK}/multi-queue-max-queues", "1")
    ends.hand.offer()
    names = [(path.rpartition("/")[2], value) for path, value in journal]
    return [(name, "N" if name.startswith(("tx-", "rx-", "event-")) else value) for name, value in names]


def poor_keys(ends: Ends) -> set[str]:
    """Names of those that it writes for a backend that only copies, and does not say how many queues it has."""
    ends.hand.offer(sg="0", gso_tcpv4="0", gso_tcpv6="0", ipv6_csum_offload="0")
    mine = {"multi-queue-num-queues", "event-channel", "event-channel-tx"}
    return mine & set(ends.world.keys(FRONT))


def queues(ends: Ends) -> tuple[str | None, list[str]]:
    """What it says of queues to a backend that has four: it may have two."""
    ends.world.write(f"{BACK}/multi-queue-max-queues", "4")
    ends.hand.offer()
    said = ends.world.keys(FRONT)
    return said.get("multi-queue-num-queues"), sorted(name for name in said if name.startswith("queue-"))


def connects_at_initialised(ends: Ends) -> str:
    """Its state when the backend is Initialised."""
    ends.world.write(f"{BACK}/feature-rx-copy", "1")
    ends.hand.switch("3")
    return ends.vif.netfront.state.name


def state_with_the_keys(ends: Ends) -> str | None:
    """The state beside the first key that appears."""
    states: list[str | None] = []

    def changed(path: str, _: str) -> None:
        if path.endswith("/tx-ring-ref") and not states:
            eyes.run(single(Read(f"{FRONT}/state")), states.append)

    eyes = local_session(ends.world.host.store)
    eyes.watch(FRONT, changed)
    ends.hand.offer()
    return states[0]


def uses_the_rings_at(ends: Ends) -> list[str]:
    """States of the backend, both ends' keys known, in which the guest may send."""
    ends.hand.offer()
    ends.hand.attach()
    found = ["InitWait"] if ends.vif.wire.queue else []
    ends.hand.switch("4")
    return [*found, "Connected"] if ends.vif.wire.queue else found


def queue_room(ends: Ends) -> int:
    """Requests in flight, of short frames, when it takes no more."""
    ends.hand.connect()
    ends.vif.wire.send(*[plain(64)] * 256)
    return len(ends.hand.requests())


def accepted(ends: Ends) -> list[bool]:
    """Of the backend's offer: sg, blank checksums and GSO, over IPv4 and IPv6."""
    ends.hand.connect()
    accepts = ends.vif.netfront.accepts
    assert accepts is not None
    return [accepts.sg, accepts.csum4, accepts.csum6, accepts.gso4, accepts.gso6]


FLAGS = ("0", "1", "2", "10", "256", "-1", "1x", " 1", "01", "")


def flags_on(ends: Ends) -> list[str]:
    """Values of feature-sg that it takes for on."""
    found = []
    for value in FLAGS:
        ends.hand.start_again()
        ends.hand.connect(sg=value)
        if ends.vif.netfront.accepts and ends.vif.netfront.accepts.sg:
            found.append(value)
        ends.hand.detach()
        ends.hand.switch("5")
        ends.hand.switch("6")
    return found


def small_frame(ends: Ends) -> Any:
    """How 42 bytes go."""
    ends.hand.connect()
    return ends.sends(plain(42))


def middling_frame(ends: Ends) -> Any:
    """How 1500 bytes of TCP go, their checksum blank."""
    ends.hand.connect()
    return ends.sends(tcp(bytes(1446), blank=True), BLANK)


def long_frame(ends: Ends) -> Any:
    """How 9000 bytes go."""
    ends.hand.connect()
    return ends.sends(plain(9000))


def super_frame(ends: Ends) -> Any:
    """How 5000 bytes of TCP payload go, to be segmented: the slots of the first frame that appears."""
    ends.hand.connect()
    slots = ends.sends(tcp(bytes(5000), blank=True), GSO4)
    return slots if slots[1][0] < 0 else "segmented"


def super_frame6(ends: Ends) -> str:
    """The same over IPv6."""
    ends.hand.connect()
    return "whole" if any(slot[0] < 0 for slot in ends.sends(tcp(bytes(5000), v6=True, blank=True), GSO6)) else "cut"


def blank_flags6(ends: Ends) -> int:
    """Flags of a blank TCP frame over IPv6."""
    ends.hand.connect()
    return ends.sends(tcp(bytes(99), v6=True, blank=True), BLANK)[0][2]


def neighbours(ends: Ends) -> list[int]:
    """Offsets of two small frames, if they are in one page."""
    ends.hand.connect()
    ends.vif.wire.send(plain(700), plain(700))
    slots = [TX_REQUEST.unpack(slot) for slot in ends.hand.requests()]
    whole = [slot for slot in slots if slot[4] > 600]
    return [slot[1] for slot in whole] if len({slot[0] for slot in whole}) == 1 else []


def tx_ids(ends: Ends) -> tuple[int, int]:
    """The smallest and largest id among 3000 frames."""
    ends.hand.connect()
    found: set[int] = set()
    for _ in range(750):
        assert ends.vif.wire.send(*[plain(64)] * 4) == 4
        owed = [TX_REQUEST.unpack(slot)[3] for slot in ends.hand.requests()]
        found.update(owed)
        ends.hand.respond(*[(ident, OKAY) for ident in owed])
    assert not ends.vif.netfront.broken
    return min(found), max(found)


def pushes(ends: Ends) -> int:
    """How often requests are published in a burst of 120 frames."""
    ends.hand.connect()
    before = ends.vif.netfront.counters
    count = before.tx_notified + before.tx_suppressed
    assert ends.vif.wire.send(*[plain(64)] * 100) == 100
    return before.tx_notified + before.tx_suppressed - count


def left_unreaped(ends: Ends) -> int:
    """Request slots in use when all is answered, and the backend asked nothing of the guest."""
    ends.hand.connect()
    queue = ends.vif.wire.queue
    assert queue is not None
    ends.vif.wire.send(*[plain(64)] * 10)
    ends.hand.respond(*[(TX_REQUEST.unpack(slot)[3], OKAY) for slot in ends.hand.requests()])
    return 256 - queue.tx_ring.free_requests()


def rx_ids(ends: Ends) -> list[int]:
    """Ids of the rx requests in the first two slots, at first and the second time round."""
    ends.hand.connect()

    def of(slot: int) -> int:
        ident: int = RX_REQUEST.unpack(bytes(ends.hand.rx.slot(slot)))[0]
        return ident

    first = [of(0), of(1)]
    ends.hand.fill((plain(64), 0, 0), (plain(64), 0, 0))
    return [*first, of(0), of(1)]


def takes(*slots: bytes | tuple[bytes, int, int]) -> Callable[[Ends], str]:
    """What it makes of these rx responses."""

    def look(ends: Ends) -> str:
        ends.hand.connect()
        ends.hand.fill(*slots)
        if ends.vif.netfront.broken:
            assert ends.vif.netfront.reason in ends.world.console()
            return "broken"
        return "arrives" if ends.vif.wire.received else "dropped"

    return look


def tx_status(status: int) -> Callable[[Ends], str]:
    """What it makes of a tx response with this status."""

    def look(ends: Ends) -> str:
        ends.hand.connect()
        ends.vif.wire.send(plain(64))
        [ident, *_] = [TX_REQUEST.unpack(slot)[3] for slot in ends.hand.requests()]
        ends.hand.respond((ident, status))
        if ends.vif.wire.queue is not None:
            ends.vif.wire.queue.flush()
        return "broken" if ends.vif.netfront.broken else f"{ends.vif.netfront.statistics()['tx_errors']} errors"

    return look


def mac_of(front: str | None, back: str | None) -> Callable[[Ends], str]:
    """The address it has, by what the two directories say; its state where it has none."""

    def look(ends: Ends) -> str:
        for home, value in ((FRONT, front), (BACK, back)):
            if value is None:
                ends.world.remove(f"{home}/mac")
            else:
                ends.world.write(f"{home}/mac", value)
        ends.hand.offer()
        return ends.vif.wire.mac or ends.vif.netfront.state.name

    return look


def mtu_of(value: str | None) -> Callable[[Ends], int | None]:
    """The MTU it asks its interface to have."""

    def look(ends: Ends) -> int | None:
        if value is None:
            ends.world.remove(f"{FRONT}/mtu")
        else:
            ends.world.write(f"{FRONT}/mtu", value)
        ends.hand.offer()
        return ends.vif.wire.mtu

    return look


def finds_an_old_backend(ends: Ends) -> list[tuple[str, str]]:
    """What it writes when it starts beside a backend that is still Connected to the driver before it."""
    world, vif = ends.world, ends.vif
    vif.netfront.stop()
    vif.netback.start()
    vif.netfront = vif.make_netfront()
    vif.netfront.start()
    world.step()
    assert vif.connected
    vif.netfront.stop()  # the driver dies with its guest's kernel; another is loaded
    journal = world.record(BACK, FRONT)
    vif.netfront = vif.make_netfront()
    vif.netfront.start()
    world.step()
    return [
        ("back" if path.startswith(BACK) else "front", value or "")
        for path, value in journal
        if path.endswith("/state")
    ]


def shows_an_untrusted_backend(ends: Ends) -> bool:
    """Whether anything but the frame is in the page it grants."""
    ends.world.write(f"{FRONT}/trusted", "0")
    ends.hand.connect()
    xen = ends.hand.xen
    for frame in (*[plain(2000)] * 300, plain(100)):
        ends.vif.wire.send(frame)
        slots = [TX_REQUEST.unpack(slot) for slot in ends.hand.requests()]
        page = ends.hand.map(slots[-1][0], readonly=True)
        behind = bytes(xen.window[page.addr + slots[-1][1] + slots[-1][4] : page.addr + 2048])
        xen.unmap_grants([page.handle])
        ends.hand.respond(*[(slot[3], OKAY) for slot in slots])
    return any(behind)


def heeds_disconnect(ends: Ends) -> list[bool]:
    """Whether it has a cable: at first, with disconnect = 1, and with 0."""
    ends.hand.connect()
    found = [ends.vif.wire.up]
    for value in ("1", "0"):
        ends.world.write(f"{FRONT}/disconnect", value)
        ends.world.step()
        found.append(ends.vif.wire.up)
    return found


def keys_when_closed(ends: Ends) -> bool:
    """Whether its keys are still there when it has closed."""
    ends.vif.netback.start()
    ends.world.step()
    assert ends.vif.connected
    ends.vif.netfront.close()
    ends.world.step()
    assert ends.vif.netfront.state.name == ends.vif.netback.state.name == "Closed"
    left = ends.world.keys(FRONT)
    assert {"mac", "handle", "backend", "state"} <= left.keys(), "the toolstack's"
    ends.vif.netfront.open()
    ends.world.step()
    assert ends.vif.connected
    return any(key.startswith(("request", "queue", "tx", "rx", "event", "multi", "feature")) for key in left)


HASHED = EXTRA_GSO.pack(HASH, 0, 1, 0, 0, 0)
UNKNOWN = EXTRA_GSO.pack(9, 0, 0, 0, 0, 0)
A, B = "00:16:3e:00:00:0a", "00:16:3e:00:00:0b"
OFFLOAD = [("feature-sg", "1"), ("feature-gso-tcpv4", "1"), ("feature-gso-tcpv6", "1"),
           ("feature-ipv6-csum-offload", "1")]  # fmt: skip
COPY = [("request-rx-copy", "1"), ("feature-rx-notify", "1")]
REFS = [("tx-ring-ref", "N"), ("rx-ring-ref", "N")]
SPLIT = [("event-channel-tx", "N"), ("event-channel-rx", "N")]
ONE = [("event-channel", "N")]
CONNECTED = [("state", "4")]

Row = tuple[Callable[[Ends], Any], Any, dict[str, Any]]
ROWS: dict[str, Row] = {
    "a backend without feature-rx-copy": (refusal, ("Closing", True), {
        "mirage": ("Connected", False), "windows": ("Connected", False), "illumos": ("Closed", True),
    }),
    "keys": (keys, [("multi-queue-num-queues", "1"), *REFS, *SPLIT, *COPY, *OFFLOAD, *CONNECTED], {
        "freebsd": [*REFS, *ONE, *COPY, ("feature-sg", "1"), ("feature-gso-tcpv4", "1"), *CONNECTED],
        "mirage": [*REFS, *ONE, *COPY, ("feature-sg", "1"), ("feature-gso-tcpv4", "1"), ("feature-smart-poll", "0"),
                   *CONNECTED],
        "windows": [("multi-queue-num-queues", "1"), *REFS, *SPLIT, *COPY, ("feature-no-csum-offload", "0"), *OFFLOAD,
                    *CONNECTED],
        "illumos": [*REFS, *ONE, *COPY, ("feature-sg", "1"), ("feature-gso-tcpv4", "0"), *CONNECTED],
    }),
    "keys for a poor backend": (poor_keys, {"event-channel"}, {"windows": {"event-channel", "multi-queue-num-queues"}}),
    "queues": (queues, ("2", ["queue-0", "queue-1"]), {"mirage": (None, []), "illumos": (None, [])}),
    "a backend that is Initialised": (connects_at_initialised, "Initialising", {"windows": "Connected"}),
    "state in the transaction of the keys": (state_with_the_keys, "1", {"illumos": "4"}),
    "waits for the backend": (uses_the_rings_at, ["InitWait", "Connected"], {
        "mirage": ["Connected"], "windows": ["Connected"], "illumos": ["Connected"],
    }),
    "stops sending": (queue_room, 237, {"freebsd": 236, "windows": 238}),
    "offers it uses": (accepted, [True] * 5, {
        "freebsd": [True, True, False, True, False],
        "mirage": [True, False, False, False, False],
        "illumos": [True, True, False, True, False],
    }),
    "flag values": (flags_on, ["1", "2", "10", "256", "01"], {
        "freebsd": ["1", "2", "10", "-1", "1x", " 1", "01"],
        "mirage": ["1"],
        "windows": ["1", "10", "-1", "1x", " 1", "01"],
        "illumos": ["1", "2", "10", "256", "-1", "1x", " 1", "01"],
    }),
    "42 bytes": (small_frame, [(0, 0, 0, 42)], {"windows": [(0, 0, MORE, 60), (1, 14, 0, 46)]}),
    "1500 bytes, blank": (middling_frame, [(0, 0, 3, 1500)], {
        "mirage": [(0, 0, 0, 1500)],
        "windows": [(0, 0, 3 | MORE, 1500), (1, 54, 0, 1446)],
        "illumos": [(0, 0, 1, 1500)],
    }),
    "9000 bytes": (long_frame, [(0, 0, MORE, 9000), (1, 0, MORE, 4096), (2, 0, 0, 808)], {
        "windows": [(0, 0, MORE, 9000), (1, 14, MORE, 4082), (2, 0, MORE, 4096), (3, 0, 0, 808)],
    }),
    "GSO over IPv4": (super_frame, [(0, 0, 3 | MORE | EXTRA, 5054), (-1, 1448, 0, 1), (1, 0, 0, 958)], {
        "mirage": "segmented",
        "windows": [(0, 0, 3 | MORE | EXTRA, 5054), (-1, 1448, 0, 1), (1, 54, MORE, 4042), (2, 0, 0, 958)],
        "illumos": [(0, 0, 1 | MORE | EXTRA, 5054), (-1, 1448, 0, 1), (1, 0, 0, 958)],
    }),
    "GSO over IPv6": (super_frame6, "whole", {"freebsd": "cut", "mirage": "cut", "illumos": "cut"}),
    "a blank checksum over IPv6": (blank_flags6, 3, {"freebsd": 0, "mirage": 0, "windows": 3 | MORE, "illumos": 0}),
    "two frames in one page": (neighbours, [], {"mirage": [0, 2048]}),
    "tx ids": (tx_ids, (0, 3), {
        "freebsd": (1, 256), "mirage": (0, 2999), "windows": (0, 1023), "illumos": (0, 255),
    }),
    "requests in groups": (pushes, 1, {"windows": 4}),
    "tx responses left lying": (left_unreaped, 0, {"illumos": 10}),
    "rx ids": (rx_ids, [0, 1, 0, 1], {"mirage": [0, 1, 256, 257]}),
    "an rx id of another slot": (takes(RX_RESPONSE.pack(7, 0, 0, 64)), "arrives", {
        "mirage": "broken", "windows": "broken", "illumos": "broken",
    }),
    "an rx error": (takes(RX_RESPONSE.pack(0, 0, 0, -1)), "dropped", {"mirage": "broken"}),
    "a hash": (takes((plain(64), 0, EXTRA), HASHED), "arrives", {
        "freebsd": "dropped", "mirage": "dropped", "illumos": "dropped",
    }),
    "a hash behind GSO": (
        takes((tcp(bytes(4000)), 0, 3 | EXTRA), EXTRA_GSO.pack(1, 1, 1448, 1, 0, 0), HASHED), "arrives",
        {"freebsd": "dropped", "mirage": "dropped", "illumos": "dropped"},
    ),
    "an extra nobody knows": (takes((plain(64), 0, EXTRA), UNKNOWN), "dropped", {"windows": "broken"}),
    "GSO without its checksum bits": (
        takes((tcp(bytes(5000 - 1000)), 0, EXTRA), EXTRA_GSO.pack(1, 0, 1448, 1, 0, 0)), "arrives",
        {"windows": "broken"},
    ),
    "GSO of no size": (
        takes((tcp(bytes(4000)), 0, 3 | EXTRA), EXTRA_GSO.pack(1, 0, 0, 1, 0, 0)), "dropped", {"windows": "broken"},
    ),
    "a tx error": (tx_status(ERROR), "1 errors", {"illumos": "0 errors"}),
    "a tx frame dropped": (tx_status(DROPPED), "1 errors", {"windows": "0 errors", "illumos": "0 errors"}),
    "a tx status nobody knows": (tx_status(-100), "1 errors", {"mirage": "broken", "illumos": "0 errors"}),
    "mac": (mac_of(A, B), A, {"illumos": B}),
    "mac in the backend's directory only": (mac_of(None, B), "Closing", {"freebsd": B, "illumos": B}),
    "mac nowhere": (mac_of(None, None), "Closing", {"illumos": "Closed"}),
    "mtu": (mtu_of("1400"), None, {"mirage": 1400, "windows": 1400}),
    "mtu nowhere": (mtu_of(None), None, {"mirage": 1500, "windows": 1500}),
    "a backend that is not trusted sees more": (
        shows_an_untrusted_backend, False, {"freebsd": True, "mirage": True, "windows": True, "illumos": True},
    ),
    "keys when it has closed": (keys_when_closed, True, {"freebsd": False}),
    "disconnect": (heeds_disconnect, [True, True, True], {"windows": [True, False, True]}),
    "an old connection": (
        finds_an_old_backend, [],
        {"windows": [("front", "5"), ("back", "5"), ("front", "6"), ("back", "6"), ("front", "1"), ("back", "2"),
                     ("front", "4"), ("back", "4")]},
    ),
}  # fmt: skip
"""What is looked at, what Linux's frontend does, and what those do that do otherwise."""


@pytest.mark.parametrize("profile", FRONTENDS)
@pytest.mark.parametrize("row", ROWS)
def test_a_frontend_behaves_as_the_real_one(world: World, row: str, profile: str) -> None:
    look, linux, others = ROWS[row]
    ends = Ends(world, profile)
    try:
        found = look(ends)
    finally:
        ends.hand.detach()
    if profile in others:
        assert others[profile] != linux, "no difference"
    assert found == others.get(profile, linux)
