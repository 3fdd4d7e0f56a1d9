"""Both ends find, follow and leave each other by xenstore, key by key as the recording of real Linux drivers."""

from __future__ import annotations

import pytest

from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import HypercallError
from xnet.testing import BackByHand, FrontByHand, Vif, World
from xnet.testing.frames import plain
from xnet.testing.world import single
from xnet.xenstore import Write

pytestmark = pytest.mark.integration

S = XenbusState
BACK, FRONT = "/local/domain/0/backend/vif/1/0", "/local/domain/1/device/vif/0"
Journal = list[tuple[str, str | None]]

RECORDED = [
    (f"{BACK}/feature-sg", "1"),
    (f"{BACK}/feature-gso-tcpv4", "1"),
    (f"{BACK}/feature-gso-tcpv6", "1"),
    (f"{BACK}/feature-ipv6-csum-offload", "1"),
    (f"{BACK}/feature-rx-copy", "1"),
    (f"{BACK}/feature-xdp-headroom", "1"),
    (f"{BACK}/feature-rx-flip", "0"),
    (f"{BACK}/feature-multicast-control", "1"),
    (f"{BACK}/feature-dynamic-multicast-control", "1"),
    (f"{BACK}/feature-split-event-channels", "1"),
    (f"{BACK}/multi-queue-max-queues", "1"),
    (f"{BACK}/feature-ctrl-ring", "1"),
    (f"{BACK}/state", "2"),
    (f"{BACK}/hotplug-status", "connected"),
    (f"{FRONT}/xdp-headroom", "0"),
    (f"{FRONT}/multi-queue-num-queues", "1"),
    (f"{FRONT}/tx-ring-ref", "520"),
    (f"{FRONT}/rx-ring-ref", "521"),
    (f"{FRONT}/event-channel-tx", "8"),
    (f"{FRONT}/event-channel-rx", "9"),
    (f"{FRONT}/request-rx-copy", "1"),
    (f"{FRONT}/feature-rx-notify", "1"),
    (f"{FRONT}/feature-sg", "1"),
    (f"{FRONT}/feature-gso-tcpv4", "1"),
    (f"{FRONT}/feature-gso-tcpv6", "1"),
    (f"{FRONT}/feature-ipv6-csum-offload", "1"),
    (f"{FRONT}/state", "4"),
    (f"{BACK}/state", "4"),
    (f"{FRONT}/state", "5"),
    (f"{BACK}/state", "5"),
    (f"{FRONT}/state", "6"),
    (f"{BACK}/state", "6"),
]
"""The drivers' writes of a life, Linux 6.1 on Xen 4.17, in order: from two fresh directories to both Closed."""

OURS = {"tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"}
"""Keys whose numbers are each domain's own."""


def test_both_ends_write_what_real_drivers_write_in_their_order(world: World) -> None:
    guest = world.guest("a")
    world.plan(1)
    journal = world.record(BACK, FRONT)
    vif = Vif(world, guest, 0)
    world.vifs.append(vif)
    vif.netback.start()
    world.step()
    vif.netfront.start()
    world.step()
    vif.netfront.close()
    world.step()

    def comparable(entries: Journal) -> Journal:
        named = [(path, path.rpartition("/")[2], value) for path, value in entries]
        return [(path, "N" if key in OURS else value) for path, key, value in named]

    assert comparable(journal) == comparable(RECORDED)


def test_numbers_in_the_keys_are_the_frontends_own(world: World) -> None:
    vif = world.vif(world.guest("a"))
    keys = world.keys(FRONT)
    assert vif.netfront.queue is not None
    assert keys["tx-ring-ref"] == str(vif.netfront.queue.refs)
    assert [keys["event-channel-tx"], keys["event-channel-rx"]] == [str(port) for port in vif.netfront.ports]


def frames_pass(world: World, vif: Vif) -> None:
    """One frame each way."""
    vif.hub.sent.clear()
    vif.wire.received.clear()
    assert vif.connected, (vif.netfront.state, vif.netback.state, vif.netback.reason, vif.netfront.reason)
    vif.wire.send(plain(5000))
    world.deliver(vif, plain(6000))
    world.step()
    assert vif.hub.sent == [(0, plain(5000))]
    assert vif.wire.received == [(0, plain(6000))]


def states(journal: Journal) -> list[tuple[str, str | None]]:
    """The state writes, as (end, state)."""
    return [("back" if path.startswith(BACK) else "front", value) for path, value in journal if path.endswith("/state")]


@pytest.mark.parametrize("order", ["front first", "back first"])
def test_the_drivers_may_start_in_either_order(world: World, order: str) -> None:
    vif = world.vif(world.guest("a"), start="front" if order == "front first" else "back")
    assert not vif.connected
    (vif.netback if order == "front first" else vif.netfront).start()
    world.step()
    frames_pass(world, vif)


@pytest.mark.parametrize("rounds", [3])
def test_a_frontend_closes_and_comes_back(world: World, rounds: int) -> None:
    vif = world.vif(world.guest("a"))
    domain = vif.guest.domain
    used = (domain.pages_used, domain.grefs_used)
    journal = world.record(BACK, FRONT)
    for _ in range(rounds):
        vif.netfront.close()
        world.step()
        assert (vif.netfront.state, vif.netback.state) == (S.Closed, S.Closed)
        assert vif.hub.client is None
        assert vif.wire.queue is None
        assert domain.grefs_used == 0
        vif.netfront.open()
        world.step()
        frames_pass(world, vif)
        assert (domain.pages_used, domain.grefs_used) == used
    life = [("front", "5"), ("back", "5"), ("front", "6"), ("back", "6"), ("front", "1"), ("back", "2"),
            ("front", "4"), ("back", "4")]  # fmt: skip
    assert states(journal) == life * rounds
    assert vif.gone == 0


def test_a_frontend_that_comes_back_without_closing_is_met_by_a_fresh_backend(world: World) -> None:
    """A guest that reboots or execs a kernel: its old state is Connected, its new driver writes Initialising."""
    vif = world.vif(world.guest("a"))
    journal = world.record(BACK, FRONT)
    vif.netfront.open()
    world.step()
    assert states(journal) == [
        ("front", "1"), ("back", "5"), ("back", "6"), ("back", "2"), ("front", "4"), ("back", "4"),
    ]  # fmt: skip
    frames_pass(world, vif)


def test_a_backend_that_dies_and_is_restarted_takes_the_rings_over(world: World) -> None:
    vif = world.vif(world.guest("a"))
    frames_pass(world, vif)
    vif.wire.send(plain(61))
    vif.restart_backend()
    world.step()
    assert vif.connected
    assert (0, plain(61)) in vif.hub.sent, "what was published and not answered is taken"
    frames_pass(world, vif)


def test_a_backend_that_closes_is_followed_and_met_again(world: World) -> None:
    vif = world.vif(world.guest("a"))
    vif.netback.disconnect()
    world.host.session.run(single(Write(f"{BACK}/state", "5")))
    world.step()
    assert vif.netfront.state is S.Closed
    assert vif.wire.queue is None
    assert vif.guest.domain.grefs_used == 0
    vif.netfront.open()
    world.step()
    frames_pass(world, vif)


def test_unplugging_removes_everything(world: World) -> None:
    vif = world.vif(world.guest("a"))
    frames_pass(world, vif)
    world.unplug(vif)
    assert vif.gone == 1
    assert vif.netfront.state is S.Closed
    for path in (BACK, FRONT, "/libxl/1/device/vif/0", "/local/domain/0/backend"):
        assert world.read(path) is None, path
    assert vif.guest.domain.grefs_used == 0
    again = world.vif(vif.guest)
    frames_pass(world, again)


def test_a_vif_that_never_connected_can_be_unplugged(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    world.unplug(vif)
    assert vif.gone == 1
    assert world.read(BACK) is None


def test_a_closed_vif_can_be_unplugged(world: World) -> None:
    vif = world.vif(world.guest("a"))
    vif.netfront.close()
    world.step()
    world.unplug(vif)
    assert vif.gone == 1


def test_a_removed_directory_does_not_come_back_to_life(world: World) -> None:
    """The toolstack forces the removal while the ends still talk."""
    vif = world.vif(world.guest("a"))
    for path in (FRONT, BACK):
        world.remove(path)
    world.step()
    assert vif.gone == 1
    assert world.read(f"{BACK}/state") is None
    assert world.read(f"{FRONT}/state") is None
    assert vif.guest.domain.grefs_used == 0


def test_a_domain_that_is_destroyed_while_connected_leaves_nothing(world: World) -> None:
    one, two = world.pair()
    one.wire.send(*[plain(9000)] * 5)
    world.crash(one.guest)
    assert one.gone == 1
    assert one.hub.client is None
    assert world.read("/local/domain/0/backend/vif/1") is None
    frames_pass(world, two)
    third = world.vif(world.guest("c"))
    frames_pass(world, third)


def test_a_backend_stops_while_a_frame_is_on_the_ring(world: World) -> None:
    vif = world.vif(world.guest("a"))
    vif.hub.space = 0
    vif.wire.send(plain(60))
    world.step()
    vif.netfront.close()
    world.step()
    assert (vif.netfront.state, vif.netback.state) == (S.Closed, S.Closed)
    assert vif.guest.domain.grefs_used == 0


@pytest.mark.parametrize("turns", range(1, 40, 3))
def test_what_changes_while_a_frontend_talks_to_the_store_is_looked_at_afterwards(world: World, turns: int) -> None:
    """Its conversation takes many turns of the machine; the backend closes after so many of them."""
    vif = world.vif(world.guest("a"), start="none")
    hand = BackByHand(world, vif.guest)
    vif.netfront.start()
    hand.offer()
    vif.netfront.close()
    world.step()
    vif.netfront.open()
    for _ in range(turns):
        world.host.hypervisor.step(1)
    hand.switch("5")
    assert vif.netfront.state in (S.Closed, S.Initialising)
    assert vif.wire.queue is None
    hand.switch("6")
    assert vif.guest.domain.grefs_used == 0


# --- hotplug


def test_hotplug_before_the_frontend(world: World) -> None:
    vif = world.vif(world.guest("a"), hotplug=False, start="back")
    vif.netback.plug(vif.hub)
    vif.netfront.start()
    world.step()
    frames_pass(world, vif)


def test_the_backend_is_not_connected_before_hotplug_says_so(world: World) -> None:
    vif = world.vif(world.guest("a"), hotplug=False)
    assert (vif.netfront.state, vif.netback.state) == (S.Connected, S.InitWait)
    assert not vif.wire.up, "no carrier"
    vif.wire.send(plain(60))
    world.step()
    vif.netback.plug(vif.hub)
    world.step()
    assert vif.wire.up
    assert vif.hub.sent == [(0, plain(60))], "what was sent before is not lost"
    frames_pass(world, vif)


def test_a_frontend_that_comes_again_before_hotplug_gets_its_new_rings(world: World) -> None:
    vif = world.vif(world.guest("a"), hotplug=False)
    vif.netback.link = vif.hub  # the script made the link and has not said so yet
    vif.netfront.open()
    world.step()
    vif.netfront.open()
    world.step()
    vif.netback.plug(vif.hub)
    world.step()
    frames_pass(world, vif)


def test_hotplug_that_failed_is_said(world: World) -> None:
    vif = world.vif(world.guest("a"), hotplug=False)
    vif.netback.hotplug_failed("bridge xenbr9 does not exist")
    world.step()
    assert vif.netback.state is S.InitWait
    assert world.read(f"{BACK}/hotplug-status") == "error"
    assert world.read(f"{BACK}/hotplug-error") == "bridge xenbr9 does not exist"
    assert "xenbr9" in world.console()
    vif.netback.plug(vif.hub)
    world.step()
    frames_pass(world, vif)


# --- what a frontend may write

RUBBISH: dict[str, tuple[dict[str, str | None], str]] = {
    "no tx ring": ({"tx-ring-ref": None}, "tx-ring-ref: missing"),
    "no rx ring": ({"rx-ring-ref": None}, "rx-ring-ref: missing"),
    "no event channel": ({"event-channel": None}, "event-channel-tx: missing"),
    "a ring that is no number": ({"tx-ring-ref": "banana"}, "tx-ring-ref: not a number"),
    "a ring of digits that are not ours": ({"tx-ring-ref": "٣"}, "tx-ring-ref: not a number"),
    "a negative ring": ({"rx-ring-ref": "-1"}, "rx-ring-ref: not a number"),
    "an empty ring": ({"rx-ring-ref": ""}, "rx-ring-ref: not a number"),
    "a ring nobody granted": ({"rx-ring-ref": "400"}, "mapping ring reference 400"),
    "a ring past the table": ({"tx-ring-ref": "999999999"}, "mapping ring reference"),
    "an enormous ring": ({"tx-ring-ref": "9" * 1000}, "mapping ring reference"),
    "a port that is no number": ({"event-channel": "0x8"}, "event-channel-tx: not a number"),
    "a port that does not wait": ({"event-channel": "900"}, "event channel 900"),
    "port 0": ({"event-channel": "0"}, "event channel 0"),
    "an enormous port": ({"event-channel": "9" * 1000}, "event channel 999"),
    "the xenstore channel's port": ({"event-channel": "1"}, "event channel 1"),
    "two queues": ({"multi-queue-num-queues": "2"}, "2 queues"),
    "no queues": ({"multi-queue-num-queues": "0"}, "0 queues"),
    "queues that are no number": ({"multi-queue-num-queues": "many"}, "'many' queues, 1 offered"),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_keys_of_no_use_end_in_the_error_node_and_closing(world: World, name: str) -> None:
    keys, message = RUBBISH[name]
    vif = world.vif(world.guest("a"), start="back")
    other = world.vif(world.guest("b"))
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys=keys)
    assert vif.netback.state is S.Closing
    assert world.read(f"{BACK}/state") == "5"
    error = world.read("/local/domain/0/error/backend/vif/1/0/error")
    assert error is not None
    assert message in error
    assert error.startswith("22 ")
    assert message in world.console()
    frames_pass(world, other)
    hand.write("state", "6")
    assert vif.netback.state is S.Closed
    hand.close()
    again = FrontByHand(world, vif.guest)
    again.write("state", "1")
    assert vif.netback.state is S.InitWait
    again.connect(keys={"multi-queue-num-queues": "1"})
    assert vif.netback.state is S.Connected, vif.netback.reason


def test_a_ring_page_full_of_rubbish_is_refused(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back")
    hand = FrontByHand(world, vif.guest)
    hand.tx.indices[0] = 0x80000000
    hand.connect()
    assert vif.netback.state is S.Closing
    assert "request producer past the ring" in vif.netback.reason


STATES = ["", "banana", "-4", "4.0", "9", "99999999999999999999", "٤", "4 ", "\x00", "\xff"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("connected", [False, True])
def test_a_state_that_is_none_closes_the_backend(world: World, state: str, connected: bool) -> None:
    vif = world.vif(world.guest("a"), start="both" if connected else "back")
    world.write(f"{FRONT}/state", state)
    world.step()
    assert vif.netback.state is (S.Closed if connected else S.Closing), "a frontend that follows closes it all the way"
    assert not vif.netback.queues
    assert "no state" in world.console()


@pytest.mark.parametrize("state", ["2", "3", "7", "8"])
@pytest.mark.parametrize("connected", [False, True])
def test_states_that_mean_nothing_here_change_nothing(world: World, state: str, connected: bool) -> None:
    vif = world.vif(world.guest("a"), start="both" if connected else "back")
    before = vif.netback.state
    world.write(f"{FRONT}/state", state)
    world.step()
    assert vif.netback.state is before


@pytest.mark.parametrize("state", ["0", "1", "3", "7", "8", "banana", ""])
def test_a_backend_that_writes_rubbish_harms_nobody(world: World, state: str) -> None:
    one, two = world.pair()
    world.write(f"{BACK}/state", state)
    world.step()
    assert world.errors == []
    frames_pass(world, two)
    one.netfront.open()
    world.step()
    frames_pass(world, one)


def test_a_guest_too_small_for_its_rings_says_so_and_keeps_nothing(world: World) -> None:
    guest = world.guest("small", pages=200)
    used = guest.domain.pages_used
    vif = world.vif(guest)
    assert vif.netfront.state in (S.Closing, S.Closed)
    assert "ENOMEM" in vif.netfront.reason
    assert guest.domain.pages_used == used
    assert guest.domain.grefs_used == 0
    assert vif.netfront.ports == []


def test_a_guest_whose_grant_table_cannot_grow_says_so_and_keeps_nothing() -> None:
    with World(heap_pages=8) as world:
        guest = world.guest("a")
        used = guest.domain.pages_used
        taken = []
        while True:
            try:
                taken.append(world.host.hypervisor.heap.alloc())
            except HypercallError:
                break
        vif = world.vif(guest)
        assert vif.netfront.state in (S.Closing, S.Closed)
        assert "ENOMEM" in vif.netfront.reason
        assert guest.domain.pages_used == used
        for mfn in taken:
            world.host.hypervisor.heap.free(mfn)
        vif.netfront.open()
        world.step()
        frames_pass(world, vif)


def test_many_vifs_of_one_guest_are_each_their_own(world: World) -> None:
    guest = world.guest("a", pages=4000)
    vifs = [world.vif(guest, handle) for handle in range(6)]
    vifs[2].netfront.close()
    world.step()
    assert not vifs[2].connected
    for vif in vifs[:2] + vifs[3:]:
        frames_pass(world, vif)


def test_people_are_told_of_every_change(world: World) -> None:
    vif = world.vif(world.guest("a"), start="none")
    seen: list[str] = []
    vif.netback.observe = lambda device: seen.append(device.state.name)
    vif.netback.start()
    vif.netfront.start()
    world.step()
    vif.netfront.close()
    world.step()
    assert seen == ["InitWait", "Connected", "Closing", "Closed"]
