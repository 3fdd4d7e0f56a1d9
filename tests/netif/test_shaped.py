"""Queues of other shapes than Linux's, under answers in any order: nothing is sent twice, lost, or kept."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnet.abi.xen.netif import TX_REQUEST
from xnet.netif.blocks import Blocks
from xnet.netif.profile import FRONTENDS
from xnet.testing import BackByHand, World
from xnet.testing.frames import plain

OTHERS = [name for name, profile in FRONTENDS.items() if profile.shape is not None]
MORE = 4


def whole(hand: BackByHand, slots: list[bytes]) -> Iterator[bytes]:
    """The frames in request slots, read out of the guest's pages."""
    frame, left = b"", 0
    for slot in slots:
        ref, offset, flags, _, size = TX_REQUEST.unpack(slot)
        if not left:
            assert not frame
            left = size
            later = [TX_REQUEST.unpack(other) for other in slots[slots.index(slot) + 1 :]]
            for _, _, more, _, part in later if flags & MORE else []:
                size -= part
                if not more & MORE:
                    break
        page = hand.map(ref, readonly=True)
        frame += bytes(hand.xen.window[page.addr + offset : page.addr + offset + size])
        hand.xen.unmap_grants([page.handle])
        left -= size
        if not flags & MORE:
            yield frame
            frame = b""
            assert left == 0


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("profile", OTHERS)
def test_frames_stay_what_they_are_until_they_are_answered_in_whatever_order(
    world: World, profile: str, seed: int
) -> None:
    vif = world.vif(world.guest("a"), front_profile=profile, start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    dice = Random(seed)
    owed: list[int] = []
    serial = sent = 0
    while sent < 400:
        frames = []
        for _ in range(dice.randint(1, 9)):
            serial += 1
            length = dice.choice([60, 300, 1514, 2048, 2049, 4096, 5000, 9000])
            frames.append(serial.to_bytes(4, "big") + plain(length)[4:])
        done = vif.wire.send(*frames)
        slots = hand.requests()
        assert list(whole(hand, slots)) == frames[:done]
        ids = [TX_REQUEST.unpack(slot)[3] for slot in slots]
        assert not set(ids) & set(owed), "an id that is out"
        assert len(set(ids)) == len(ids)
        sent += done
        owed += ids
        dice.shuffle(owed)
        count = len(owed) if not done else dice.randint(0, len(owed))
        hand.respond(*[(ident, 0) for ident in owed[:count]])
        del owed[:count]
        assert not vif.netfront.broken, vif.netfront.reason
    hand.respond(*[(ident, 0) for ident in owed])
    vif.wire.send(plain(60))
    assert vif.netfront.statistics()["tx_errors"] == 0
    used = vif.guest.domain.grefs_used
    vif.netfront.close()
    hand.detach()
    hand.switch("6")
    assert used > 0
    assert vif.guest.domain.grefs_used == 0


@pytest.mark.integration
@settings(max_examples=30, deadline=None)
@given(moves=st.lists(st.tuples(st.booleans(), st.integers(1, 4096), st.integers(0, 1 << 16)), max_size=80))
@pytest.mark.parametrize("size", [512, 2048])
def test_a_block_is_in_one_hand(size: int, moves: list[tuple[bool, int, int]]) -> None:
    with World() as world:
        domain = world.guest("a").domain
        blocks = Blocks(domain, 0, 8, size)
        held: dict[int, int] = {}
        for take, length, which in moves:
            length = length if size == 2048 else min(length, size)
            if take and blocks.pages:
                block = blocks.take(length)
                assert block * size % 4096 == 0 or length <= size, "more than a block begins a page"
                ours = set(range(block, block + (1 if length <= size else 4096 // size)))
                for other, of in held.items():
                    assert not ours & set(range(other, other + (1 if of <= size else 4096 // size)))
                held[block] = length
            elif not take and held:
                block = sorted(held)[which % len(held)]
                blocks.give_back(block, held.pop(block))
        for block, length in held.items():
            blocks.give_back(block, length)
        assert sorted(blocks.pages) == list(range(8))
        assert blocks.loose == []
        assert domain.end_grant(blocks.refs, blocks.entries)
        domain.free_grefs(blocks.refs, 8)
        domain.free_pages(blocks.addr, 8)
