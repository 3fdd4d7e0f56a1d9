"""A run beside a kept one: what is noise, what is not, and what is said of another machine."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from xnet.bench import Report, Sample, command
from xnet.bench.check import MACHINE, check, judge, kept_of, load, mann_whitney
from xnet.bench.metrics import metric
from xnet.bench.report import Failure
from xnet.errors import XnetError

STEADY = [0.78, 0.80, 0.79, 0.81, 0.80]


def a_report(ratios: Sequence[float], cpu: str = "EPYC", name: str = "tcp_gbps") -> Report:
    """A run whose relay always does 10."""
    report = Report(dict.fromkeys(MACHINE, "the same") | {"cpu": cpu, "load": "0.1"}, {"seconds": 3})
    for number, ratio in enumerate(ratios, 1):
        report.samples += [
            Sample(number, "xnbu", "relay", name, 10.0),
            Sample(number, "xnbu", "lab", name, 10.0 * ratio),
        ]
    return report


def times(ratios: Sequence[float], factor: float) -> list[float]:
    return [factor * ratio for ratio in ratios]


def by_trying_all(left: list[float], right: list[float]) -> float:
    """The definition: of all ways to deal the values out, those at least as far from half."""
    values, middle = left + right, len(left) * len(right) / 2

    def distance(chosen: tuple[int, ...]) -> float:
        mine = [values[index] for index in chosen]
        theirs = [value for index, value in enumerate(values) if index not in chosen]
        return abs(sum((a > b) + (a == b) / 2 for a in mine for b in theirs) - middle)

    all_ways = [distance(chosen) for chosen in itertools.combinations(range(len(values)), len(left))]
    return sum(way >= distance(tuple(range(len(left)))) for way in all_ways) / len(all_ways)


def test_the_chance_is_that_of_trying_all_ways() -> None:
    dice = random.Random(4)
    for _ in range(40):
        left = [dice.random() for _ in range(dice.randint(1, 5))]
        right = [dice.random() + 0.3 for _ in range(dice.randint(1, 6))]
        assert mann_whitney(left, right) == pytest.approx(by_trying_all(left, right))


@pytest.mark.parametrize(
    ("left", "right", "chance"),
    [
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),
        ([6, 7, 8, 9, 10], [1, 2, 3, 4, 5], 2 / 252),
        ([1, 2], [3, 4], 1 / 3),
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([2, 2, 2], [2, 2], 1.0),
    ],
)
def test_the_chance_of_known_cases(left: list[float], right: list[float], chance: float) -> None:
    assert mann_whitney(left, right) == pytest.approx(chance)


@pytest.mark.parametrize(
    ("name", "factor", "word"),
    [
        ("tcp_gbps", 0.8, "REGRESSED"),
        ("tcp_gbps", 1.2, "improved"),
        ("ping_p50_ms", 1.2, "REGRESSED"),
        ("ping_p50_ms", 0.8, "improved"),
        ("tcp_gbps", 1.0, "same"),
        ("tcp_gbps", 0.96, "same"),
    ],
)
def test_worse_is_what_the_metric_says_and_a_little_is_nothing(name: str, factor: float, word: str) -> None:
    assert judge("xnbu", metric(name), STEADY, times(STEADY, factor)).word == word


def test_a_greater_difference_within_the_noise_is_none() -> None:
    wild = [0.4, 0.9, 0.5, 1.1, 0.6]
    verdict = judge("xnbu", metric("tcp_gbps"), STEADY, wild)
    assert verdict.change < -0.2
    assert verdict.word == "same"


def test_few_rounds_prove_nothing_and_are_told_so() -> None:
    assert judge("xnbu", metric("tcp_gbps"), STEADY, [0.1, 0.1, 0.1]).word == "too few rounds"


def test_a_check_names_what_regressed_and_how_far_chance_is() -> None:
    verdict = check(kept_of(a_report(STEADY)), a_report(times(STEADY, 0.5)))
    assert verdict.has_regressed()
    lines = verdict.as_text().splitlines()
    row = "xnbu TCP bulk, Gbit/s 0.80 (0.78-0.81) 0.40 (0.39-0.41) -50 % 0.008 REGRESSED"
    assert lines[1].split() == row.split()
    assert lines[-1] == "1 of 1 figures regressed"
    assert verdict.differences == []


def test_another_machine_is_told_and_the_ratios_are_judged_all_the_same() -> None:
    verdict = check(kept_of(a_report(STEADY)), a_report(times(STEADY, 0.5), cpu="Xeon"))
    assert verdict.has_regressed()
    assert verdict.differences == ["cpu Xeon, then EPYC"]
    assert "not the same as when these were kept: cpu Xeon, then EPYC" in verdict.as_text()


def test_nothing_in_common_is_nothing_to_check() -> None:
    with pytest.raises(XnetError, match="nothing to check"):
        check(kept_of(a_report(STEADY)), a_report(STEADY, name="udp_fps"))


def test_what_is_kept_is_what_is_loaded(tmp_path: Path) -> None:
    kept = kept_of(a_report(STEADY))
    file = tmp_path / "figures.json"
    file.write_text(kept.as_json())
    assert load(file) == kept
    assert kept.ratios == {"xnbu": {"tcp_gbps": pytest.approx(STEADY)}}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"environment": {}, "options": {}, "ratios": {"xnbu": [1]}}', "null"]
)
def test_a_file_of_something_else_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text(text)
    with pytest.raises(XnetError, match=r"figures.json: no figures of a bench: .*--keep"):
        load(file)


def test_a_file_that_is_not_there_is_told_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(XnetError, match=r"No such file.*: xnet bench --keep"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("factor", "failed", "status"),
    [(1.0, False, 0), (0.5, False, 1), (1.5, False, 0), (1.0, True, 1)],
)
def test_exit_status_is_about_regression_alone_when_checking(
    factor: float, failed: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.4 of the relay is below what was promised, which without --check is an exit status of 1."""
    low = times(STEADY, 0.5)
    file, again = tmp_path / "kept.json", tmp_path / "again.json"
    file.write_text(kept_of(a_report(low)).as_json())
    report = a_report(times(low, factor))
    if failed:
        report.failures.append(Failure(1, "xnbu", "lab", "udp", "iperf3: nothing arrived"))
    monkeypatch.setattr(command, "run_bench", lambda options, progress: report)
    result = CliRunner().invoke(command.bench, ["--check", str(file), "--keep", str(again), "--json"])
    assert result.exit_code == status, result.output
    assert load(again) == kept_of(report)
    assert json.loads(result.stdout)["check"]["verdicts"][0]["metric"] == "tcp_gbps"
    assert CliRunner().invoke(command.bench, []).exit_code == 1


def test_without_figures_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_bench", lambda options, progress: pytest.fail("measured"))
    result = CliRunner().invoke(command.bench, ["--check", str(tmp_path / "none.json")])
    assert result.exit_code == 1
    assert "No such file" in result.output
