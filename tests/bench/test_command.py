"""The command line of the bench, as far as it needs no machine."""

from __future__ import annotations

import io
from typing import Any

import pytest
from click.testing import CliRunner

from xnet.bench import Options, Report, Sample, command
from xnet.bench.lab import CROSSBOW, VARIANTS
from xnet.bench.metrics import QUICK
from xnet.errors import HostError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Bench that measures nothing and says the lab takes twice as long as the relay."""
    options: list[Options] = []

    def run_bench(wanted: Options, progress: command.Progress) -> Report:
        options.append(wanted)
        samples = [Sample(1, "xnbu", "relay", "rr_p50_us", 1.0), Sample(1, "xnbu", "lab", "rr_p50_us", 2.0)]
        return Report({}, {}, samples)

    monkeypatch.setattr(command, "run_bench", run_bench)
    return options


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], Options()),
        (["--quick"], Options(rounds=2, seconds=1, workloads=QUICK)),
        (["--quick", "--rounds", "7"], Options(rounds=7, seconds=1, workloads=QUICK)),
        (["--quick", "--only", "pairs"], Options(rounds=2, seconds=1, workloads=("pairs",))),
        (["--flavour", "xnbo", "--only", "udp,ping"], Options(flavours=("xnbo",), workloads=("udp", "ping"))),
        (["--with", "flip,map"], Options(variants=("flip", "map"))),
        (["--with", "all"], Options(variants=(*VARIANTS, *CROSSBOW))),
        (["--no-kernel", "--no-lab", "--relay", "both"], Options(kernel=False, lab=False, relay="both")),
    ],
)
def test_options_say_what_is_measured(asked: list[Options], arguments: list[str], options: Options) -> None:
    result = CliRunner().invoke(command.bench, arguments)
    assert result.exit_code == 0, result.output
    assert asked == [options]
    assert "<= 2.50 reached" in result.output


@pytest.mark.parametrize(
    "arguments", [["--only", "tcp,sctp"], ["--with", "flop"], ["--rounds", "0"], ["--flavour", "xnbe"], ["extra"]]
)
def test_a_word_the_bench_does_not_know_is_a_usage_error(asked: list[Options], arguments: list[str]) -> None:
    assert CliRunner().invoke(command.bench, arguments).exit_code == 2
    assert asked == []


def test_a_machine_that_lacks_something_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_bench(*_: Any) -> Report:
        raise HostError("bench: iperf3 is missing: apt install iperf3")

    monkeypatch.setattr(command, "run_bench", run_bench)
    result = CliRunner().invoke(command.bench, [])
    assert (result.exit_code, result.output) == (1, "Error: bench: iperf3 is missing: apt install iperf3\n")


@pytest.mark.parametrize(
    ("tty", "shown"),
    [
        (False, "bench: starting\nbench: round 1/2\nbench: round 2/2\n"),
        (True, "\r\x1b[K[0/0] starting\r\x1b[K[0/3] round 1/2 a\r\x1b[K[1/3] round 1/2 b"),
    ],
)
def test_progress_is_a_line_a_round_on_a_file_and_one_line_on_a_terminal(
    tty: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    progress = command.progress_on(tty)
    for step in ((0, 0, "starting"), (0, 3, "round 1/2 a"), (1, 3, "round 1/2 b"), (2, 3, "round 2/2 a")):
        progress(*step)
    assert stderr.getvalue().startswith(shown)


def test_a_place_that_cannot_be_kept_in_is_told_before_anything_is_measured(asked: list[Options]) -> None:
    result = CliRunner().invoke(command.bench, ["--keep", "/nonexistent/figures.json"])
    assert (result.exit_code, asked) == (1, [])
    assert result.output == "Error: --keep /nonexistent/figures.json: /nonexistent is no directory\n"


def test_a_disk_that_is_full_is_told_behind_the_figures(asked: list[Options]) -> None:
    result = CliRunner().invoke(command.bench, ["--keep", "/dev/full"])
    assert (result.exit_code, len(asked)) == (1, 1)
    assert "xnbu" in result.output
    assert result.output.endswith("Error: --keep /dev/full: No space left on device\n")
