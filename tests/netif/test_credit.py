"""Credit: a guest sends what its rate allows, all of it in the end, in order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen.netif import TX_REQUEST, TX_SLOT_SIZE
from xnet.netif.credit import BURST, Credit, parse_rate
from xnet.testing import Vif, World
from xnet.testing.clock import HandClock
from xnet.testing.frames import plain

integration = pytest.mark.integration


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("62500,50000", (62500, 50000)),
        ("1,1", (1, 1)),
        (None, None),
        ("", None),
        ("62500", None),
        ("0,50000", None),
        ("62500,0", None),
        ("-1,50000", None),
        ("1,2,3", None),
        ("x,y", None),
        ("9" * 40 + ",1", None),
    ],
)
def test_a_rate_is_two_numbers_or_no_limit(text: str | None, rate: tuple[int, int] | None) -> None:
    assert parse_rate(text) == rate


def slots(*lengths: int) -> bytes:
    return b"".join(TX_REQUEST.pack(8, 0, 0, 0, length) for length in lengths)


@given(
    st.integers(1, 300_000),
    st.integers(1000, 100_000),
    st.lists(st.tuples(st.integers(14, 4096), st.floats(0, 0.05)), min_size=1, max_size=60),
)
def test_never_more_than_allowed_and_never_stuck(count: int, usec: int, packets: list[tuple[int, float]]) -> None:
    clock = HandClock()
    woken: list[float] = []
    credit = Credit((count, usec), clock, lambda: woken.append(clock.now()))
    sent: list[tuple[float, int]] = []
    for length, wait in packets:
        clock.run_until(clock.time + wait)
        for _ in range(4096 // count + 3):
            if credit.afford(slots(length), 64):
                break
            assert credit.timer is not None, "who has too little is woken"
            assert credit.timer.when <= clock.time + usec / 1e6 + 1e-9
            clock.run_until(credit.timer.when)
            assert woken[-1] == clock.time
        credit.charge(1)
        sent.append((clock.time, length))
    window = usec / 1e6
    for start, _ in sent:
        for end in (when for when, _ in sent if when >= start):
            windows = (end - start) / window + 2
            total = sum(length for when, length in sent if start <= when <= end)
            assert total <= max(BURST, count) + count * windows


def test_what_is_taken_off_the_ring_is_what_is_charged() -> None:
    credit = Credit((10_000, 50_000), HandClock(), lambda: None)
    data = slots(4000, 4000, 4000)
    assert credit.afford(data, 64) == data[: 2 * TX_SLOT_SIZE]
    assert credit.timer is None, "there is something to do now"
    credit.charge(1)
    assert credit.remaining == 6000
    assert credit.afford(data[TX_SLOT_SIZE:], 1) == data[TX_SLOT_SIZE : 2 * TX_SLOT_SIZE]
    credit.charge(1)
    assert credit.afford(data[2 * TX_SLOT_SIZE :], 64) == b""
    assert credit.timer is not None
    credit.close()
    assert credit.timer is None


@pytest.fixture
def limited(world: World) -> Vif:
    vif = world.vif(world.guest("a"), start="none")
    world.write(f"{vif.back_home}/rate", "10000,50000")
    vif.netback.start()
    vif.netfront.start()
    world.step()
    return vif


@integration
def test_a_guest_sends_a_window_at_a_time_and_all_of_it(world: World, limited: Vif) -> None:
    frames = [plain(1000 + i) for i in range(40)]
    assert limited.wire.send(*frames) == 40
    world.step()
    assert 8 <= len(limited.hub.sent) <= 10
    assert limited.netback.counters.tx_slots == len(limited.hub.sent), "the rest is still on the ring"
    seen = [len(limited.hub.sent)]
    for _ in range(5):
        world.pass_time(0.05)
        seen.append(len(limited.hub.sent))
    assert all(8 <= after - before <= 11 for before, after in pairwise(seen) if after < 40), seen
    assert [data for _, data in limited.hub.sent] == frames
    world.pass_time(10)
    limited.wire.send(*frames)
    world.step()
    assert 50 <= len(limited.hub.sent) <= 60, "what was left and one window, whatever the time that passed"


@integration
def test_toward_the_guest_there_is_no_limit(world: World, limited: Vif) -> None:
    world.deliver(limited, *[plain(1500)] * 100)
    world.step()
    assert len(limited.wire.received) == 100


@integration
def test_the_rate_is_changed_while_it_runs(world: World, limited: Vif) -> None:
    limited.wire.send(*[plain(1500)] * 100)
    world.step()
    before = len(limited.hub.sent)
    assert before < 10
    world.write(f"{limited.back_home}/rate", "1,50000")
    world.step()
    world.pass_time(1)
    assert len(limited.hub.sent) == before
    world.remove(f"{limited.back_home}/rate")
    world.step()
    assert len(limited.hub.sent) == 100
    world.write(f"{limited.back_home}/rate", "3000,50000")
    world.step()
    limited.wire.send(*[plain(1500)] * 10)
    world.step()
    assert len(limited.hub.sent) == 102
    world.unplug(limited)
    assert not world.clock.timers
