"""maxbw: windows of 10 ms, what passes them, what waits, what is dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import GSO_SIZE_SHIFT, GSO_TCPV4, Chain, own
from xnet.frame.arena import Arena
from xnet.mac.bandwidth import BandwidthError, Limit, Ticker, format_maxbw, parse_maxbw
from xnet.testing.clock import HandClock

PAGES = 1 << 21


class Bench:
    """A cap with a clock, and what came through it: (time, bytes of a frame)."""

    def __init__(self, bps: int, *, into: bool = False) -> None:
        self.clock = HandClock()
        self.memory = memoryview(bytearray(PAGES))
        self.arena = Arena(self.memory, 0, PAGES)
        self.ticker = Ticker(self.clock)
        self.passed: list[tuple[float, bytes]] = []
        self.words: list[int] = []
        self.limit = Limit(self.ticker, self.arena, self.on, bps, into=into)
        self.number = 0

    def on(self, chain: Chain) -> None:
        for frame in chain.frames:
            self.passed.append((self.clock.time, chain.tobytes(frame)))
            self.words.append(frame[0])

    def send(self, *sizes: int, word: int = 0) -> None:
        data, frames = bytearray(), []
        for size in sizes:
            frames.append(own(word, len(data), size))
            data += self.number.to_bytes(4, "big").ljust(size, b"x")
            self.number += 1
        self.limit.take(Chain(memoryview(data), frames))

    @property
    def bytes(self) -> int:
        return sum(len(data) for _, data in self.passed)

    @property
    def numbers(self) -> list[int]:
        return [int.from_bytes(data[:4], "big") for _, data in self.passed]


def test_a_window_passes_its_share_and_the_next_ones_what_waits() -> None:
    bench = Bench(12_000_000)  # 15000 bytes a window
    bench.send(*[1500] * 25)
    assert bench.bytes == 15000
    bench.clock.run_until(0.0101)
    assert bench.numbers == list(range(20))
    bench.clock.run_until(0.0201)
    assert bench.numbers == list(range(25))
    assert (bench.limit.blocked, bench.limit.unblocked, bench.limit.sdrops) == (1, 1, 0)
    assert not bench.clock.timers, "nothing waits, so nothing ticks"
    assert bench.arena.free() == PAGES


def test_idle_time_earns_nothing() -> None:
    bench = Bench(12_000_000)
    bench.clock.run_until(1.0)
    bench.send(*[1500] * 25)
    assert bench.bytes == 15000


def test_a_frame_larger_than_a_window_passes_and_the_windows_after_it_pay() -> None:
    bench = Bench(10_000_000)  # 12500 bytes a window
    word = GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
    bench.send(64000, 64000, word=word)
    assert bench.bytes == 64000
    bench.clock.run_until(0.045)
    assert bench.bytes == 64000, "five windows are 62500 bytes: of the sixth, something is left"
    bench.clock.run_until(0.0501)
    assert bench.bytes == 128000
    assert bench.words == [word, word]


def test_toward_the_client_twice_a_window_waits_and_the_rest_is_dropped() -> None:
    bench = Bench(12_000_000, into=True)
    bench.send(*[1500] * 40)
    assert (len(bench.limit.queue), bench.limit.sdrops) == (20, 10)
    bench = Bench(1_200_000, into=True)
    bench.send(1500, 60000, 60000)
    assert (len(bench.limit.queue), bench.limit.sdrops) == (1, 1), "one always waits, however large"


def test_away_from_the_client_a_thousand_packets_wait() -> None:
    bench = Bench(1_200_000)
    for _ in range(11):
        bench.send(*[100] * 100)
    assert (len(bench.limit.queue), bench.limit.sdrops) == (1000, 85)
    bench = Bench(1_200_000)
    bench.send(1500, *[14480] * 200, word=GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT)
    assert len(bench.limit.queue) == 100, "counted as the ten segments each becomes"


def test_a_cap_of_nothing_drops_everything() -> None:
    bench = Bench(0)
    bench.send(60, 60)
    bench.clock.run_until(1)
    assert (bench.bytes, bench.limit.sdrops) == (0, 2)


def test_a_cap_changes_while_frames_wait() -> None:
    bench = Bench(1_200_000)
    bench.send(*[1500] * 5)
    bench.limit.set(12_000_000)
    bench.clock.run_until(0.0101)
    assert bench.numbers == [0, 1, 2, 3, 4]
    bench.send(*[1500] * 20)
    bench.limit.set(0)
    assert bench.limit.sdrops == 20 - (bench.bytes - 7500) // 1500
    assert not bench.clock.timers


def test_a_cap_that_ends_lets_what_waits_go_in_its_order() -> None:
    bench = Bench(1_200_000)
    bench.send(*[1500] * 900)
    bench.limit.end()
    assert bench.numbers == list(range(900))
    assert not bench.clock.timers


def test_who_has_priority_goes_on_first() -> None:
    bench = Bench(1_200_000)
    order: list[str] = []
    second = Limit(bench.ticker, bench.arena, lambda chain: order.append("high"), 1_200_000, into=False)
    first = Limit(bench.ticker, bench.arena, lambda chain: order.append("low"), 1_200_000, into=False)
    first.rank = 6
    for limit in (first, second):
        data = memoryview(bytes(3000))
        limit.take(Chain(data, [own(0, 0, 1500), own(0, 1500, 1500)]))
    order.clear()
    bench.clock.run_until(0.0101)
    assert order == ["high", "low"]


@given(
    st.sampled_from([1_200_000, 10_000_000, 100_000_000]),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(60, 65000), min_size=1, max_size=6)), max_size=40),
)
def test_no_windows_pass_more_than_their_share_and_one_frame_and_nothing_is_lost_unseen(
    bps: int, into: bool, arrivals: list[tuple[int, list[int]]]
) -> None:
    bench, time = Bench(bps, into=into), 0
    for gap_ms, sizes in arrivals:
        time += gap_ms
        bench.clock.run_until(time / 1000)
        bench.send(*sizes)
    bench.clock.run_until(time / 1000 + 65000 * 250 / (bps / 800) / 100 + 1)
    assert len(bench.passed) + bench.limit.sdrops == bench.number
    assert bench.numbers == sorted(bench.numbers)
    window = bps // 800
    times = [int(when * 100 + 1e-6) for when, _ in bench.passed]
    sizes = [len(data) for _, data in bench.passed]
    for first in range(len(times)):
        total = 0
        for last in range(first, len(times)):
            total += sizes[last]
            assert total - sizes[last] < window * (times[last] - times[first] + 1), "before the last, there was room"


@pytest.mark.parametrize(
    ("text", "bps", "shown"),
    [
        ("1200K", 1_200_000, "    1.2"),
        ("100", 100_000_000, "  100"),
        ("100M", 100_000_000, "  100"),
        ("1g", 10**9, " 1000"),
        ("2.5M", 2_500_000, "    2.5"),
        ("0", 0, "    0"),
        ("100G", 10**11, "100000"),
    ],
)
def test_bandwidths_are_read_and_shown_as_dladm_does(text: str, bps: int, shown: str) -> None:
    assert parse_maxbw(text) == bps
    assert format_maxbw(bps) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1199K", "minimum value for maxbw is 1200K"),
        ("1", "minimum value for maxbw is 1200K"),
        ("10%", "invalid argument"),
        ("", "invalid argument"),
        ("-5", "invalid argument"),
        ("1e3", "invalid argument"),
        ("K", "invalid argument"),
    ],
)
def test_what_is_no_bandwidth_is_refused(text: str, why: str) -> None:
    with pytest.raises(BandwidthError, match=why):
        parse_maxbw(text)
