"""Frontends that are hostile in more than one ring: several queues, a control ring, places for pages of others, and
transactions and keys at a bad moment."""

from __future__ import annotations

import pytest

from tests.netif.test_ctrl import SET_ALGORITHM, SET_KEY, SET_MAPPING, SET_SIZE, Hand
from tests.netif.test_hostile import Scene, alive
from xnet.abi.xen.netif import TX_REQUEST
from xnet.abi.xen.ring import REQ_PROD
from xnet.testing import FrontByHand, World
from xnet.testing.byhand import RawRing
from xnet.testing.frames import plain
from xnet.xenstore import Conversation, Write
from xnet.xenstore.ops import Ls, TransactionStart, Within

pytestmark = pytest.mark.integration

KEYS = ("tx-ring-ref", "rx-ring-ref", "event-channel", "state", "")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("steps", range(8))
def test_a_key_may_vanish_between_any_two_steps(world: World, key: str, steps: int) -> None:
    """Whatever the backend had read by then, it is Connected or says why not, and holds nothing of who is gone."""
    scene = Scene(world)
    vif, hand = scene.vif, scene.hand
    hand.connect(state="3")
    world.write(f"{vif.front_home}/state", "4")
    for _ in range(steps):
        world.host.hypervisor.step(1)
    world.remove(f"{vif.front_home}/{key}".rstrip("/"))
    world.step()
    netback = vif.netback
    assert world.errors == []
    if netback.state.name == "Connected":
        assert key in KEYS[:3], "what it had read it may go by"
        hand.post(8)
        assert alive(hand, vif)
    else:
        assert (netback.queues, netback.ports, netback.rings) == ([], [], [])
    scene.exchange()


@pytest.mark.parametrize("index", [0, 1])
def test_a_rogue_on_one_queue_disables_all_of_its_vif(world: World, index: int) -> None:
    one, two = world.pair()
    vif = world.vif(world.guest("rogue", 2048), queues=2)
    ring = vif.netfront.queues[index].tx_ring
    ring.indices[REQ_PROD] = 5000
    vif.guest.domain.send(vif.netfront.queues[index].tx_port)
    world.step()
    assert vif.netback.disabled
    assert "request producer past the ring" in vif.netback.reason
    assert vif.hub.client is None
    other = vif.netfront.queues[1 - index]
    vif.wire.send(plain(60), index=1 - index)
    world.step()
    assert vif.hub.sent == []
    assert other.tx_ring.unconsumed_responses() == 0, "the other queue's requests are not answered either"
    assert one.wire.send(plain(60)) == 1
    world.step()
    assert two.wire.received == [(0, plain(60))]
    vif.netfront.close()
    world.step()
    vif.netfront.open()
    world.step()
    assert vif.connected
    vif.wire.send(plain(61), index=index)
    world.step()
    assert vif.hub.sent == [(0, plain(61))]


def test_a_ring_that_both_queues_are_said_to_be(world: World) -> None:
    """Two queues, one ring page: each answers what it took, and the frontend gets what it asked for."""
    vif = world.vif(world.guest("rogue"), start="back", max_queues=2)
    hand = FrontByHand(world, vif.guest)
    ports = [hand.xen.alloc_unbound(0) for _ in range(2)]
    for index, port in enumerate(ports):
        for key, value in (("tx-ring-ref", hand.tx_ref), ("rx-ring-ref", hand.rx_ref), ("event-channel", port)):
            world.write(f"{vif.front_home}/queue-{index}/{key}", str(value))
    hand.connect(keys={"multi-queue-num-queues": "2"})
    assert vif.netback.state.name == "Connected"
    hand.put(*hand.frame([(plain(60), 0)]))
    hand.publish()
    for port in ports:
        hand.xen.send(port)
        world.step()
    assert world.errors == []
    assert all(data == plain(60) for _, data in vif.hub.sent)
    vif.netback.stop()
    for port in ports:
        hand.xen.close_port(port)


def test_a_control_ring_full_of_rubbish_changes_nothing_and_keeps_nobody_busy(world: World) -> None:
    one, two = world.pair()
    hand = Hand(world)
    hand.said(SET_ALGORITHM, 1)
    hand.said(SET_SIZE, 16)
    free = world.host.arena.free()
    before = (hand.vif.netback.hashing.key, list(hand.vif.netback.hashing.mapping))
    for kind in (SET_KEY, SET_MAPPING, SET_SIZE, SET_ALGORITHM, 0xFFFF):
        answers = hand.ask(*[(kind, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)] * 128)
        assert len(answers) == 128
        assert all(status in (1, 2) for _, _, status, _ in answers)
    assert (hand.vif.netback.hashing.key, hand.vif.netback.hashing.mapping) == before
    assert world.host.arena.free() == free
    assert one.wire.send(plain(60)) == 1
    world.step()
    assert two.wire.received == [(0, plain(60))]
    hand.front.post(8)
    assert alive(hand.front, hand.vif)


@pytest.mark.parametrize("what", ["for another domain", "none at all", "an access grant"])
def test_a_place_that_is_none_costs_its_own_frame(world: World, what: str) -> None:
    one, two = world.pair()
    vif = world.vif(world.guest("rogue"), rx_mode="flip", start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"request-rx-copy": "0"})
    domain = vif.guest.domain
    addr, refs = domain.alloc_pages(2), [domain.alloc_grefs(1) for _ in range(2)]
    domain.decrease_reservation(addr, 2)
    good, bad = refs
    domain.grant(good, domain.prepare_transfers(0, 1))
    if what == "for another domain":
        domain.grant(bad, domain.prepare_transfers(one.guest.domain.domid, 1))
    elif what == "an access grant":
        domain.grant(bad, domain.prepare_grants(0, addr + 4096, 1, readonly=False))
    hand.post(2, refs=[good, bad])
    world.deliver(vif, plain(60), plain(61))
    assert [status for _, _, _, status, _ in hand.arrived()] == [60, -1]
    assert not vif.netback.disabled
    assert domain.end_transfers(good, addr, 1) == []
    assert bytes(domain.window[addr : addr + 60]) == plain(60)
    if what == "for another domain":
        assert domain.end_transfers(bad, addr + 4096, 1) == [0]
    elif what == "an access grant":
        assert domain.end_grant(bad, domain.prepare_grants(0, addr + 4096, 1, readonly=False))
    for ref in refs:
        domain.free_grefs(ref, 1)
    assert one.wire.send(plain(60)) == 1
    world.step()
    assert two.wire.received == [(0, plain(60))]


def test_a_frontends_transactions_that_never_end_hold_nobody_up(world: World) -> None:
    scene = Scene(world)
    scene.connect()
    session = scene.vif.guest.client.session
    ends: list[object] = []

    def endless(number: int) -> Conversation[None]:
        transaction = yield TransactionStart()
        for _ in range(20):
            yield Within(transaction, Write(f"{scene.hand.home}/state", "4"))
            yield Within(transaction, Ls(scene.hand.home))

    for number in range(300):
        session.run(endless(number), ends.append)
        world.step()
    refused = [end for end in ends if isinstance(end, Exception)]
    assert len(ends) == 300
    assert len(refused) > 200, "there are not as many transactions at once"
    assert world.host.store.statistics().transactions < 60
    third = world.vif(world.guest("late"))
    assert third.connected
    scene.exchange()
    assert alive(scene.hand, scene.vif)


def test_slots_of_two_rings_on_one_page(world: World) -> None:
    """tx and rx are the same page: whatever becomes of it, it is that vif's alone."""
    scene = Scene(world)
    scene.hand.connect(keys={"rx-ring-ref": str(scene.hand.tx_ref)})
    ring = RawRing(scene.hand.tx.page, TX_REQUEST.size)
    ring.indices[REQ_PROD] = 40
    scene.hand.xen.send(scene.hand.ports[0])
    world.step()
    if scene.vif.hub.client is not None:
        world.deliver(scene.vif, *[plain(60)] * 50)
    assert world.errors == []
    scene.exchange()
