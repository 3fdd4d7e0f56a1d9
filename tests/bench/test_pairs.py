"""Many streams at once: the programs that send and receive them, on loopback, and what becomes of their lines."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

import pytest

from xnet.bench.pairs import figures, streams
from xnet.bench.parse import Streamed
from xnet.bench.programs import Program, compiled, interpreted
from xnet.bench.setup import Tool, address_of, guests_of, running
from xnet.bench.workloads import rr
from xnet.errors import HostError


class Loopback:
    """A setup whose guests are this machine."""

    name = "loopback"
    pids = ()

    def exec(self, guest: str, argv: Sequence[str], keep: Sequence[int] = ()) -> Tool:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
            text=True,
        )

    def address(self, guest: str) -> str:
        return "127.0.0.1"


@pytest.fixture(params=["c", "python"])
def ends(request: pytest.FixtureRequest) -> Iterator[Program]:
    if request.param == "python":
        yield interpreted("ends")
        return
    with compiled("ends") as program:
        if program is None:
            pytest.skip("no C compiler")
        yield program


@pytest.mark.parametrize(
    ("pairs", "guests", "last"),
    [(1, ("a", "b"), "10.77.0.2"), (2, ("a1", "b1", "a2", "b2"), "10.77.0.4"), (32, None, "10.77.0.64")],
)
def test_every_guest_of_every_pair_has_an_address_of_its_own(
    pairs: int, guests: tuple[str, ...] | None, last: str
) -> None:
    names = guests_of(pairs)
    assert len({address_of(name) for name in names}) == len(names) == 2 * pairs
    assert guests is None or names == guests
    assert address_of(names[-1]) == last


def test_the_aggregate_is_over_the_time_from_the_first_start_to_the_last_end() -> None:
    got = [Streamed(0, 2_000_000_000, 300_000_000), Streamed(500_000_000, 2_500_000_000, 200_000_000)]
    assert figures(got, None) == {"tcp_gbps_2": pytest.approx(0.5e9 * 8 / 2.5 / 1e9)}
    assert figures(got, 0.25)["tcp_cpu_s_per_gb_2"] == pytest.approx(0.5)


def test_streams_that_brought_nothing_are_an_error() -> None:
    with pytest.raises(HostError, match="nothing arrived"):
        figures([Streamed(0, 1, 0)], None)


@pytest.mark.integration
@pytest.mark.slow
def test_a_stream_runs_at_each_gate_for_as_long_as_it_was_asked(ends: Program) -> None:
    with streams(Loopback(), ends, pairs=1, rounds=2, seconds=0.2) as held:
        first, second = held.run(), held.run()
    assert first.keys() == second.keys() == {"tcp_gbps_1"}
    assert min(first["tcp_gbps_1"], second["tcp_gbps_1"]) > 0


@pytest.mark.integration
def test_an_end_that_does_not_start_is_an_error_with_its_words() -> None:
    missing = Program(("sh", "-c", "echo no such end; exit 1"))
    with pytest.raises(HostError, match="no such end"), streams(Loopback(), missing, 1, 1, 0.1):
        raise AssertionError("no ends, no streams")


@pytest.mark.integration
@pytest.mark.slow
def test_request_and_response_are_timed_turn_by_turn(ends: Program) -> None:
    figures = rr(Loopback(), 1, ends)
    assert figures.keys() == {"rr_p50_us", "rr_p99_us"}
    assert 0 < figures["rr_p50_us"] <= figures["rr_p99_us"]


@pytest.mark.integration
@pytest.mark.parametrize("arguments", [[], ["ask", "127.0.0.1"], ["sink", "1", "1"], ["dance", "1"]])
def test_words_that_are_no_end_are_a_usage_error(ends: Program, arguments: list[str]) -> None:
    run = subprocess.run([*ends.argv, *arguments], pass_fds=ends.keep, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "usage" in run.stderr


@pytest.mark.integration
def test_an_end_that_has_ended_is_reaped_by_the_block_it_ran_in(ends: Program) -> None:
    with running(Loopback(), "b", [*ends.argv, "echo", "5299"], ends.keep) as tool:
        assert tool.poll() is None
    assert tool.returncode != 0
