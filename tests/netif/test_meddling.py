"""What is on a ring is read once: who changes it behind the reader, from another CPU, changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import EXTRA_GSO, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4
from xnet.netif.profile import FRONTENDS
from xnet.testing import FrontByHand, World
from xnet.testing.frames import plain, tcp
from xnet.testing.rogue import EXTRA, FRAME, GOOD, MORE, OKAY, places
from xnet.testing.rogue_back import outstanding, rx
from xnet.testing.stage import Stage

pytestmark = pytest.mark.integration

GSO = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
TX_RUBBISH = {
    "ones": b"\xff" * TX_REQUEST.size,
    "zeros": bytes(TX_REQUEST.size),
    "more": TX_REQUEST.pack(8, 4000, MORE, 7, 65535),
    "an extra": TX_REQUEST.pack(9, 0, EXTRA, 1, 20),
}
RX_RUBBISH = {
    "ones": b"\xff" * RX_RESPONSE.size,
    "zeros": bytes(RX_RESPONSE.size),
    "a page and more": RX_RESPONSE.pack(3, 4095, MORE, 4096),
    "an extra": RX_RESPONSE.pack(3, 0, EXTRA, 60),
}


@pytest.mark.parametrize("heads_only", [False, True])
@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("name", TX_RUBBISH)
def test_a_request_changed_behind_the_backend_is_too_late(world: World, name: str, mode: Any, heads_only: bool) -> None:
    turns: list[str] = []
    hands: list[FrontByHand] = []

    def between(call: str) -> None:
        if hands and call in ("copy_grants", "map_grants"):
            turns.append(call)
            for index in range(256):
                hands[0].tx.slot(index)[:] = TX_RUBBISH[name]

    one, two = world.pair()
    vif = world.vif(world.guest("rogue"), start="back", mode=mode, heads_only=heads_only, between=between)
    if heads_only:
        vif.hub.peers.append(two.hub)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    big = tcp(bytes(9000), blank=True)
    parts = [(big[at : at + PAGE_SIZE], 0) for at in range(0, len(big), PAGE_SIZE)]
    extra = EXTRA_GSO.pack(1, 0, 1448, 1, 0, 0)
    packets = {
        (0, plain(60)): hand.frame([(plain(60), 5)]),
        (0, plain(200)): hand.frame([(plain(200)[:100], 0), (plain(200)[100:], 9)]),
        (GSO, big): hand.frame(parts, flags=3 | EXTRA, extras=[extra]),
        (0, plain(61)): hand.frame([(plain(61), 0)]),
    }
    received = two.wire.received if heads_only else vif.hub.sent
    for frame, slots in packets.items():  # one by one: what a burst leaves on the ring for the next is read anew
        hand.put(*slots)
        hands.append(hand)
        hand.publish()
        hands.clear()
        assert turns, "somebody had a turn"
        turns.clear()
        assert received == [frame]
        received.clear()
        assert [status for _, status in hand.answers()] == [1 if slot == extra else OKAY for slot in slots]
    assert not vif.netback.disabled
    assert one.wire.send(plain(60)) == 1
    world.step()
    assert world.errors == []


@pytest.mark.parametrize("rx_mode", ["copy", "flip"])
@pytest.mark.parametrize("name", RX_RUBBISH)
def test_a_buffer_changed_behind_the_backend_is_too_late(world: World, name: str, rx_mode: Any) -> None:
    turns: list[str] = []
    hands: list[FrontByHand] = []

    def between(call: str) -> None:
        if hands and call in ("copy_grants", "transfer"):
            turns.append(call)
            for index in range(256):
                hands[0].rx.slot(index)[:] = RX_RUBBISH[name]

    vif = world.vif(world.guest("rogue"), start="back", rx_mode=rx_mode, between=between)
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"request-rx-copy": str(int(rx_mode == "copy"))})
    taken = places(hand, 8) if rx_mode == "flip" else []
    hand.post(8, refs=[ref for ref, _ in taken], first_id=40)
    hands.append(hand)
    world.deliver(vif, plain(60), plain(5000), plain(61))
    hands.clear()
    assert turns, "somebody had a turn"
    arrived = hand.arrived()
    assert [(ident, status) for ident, _, _, status, _ in arrived] == [(40, 60), (41, 4096), (42, 904), (43, 61)]
    if taken:
        missing = [vif.guest.domain.end_transfers(ref, addr, 1) for ref, addr in taken]
        assert missing == [[]] * 4 + [[0]] * 4
        window = vif.guest.domain.window
        found = [bytes(window[addr : addr + size]) for (_, addr), size in zip(taken, (60, 4096, 904, 61), strict=False)]
    else:
        found = [data for *_, data in arrived]
    assert [found[0], found[1] + found[2], found[3]] == [plain(60), plain(5000), plain(61)]
    assert not vif.netback.disabled
    assert world.errors == []


WAYS = [("linux", "flip"), *[(profile, "copy") for profile in FRONTENDS]]


@pytest.mark.parametrize(("profile", "rx_mode"), WAYS)
@pytest.mark.parametrize("name", RX_RUBBISH)
def test_an_answer_changed_behind_the_frontend_is_too_late(world: World, name: str, profile: str, rx_mode: Any) -> None:
    turns: list[str] = []
    stages: list[Stage] = []

    def between(call: str) -> None:
        if stages and call in ("end_grant", "end_transfers"):
            turns.append(call)
            hand = stages[0].hand
            for index in range(256):
                hand.rx.slot(index)[:] = RX_RUBBISH[name]
                hand.tx.slot(index)[:] = TX_RESPONSE.pack(0xFFFF, -1).ljust(12, b"\xff")

    stage = Stage(world, profile, rx_mode, between=between)
    stage.connect()
    hand, wire = stage.hand, stage.vif.wire
    assert wire.send(plain(60), plain(9000), plain(61)) == 3
    idents = [ident for ident, _ in outstanding(hand)]
    stages.append(stage)
    rx((0, MORE, 4096), (0, 0, 100), (0, 0, FRAME))(hand)
    hand.respond(*[(ident, OKAY) for ident in idents])
    stages.clear()
    assert turns, "somebody had a turn"
    whole = (GOOD * 70)[:4096] + (GOOD * 2)[:100]
    assert wire.received == [(0, whole), (0, GOOD)]
    assert not stage.vif.netfront.broken
    counted = stage.vif.netfront.statistics()
    assert (counted["rx_errors"], counted["tx_errors"]) == (0, 0)
    stage.exchange()
    stage.come_back()
