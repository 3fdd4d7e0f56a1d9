"""The control ring: what it is told and answers, by hand and by our own frontend; flows go where the guest wants them,
and take their hash along."""

from __future__ import annotations

from struct import pack

import pytest

from xnet.abi.linux.netif import EXTRA_XDP
from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    CTRL_SLOT_SIZE,
    EXTRA_GSO,
    EXTRA_HASH,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
    NETRXF_extra_info,
)
from xnet.abi.xen.ring import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4
from xnet.netif import Features
from xnet.netif.flow import flow_of
from xnet.netif.front_ctrl import RSS_KEY
from xnet.netif.hashing import ALL_KINDS, Hashing, toeplitz
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.byhand import RawRing
from xnet.testing.frames import plain, tcp, udp

pytestmark = pytest.mark.integration

OK, NOT_SUPPORTED, INVALID = 0, 1, 2
GET_FLAGS, SET_FLAGS = XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS
SET_KEY, GET_SIZE = XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE
SET_SIZE, SET_MAPPING = XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING
SET_ALGORITHM = XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM
TOEPLITZ = 1
GSO = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT


class Hand:
    """A frontend by hand, with a control ring."""

    def __init__(self, world: World, queues: int = 1, keys: dict[str, str | None] | None = None) -> None:
        self.world = world
        self.vif = world.vif(world.guest("a", 4096), start="back", max_queues=queues)
        self.front = FrontByHand(world, self.vif.guest)
        self.ref, addr = self.front.give()
        self.page = self.front.xen.window[addr : addr + PAGE_SIZE]
        self.ring = RawRing(self.page, CTRL_SLOT_SIZE)
        self.ring.indices[REQ_EVENT] = self.ring.indices[RSP_EVENT] = 1
        self.port = self.front.xen.alloc_unbound(0)
        self.prod = self.cons = self.woken = 0
        self.front.xen.set_handler(self.port, self.on_event)
        self.data_ref, self.data = self.front.give()
        said: dict[str, str | None] = {"ctrl-ring-ref": str(self.ref), "event-channel-ctrl": str(self.port)}
        self.front.connect(keys=said | (keys or {}))

    def on_event(self) -> None:
        self.woken += 1

    def ask(self, *requests: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        """Requests (type, data...) at once; the responses (id, type, status, data)."""
        for kind, *words in requests:
            CTRL_REQUEST.pack_into(
                self.ring.slot(self.prod), 0, 0x100 + self.prod & 0xFFFF, kind, *(*words, 0, 0, 0)[:3]
            )
            self.prod += 1
        self.ring.indices[REQ_PROD] = self.prod
        self.front.xen.send(self.port)
        self.world.step()
        found = []
        while self.cons != self.ring.indices[RSP_PROD]:
            found.append(CTRL_RESPONSE.unpack_from(self.ring.slot(self.cons)))
            self.cons += 1
        self.ring.indices[RSP_EVENT] = self.cons + 1
        return found

    def said(self, *request: int) -> tuple[int, int]:
        """(status, data) of one request."""
        [(_, kind, status, data)] = self.ask(request)
        assert kind == request[0]
        return status, data

    def put(self, data: bytes) -> None:
        """What key and mapping requests read."""
        self.front.xen.window[self.data : self.data + len(data)] = data

    def close(self) -> None:
        self.ring.release()


@pytest.fixture
def hand(world: World) -> Hand:
    return Hand(world)


def test_operations_are_answered_as_linux_answers_them(hand: Hand) -> None:
    ref = hand.data_ref
    hand.put(RSS_KEY)
    assert hand.said(GET_FLAGS) == (NOT_SUPPORTED, 0), "without an algorithm there are no kinds"
    assert hand.said(SET_FLAGS, 1) == (INVALID, 0)
    assert hand.said(SET_ALGORITHM, 2) == (INVALID, 0)
    assert hand.said(SET_ALGORITHM, TOEPLITZ) == (OK, 0)
    assert hand.said(GET_FLAGS) == (OK, ALL_KINDS)
    assert hand.said(SET_FLAGS, 0x10) == (INVALID, 0)
    assert hand.said(SET_FLAGS, 0xF) == (OK, 0)
    assert hand.said(SET_KEY, ref, 41) == (INVALID, 0), "the header says BUFFER_OVERFLOW"
    assert hand.said(SET_KEY, ref, 40) == (OK, 0)
    assert hand.vif.netback.hashing.key == RSS_KEY
    assert hand.said(SET_KEY, 60000, 40) == (INVALID, 0)
    assert hand.vif.netback.hashing.key == RSS_KEY, "a key that cannot be had leaves the old one"
    assert hand.said(SET_KEY, ref, 3) == (OK, 0)
    assert hand.vif.netback.hashing.key == RSS_KEY[:3] + bytes(37)
    assert hand.said(SET_KEY, 60000, 0) == (OK, 0), "no size: no key, and no reference is looked at"
    assert hand.vif.netback.hashing.key == bytes(40)
    assert hand.said(GET_SIZE) == (OK, 128)
    assert hand.said(SET_SIZE, 129) == (INVALID, 0)
    for kind in (0, 8, 9, 10, 0xFFFF):
        assert hand.said(kind) == (NOT_SUPPORTED, 0)


def test_a_mapping_is_taken_whole_or_not_at_all(world: World) -> None:
    hand = Hand(world, 1)
    ref, hashing = hand.data_ref, hand.vif.netback.hashing
    hand.put(pack("<4I", 0, 0, 0, 1))
    assert hand.said(SET_MAPPING, ref, 1, 0) == (INVALID, 0), "there is none yet"
    assert hand.said(SET_SIZE, 8) == (OK, 0)
    assert hashing.mapping == [0] * 8
    assert hand.said(SET_MAPPING, ref, 4, 0) == (INVALID, 0), "queue 1 of one"
    assert hand.said(SET_MAPPING, ref, 3, 5) == (OK, 0)
    assert hand.said(SET_MAPPING, ref, 3, 6) == (INVALID, 0)
    assert hand.said(SET_MAPPING, ref, 2, 0xFFFFFFFF) == (INVALID, 0), "no wrap at 2^32"
    assert hand.said(SET_MAPPING, ref, 0xFFFFFFFF, 2) == (INVALID, 0)
    assert hand.said(SET_MAPPING, 60000, 3, 0) == (INVALID, 0)
    assert hand.said(SET_MAPPING, 60000, 0, 8) == (OK, 0)
    assert hashing.mapping == [0] * 8
    assert hand.said(SET_SIZE, 0) == (OK, 0)
    assert hashing.mapping == []


def test_many_requests_at_once_are_answered_in_order(hand: Hand) -> None:
    answers = hand.ask(*[(GET_SIZE,)] * 100, (SET_ALGORITHM, TOEPLITZ), (GET_FLAGS,))
    assert [ident for ident, *_ in answers] == [0x100 + index for index in range(102)]
    assert answers[-1][2:] == (OK, ALL_KINDS)
    assert hand.woken == 1
    for _ in range(3):
        assert len(hand.ask(*[(GET_SIZE,)] * 128)) == 128


@pytest.mark.parametrize("index", [129, 5000, 0x80000000, 0xFFFFFFFF])
def test_an_index_that_cannot_be_disables_the_vif(world: World, index: int) -> None:
    hand = Hand(world)
    other = world.vif(world.guest("b"))
    hand.ring.indices[REQ_PROD] = index
    hand.front.xen.send(hand.port)
    world.step()
    assert hand.vif.netback.disabled
    assert "request producer past the ring" in hand.vif.netback.reason
    world.deliver(other, plain(60))
    world.step()
    assert other.wire.received == [(0, plain(60))]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"event-channel-ctrl": None}, "event-channel-ctrl: missing"),
        ({"event-channel-ctrl": "x"}, "event-channel-ctrl: not a number"),
        ({"event-channel-ctrl": "900"}, "binding event channel 900"),
        ({"ctrl-ring-ref": "sixty"}, "ctrl-ring-ref: not a number"),
        ({"ctrl-ring-ref": "60000"}, "mapping ring reference 60000"),
    ],
)
def test_a_control_ring_that_is_not_there_is_told(world: World, keys: dict[str, str | None], why: str) -> None:
    hand = Hand(world, keys=keys)
    assert why in hand.vif.netback.reason
    assert (hand.vif.netback.ports, hand.vif.netback.rings, hand.vif.netback.queues) == ([], [], [])


def test_frames_take_their_hash_along(hand: Hand) -> None:
    vif, front, world = hand.vif, hand.front, hand.world
    front.post(60)
    frame, gso, other = tcp(b"x" * 5000), tcp(b"y" * 3000, blank=True), plain(60)
    hand.put(RSS_KEY)
    world.deliver(vif, frame)
    assert [flags & NETRXF_extra_info for _, _, flags, _, _ in front.arrived()] == [0, 0], "nobody asked for it"
    hand.ask((SET_ALGORITHM, TOEPLITZ), (SET_FLAGS, ALL_KINDS), (SET_KEY, hand.data_ref, 40))
    world.deliver(vif, frame)
    first, _, second = front.arrived()
    value = toeplitz(RSS_KEY, frame[26:38])
    assert first[4] + second[4] == frame
    assert first[2] & NETRXF_extra_info
    assert front.raw(3) == EXTRA_HASH.pack(4, 0, 1, TOEPLITZ, value)
    world.deliver(vif, gso, word=GSO)
    assert front.raw(6) == EXTRA_GSO.pack(1, 1, 1448, 1, 0, 0), "more to come"
    assert front.raw(7) == EXTRA_HASH.pack(4, 0, 1, TOEPLITZ, value)
    assert front.arrived()[0][4] == gso
    world.deliver(vif, other)
    [(_, _, flags, _, data)] = front.arrived()
    assert (flags & NETRXF_extra_info, data) == (0, other), "no IP, no hash"
    hand.ask((SET_FLAGS, 0))
    world.deliver(vif, frame)
    assert len(front.arrived()) == 2
    hand.close()


def test_with_headroom_the_hash_comes_before_it(world: World) -> None:
    hand = Hand(world, keys={"xdp-headroom": "256"})
    hand.put(RSS_KEY)
    hand.ask((SET_ALGORITHM, TOEPLITZ), (SET_FLAGS, ALL_KINDS), (SET_KEY, hand.data_ref, 40))
    hand.front.post(30)
    frame = tcp(b"y" * 3000, blank=True)
    world.deliver(hand.vif, frame, word=GSO)
    assert [hand.front.raw(index)[:2] for index in (1, 2, 3)] == [b"\x01\x01", b"\x04\x01", b"\x05\x00"]
    assert hand.front.raw(3) == EXTRA_XDP.pack(5, 0, 256)
    assert hand.front.arrived()[0][4] == frame


def test_a_page_that_cannot_be_written_is_an_error_of_its_own_frame(hand: Hand) -> None:
    hand.ask((SET_ALGORITHM, TOEPLITZ), (SET_FLAGS, ALL_KINDS))
    hand.front.post(2)
    hand.front.post(1, readonly=True)
    hand.front.post(4)
    hand.world.deliver(hand.vif, tcp(b"x"), udp(b"y"), plain(60))
    statuses = [status for _, _, _, status, _ in hand.front.arrived()]
    assert (statuses[0], statuses[4]) == (len(tcp(b"x")), 60)
    assert statuses[2] < 0


# --- our own frontend


def steered(vif: Vif) -> Hashing:
    """What the backend was told."""
    return vif.netback.hashing


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_it_is_used_where_both_ends_have_it(world: World, offered: bool, asked: bool) -> None:
    vif = world.vif(world.guest("a", 4096), control=asked, back=Features(ctrl_ring=offered), queues=2)
    assert vif.connected
    assert world.read(f"{vif.back_home}/feature-ctrl-ring") == str(int(offered))
    on = offered and asked
    for key in ("ctrl-ring-ref", "event-channel-ctrl"):
        assert (world.read(f"{vif.front_home}/{key}") is not None) is on
    assert steered(vif).on is on
    assert vif.netfront.agreed()["ctrl-ring"] is on
    for frame in (tcp(b"x"), udp(b"y"), plain(60)):
        world.deliver(vif, frame)
        world.step()
        assert vif.wire.received.pop() == (0, frame)


@pytest.mark.parametrize("profile", ["linux", "windows", "freebsd", "mirage", "illumos"])
def test_profiles_that_know_it_ask_for_it(world: World, profile: str) -> None:
    vif = world.vif(world.guest("a", 4096), control=profile == "windows", front_profile=profile)
    assert steered(vif).on is (profile == "windows")
    assert world.read(f"{vif.back_home}/feature-ctrl-ring") == "1"


def test_flows_go_to_the_queue_the_guest_wants_them_in(world: World) -> None:
    vif = world.vif(world.guest("a", 4096), control=True, queues=3)
    hashing = steered(vif)
    assert (hashing.key, hashing.flags, len(hashing.mapping)) == (RSS_KEY, ALL_KINDS, 128)
    control = vif.netfront.control
    assert control is not None
    for queues in ([0, 1, 2], [2], [1, 0]):
        control.steer(queues)
        world.step()
        before = [queue.counters.rx_packets for queue in vif.netback.queues]
        wanted = [0, 0, 0]
        for host in range(1, 40):
            frame = tcp(bytes([host]), src=host)
            found = hashing.of(flow_of(memoryview(frame), len(frame)))
            assert found is not None
            wanted[queues[found.value % 128 % len(queues)]] += 1
            world.deliver(vif, frame)
            world.step()
        assert [q.counters.rx_packets - b for q, b in zip(vif.netback.queues, before, strict=True)] == wanted
        assert vif.netfront.statistics()["rx_errors"] == 0
    control.steer([])
    world.step()
    assert not hashing.on
    assert not control.hashes


@pytest.mark.parametrize("rx_mode", ["copy", "flip"])
def test_it_comes_and_goes_with_the_connection(world: World, rx_mode: str) -> None:
    vif = world.vif(world.guest("a", 4096), control=True, queues=2, rx_mode=rx_mode)  # type: ignore[arg-type]
    for _ in range(3):
        assert steered(vif).on
        world.deliver(vif, tcp(b"x"))
        world.step()
        assert vif.wire.received.pop() == (0, tcp(b"x"))
        vif.netfront.close()
        world.step()
        assert not vif.netback.rings
        assert not steered(vif).on, "all of it is forgotten"
        vif.netfront.open()
        world.step()
        assert vif.connected
    vif.restart_backend()
    world.step()
    assert vif.connected


def test_a_backend_without_it_takes_over(world: World) -> None:
    """What was written for the one before is gone."""
    vif = world.vif(world.guest("a", 4096), control=True)
    assert world.read(f"{vif.front_home}/ctrl-ring-ref") is not None
    vif.netfront.close()
    world.step()
    world.write(f"{vif.back_home}/feature-ctrl-ring", "0")
    vif.netfront.open()
    world.step()
    assert vif.connected
    assert world.read(f"{vif.front_home}/ctrl-ring-ref") is None
    assert not steered(vif).on


@pytest.mark.parametrize("change", ["id", "type", "twice"])
def test_a_backend_that_answers_what_nobody_asked_is_broken(world: World, change: str) -> None:
    vif = world.vif(world.guest("a", 4096), control=True)
    control = vif.netfront.control
    assert control is not None
    page = control.ring
    slots = world.host.hypervisor.domains[1].window[control.addr : control.addr + PAGE_SIZE]
    count = 7
    assert page.indices[RSP_PROD] == count
    answer = CTRL_RESPONSE.pack(control.ident + (change == "id"), SET_ALGORITHM + (change == "type"), 0, 0)
    if change != "twice":
        control.out = (SET_ALGORITHM, 0, 0, 0)
        control.ring.add_requests(bytes(CTRL_SLOT_SIZE))
    slots[64 + count * 16 : 64 + count * 16 + len(answer)] = answer
    page.indices[RSP_PROD] = count + 1
    world.host.dom0.send(vif.netback.ports[0])
    world.step()
    assert vif.netfront.broken
    slots.release()
