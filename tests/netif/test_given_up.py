"""A guest gives pages up (XENMEM_decrease_reservation) that its backend still uses: nobody else gets to see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.grant_table import GNTST_bad_page
from xnet.testing import FrontByHand, World
from xnet.testing.frames import plain

pytestmark = pytest.mark.integration

MODES = pytest.mark.parametrize("mode", ["copy", "map"])


def send_given_up(hand: FrontByHand) -> int:
    """A frame whose page is gone before the backend reads it."""
    slots = hand.frame([(plain(60), 0)])
    given = hand.xen.decrease_reservation(hand.granted[-1][1], 1)
    hand.put(*slots)
    hand.publish()
    return given


def give_up(number: int) -> Callable[[FrontByHand], int]:
    """Give up a page by its place in what was granted: 0 and 1 are the rings, then the posted buffers."""
    return lambda hand: hand.xen.decrease_reservation(hand.granted[number][1], 1)


CASES: dict[str, tuple[Callable[[FrontByHand], int], int, list[int], bool]] = {
    "the tx ring": (give_up(0), 0, [], True),
    "the rx ring": (give_up(1), 0, [], True),
    "a posted buffer": (give_up(2), 1, [], False),
    "a page that is sent": (send_given_up, 1, [-1], True),
}
"""What is done, pages that went, tx statuses, whether the next frame into the guest arrives."""


@MODES
@pytest.mark.parametrize("name", CASES)
def test_a_page_in_use_stays_and_one_that_is_gone_is_an_error_in_its_own_answer(
    world: World, name: str, mode: str
) -> None:
    act, given, statuses, arrives = CASES[name]
    one, two = world.pair()
    room = world.host.hypervisor.heap.room
    vif = world.vif(world.guest("rogue"), start="back", mode=mode)
    hand = FrontByHand(world, vif.guest)
    hand.connect()
    hand.post(4)
    assert act(hand) == given
    assert [status for _, status in hand.answers()] == statuses
    new = world.host.hypervisor.heap.room
    taken = world.host.dom0.increase_reservation(new)
    assert len(taken) == new, "somebody else has every frame that was free"
    world.deliver(vif, plain(61), plain(62))
    first, second = hand.arrived()
    assert (first[3] == 61) is arrives
    assert second[3:] == (62, plain(62))
    view = world.memory.view
    assert not any(any(view[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE]) for mfn in taken), "and they are as they were"
    world.host.dom0.release_frames(taken)
    assert one.wire.send(plain(100)) == 1
    world.step()
    assert two.wire.received == [(0, plain(100))]
    assert world.errors == []
    for ring in (hand.tx, hand.rx):
        ring.release()
    world.crash(vif.guest)
    world.tick(2)
    assert world.host.hypervisor.heap.room == room


def test_a_page_is_given_up_once_and_cannot_be_given_away_then(world: World) -> None:
    domain = world.guest("rogue").domain
    addr = domain.alloc_pages(1)
    assert [domain.decrease_reservation(addr, 1) for _ in range(2)] == [1, 0]
    assert domain.transfer([addr], [0], 0, [0]) == [GNTST_bad_page]
