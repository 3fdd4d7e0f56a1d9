"""Page flipping: frames arrive because pages change hands; the heap runs dry, says so, and all recovers."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RING_SLOTS
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4
from xnet.netif import Features
from xnet.testing import FrontByHand, Vif, World
from xnet.testing.frames import plain, tcp

pytestmark = pytest.mark.integration

GSO4 = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
FLIPS = Features(rx_copy=False, rx_flip=True)
BOTH = Features(rx_flip=True)


def heap_of(world: World) -> Any:
    return world.host.hypervisor.heap


def eat(world: World, leave: int) -> list[int]:
    """Take all of the heap's frames but `leave`, for somebody else."""
    frames: list[int] = world.host.dom0.increase_reservation(heap_of(world).room - leave)
    return frames


def test_every_page_of_a_frame_changes_hands(world: World) -> None:
    vif = world.vif(world.guest("a"), rx_mode="flip")
    dom0, guest = world.host.dom0.reservation, vif.guest.domain.reservation
    given, received, copies = dom0.given, guest.received, world.host.dom0.grant_table.copying.copies
    frame = plain(3 * PAGE_SIZE + 1)
    world.deliver(vif, frame, plain(60))
    world.step()
    assert vif.wire.received == [(0, frame), (0, plain(60))]
    assert (dom0.given - given, guest.received - received) == (5, 5)
    assert world.host.dom0.grant_table.copying.copies == copies, "nothing was copied by the hypervisor"


def test_posted_buffers_are_memory_the_guest_does_not_have(world: World) -> None:
    guest = world.guest("a")
    before, room = guest.domain.reservation.total, heap_of(world).room
    vif = world.vif(guest, rx_mode="flip")
    assert guest.domain.reservation.total == before - RING_SLOTS
    assert heap_of(world).room <= room, "the backend has taken a batch of what the guest gave up"
    queue = vif.wire.queue
    assert queue is not None
    guest.domain.window[queue.rx_addr : queue.rx_addr + 5] = b"stray"
    world.deliver(vif, plain(100))
    world.step()
    assert vif.wire.received == [(0, plain(100))]


def test_without_the_remap_nothing_arrives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes come by the page and by nothing else."""
    vif = world.vif(world.guest("a"), rx_mode="flip")
    window = vif.guest.domain.physmap.window
    monkeypatch.setattr(type(window), "map", lambda *args: None)
    world.deliver(vif, plain(100))
    world.step()
    assert vif.wire.received == [(0, bytes(100))]


def test_an_extras_buffer_goes_back_unused_and_the_frame_is_whole(world: World) -> None:
    vif = world.vif(world.guest("a"), rx_mode="flip")
    frame = tcp(bytes(range(256)) * 100, blank=True)
    for _ in range(100):
        world.deliver(vif, frame, word=GSO4)
        world.step()
    assert vif.wire.received == [(GSO4, frame)] * 100
    assert vif.netfront.statistics()["rx_errors"] == 0


def test_a_guest_that_dies_or_leaves_gives_everything_back(world: World) -> None:
    room = heap_of(world).room
    for end in ("crash", "unplug", "close"):
        guest = world.guest(end)
        vif = world.vif(guest, rx_mode="flip")
        world.deliver(vif, plain(9000), plain(60))
        if end == "crash":
            world.crash(guest)
            vif.netback.stop()
            continue
        if end == "unplug":
            world.unplug(vif)
        else:
            vif.netfront.close()
            world.step()
            assert not vif.connected
            vif.netfront.open()
            world.step()
            assert vif.connected
            world.deliver(vif, plain(77))
            world.step()
            assert vif.wire.received[-1] == (0, plain(77))
        world.crash(guest)
        vif.netback.stop()
    assert heap_of(world).room == room
    assert not world.host.leaks()


def test_dry_frames_wait_and_come_when_pages_return() -> None:
    with World(heap_pages=1024) as world:
        vif = world.vif(world.guest("a"), rx_mode="flip")
        deliverer = vif.netback.queues[0].deliverer
        world.host.dom0.release_frames(deliverer.spare)  # type: ignore[attr-defined]
        deliverer.spare = []  # type: ignore[attr-defined]
        frames = eat(world, 2)
        world.deliver(vif, plain(5000), plain(60), plain(61))
        counted = vif.netback.statistics()
        assert (counted["rx_packets"], counted["rx_defer"], counted["rx_no_pages"]) == (1, 2, 1)
        assert "vif1.0: memory squeeze, no pages to flip" in world.console()
        assert "the heap is used up" in world.console()
        world.step()
        came = [(0, plain(5000)), (0, plain(60)), (0, plain(61))]
        assert vif.wire.received == came, "the guest gave up two pages as it posted two buffers"
        world.host.dom0.release_frames(deliverer.spare)  # type: ignore[attr-defined]
        deliverer.spare = []  # type: ignore[attr-defined]
        frames += eat(world, 0)
        world.deliver(vif, plain(62))
        world.tick(2)
        assert vif.wire.received == came
        world.host.dom0.release_frames(frames)
        world.tick()
        assert vif.wire.received[3:] == [(0, plain(62))], "the backend asks again every second"
        world.deliver(vif, plain(63))
        world.step()
        assert vif.wire.received[-1] == (0, plain(63))
        assert vif.netback.statistics()["rx_drops"] == 0


def test_dry_for_long_frames_are_dropped_by_name_and_the_console_is_not_flooded() -> None:
    with World(heap_pages=1024) as world:
        vif = world.vif(world.guest("a"), rx_mode="flip")
        vif.guest.domain.state = vif.guest.domain.state.PAUSED
        for _ in range(400):
            world.deliver(vif, *[plain(9000)] * 30)
        counted = vif.netback.statistics()
        assert counted["rx_queue_full"] == counted["rx_drops"] > 10_000
        vif.guest.domain.state = vif.guest.domain.state.RUNNING
        world.host.hypervisor.ports.select_all(vif.guest.domain.domid)
        world.step()
        kept = len(vif.wire.received)
        assert kept + counted["rx_drops"] == 12_000
        assert [data for _, data in vif.wire.received] == [plain(9000)] * kept
        assert len(world.console().splitlines()) < 40


def test_slow_guests_together_use_the_heap_up_and_copy_does_not() -> None:
    """A backend holds what is left of its batch, while its guest holds the pages of a ringful and posts no others."""

    def lost(rx_mode: str) -> tuple[int, int]:
        with World(heap_pages=400, machine_pages=16384) as world:
            vifs = [world.vif(world.guest(name), rx_mode=rx_mode) for name in "abcd"]  # type: ignore[arg-type]
            for vif in vifs:
                world.deliver(vif, *[plain(1514)] * 100)
            world.step()  # a hundred posted again: the backends' batches are no more in step with the guests' buffers
            for vif in vifs:
                vif.guest.domain.state = vif.guest.domain.state.PAUSED
                world.deliver(vif, *[plain(1514)] * 250)
            found = sum(vif.netback.statistics().get("rx_no_pages", 0) for vif in vifs)
            room = heap_of(world).room
            for vif in vifs:
                vif.guest.domain.state = vif.guest.domain.state.RUNNING
                world.host.hypervisor.ports.select_all(vif.guest.domain.domid)
            world.tick(2)
            assert [len(vif.wire.received) for vif in vifs] == [350] * 4, "all of it came in the end"
            return found, room

    assert lost("copy")[0] == 0
    dry, room = lost("flip")
    assert dry > 0
    assert room == 0


@pytest.mark.parametrize(
    ("front", "back", "flips"),
    [(Features(), Features(), False), (Features(), BOTH, False), (BOTH, BOTH, False), (FLIPS, BOTH, True)],
    ids=["neither", "offered", "both willing to copy", "asked for"],
)
def test_the_frontend_chooses_among_what_is_offered(world: World, front: Features, back: Features, flips: bool) -> None:
    vif = Vif(world, world.guest("a"), 0)
    vif.netback.features, vif.netfront.features = back, front
    world.plan(1)
    world.vifs.append(vif)
    vif.netback.start()
    vif.netfront.start()
    world.step()
    assert vif.connected
    assert world.read(f"{vif.back_home}/feature-rx-flip") == str(int(back.rx_flip))
    assert world.read(f"{vif.front_home}/request-rx-copy") == str(int(not flips))
    assert vif.netback.agreed()["rx-flip"] is flips
    world.deliver(vif, plain(5000))
    world.step()
    assert vif.wire.received == [(0, plain(5000))]


@pytest.mark.parametrize(
    ("front", "back", "why"),
    [
        (FLIPS, Features(), "backend does not support page flipping (feature-rx-flip)"),
        (Features(), FLIPS, "backend does not support copying receive path (feature-rx-copy)"),
        (BOTH, Features(rx_copy=False), "nor page flipping (feature-rx-flip)"),
    ],
)
def test_a_pair_without_a_common_way_says_why(world: World, front: Features, back: Features, why: str) -> None:
    vif = Vif(world, world.guest("a"), 0)
    vif.netback.features, vif.netfront.features = back, front
    world.plan(1)
    world.vifs.append(vif)
    vif.netback.start()
    vif.netfront.start()
    world.step()
    assert not vif.connected
    assert why in vif.netfront.reason
    assert why in str(world.read("/local/domain/1/error/device/vif/0/error"))
    assert why in world.console()


def test_a_frontend_that_asks_for_what_is_not_offered_is_told(world: World) -> None:
    for name, rx_mode, asks, why in (
        ("a", "copy", "0", "only copying is offered"),
        ("b", "flip", "1", ""),
    ):
        vif = world.vif(world.guest(name), rx_mode=rx_mode, start="back")  # type: ignore[arg-type]
        hand = FrontByHand(world, vif.guest)
        hand.connect(keys={"request-rx-copy": asks})
        assert why in vif.netback.reason
        assert (vif.netback.state.name == "Connected") is not why


@pytest.mark.parametrize("what", ["access grants", "revoked", "out of range", "used twice"])
def test_a_guest_that_posts_no_place_for_a_page_hurts_itself_only(world: World, what: str) -> None:
    vif = world.vif(world.guest("a"), rx_mode="flip", start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"request-rx-copy": "0"})
    domain, room = vif.guest.domain, heap_of(world).room
    if what == "access grants":
        hand.post(4)
    elif what == "out of range":
        hand.post(4, refs=[40000, 2**32 - 1, 5000, 0])
    else:
        addr, ref = domain.alloc_pages(1), domain.alloc_grefs(1)
        domain.decrease_reservation(addr, 1)
        if what == "used twice":
            domain.grant(ref, domain.prepare_transfers(0, 1))
        hand.post(4, refs=[ref] * 4)
    world.deliver(vif, *[plain(60)] * 4)
    statuses = [slot[3] for slot in hand.arrived()]
    assert statuses == [-1] * 4
    assert vif.netback.statistics()["rx_drops"] == 4
    assert vif.netback.state.name == "Connected"
    assert heap_of(world).room >= room - 256, "what nobody had is the heap's"
    if what in ("used twice", "revoked"):
        domain.end_transfers(ref, addr, 1)
        domain.free_grefs(ref, 1)
        domain.free_pages(addr, 1)
