"""Ratios are of one round; medians and spreads are over the rounds."""

from __future__ import annotations

import json

import pytest

from xnet.bench import METRICS, Report, Sample, Spread
from xnet.bench.metrics import FLAVOURS, WORKLOADS, metric
from xnet.bench.pairs import SIZES
from xnet.bench.programs import Program
from xnet.bench.report import TITLES, Failure
from xnet.bench.workloads import workloads

RELAY = {1: 4.0, 2: 8.0, 3: 2.0}
LAB = {1: 2.0, 2: 6.0, 3: 1.8}
"""Ratios 0.5, 0.75, 0.9: their median is not the ratio of the medians (2.0 / 4.0)."""


def a_report(*samples: tuple[str, str, str, dict[int, float]]) -> Report:
    report = Report({"kernel": "6.18"}, {"rounds": 3})
    for flavour, setup, name, figures in samples:
        report.samples += [Sample(number, flavour, setup, name, value) for number, value in figures.items()]
    return report


def test_a_ratio_compares_figures_of_one_round() -> None:
    report = a_report(("xnbu", "relay", "tcp_gbps", RELAY), ("xnbu", "lab", "tcp_gbps", LAB))
    assert report.ratios("xnbu", "lab", "tcp_gbps") == [0.5, 0.75, 0.9]
    assert report.ratio("xnbu", "lab", "tcp_gbps") == Spread(0.75, 0.5, 0.9, 3)


def test_a_round_without_both_figures_has_no_ratio() -> None:
    report = a_report(("xnbu", "relay", "tcp_gbps", {1: 4.0, 3: 2.0}), ("xnbu", "lab", "tcp_gbps", LAB))
    assert report.ratios("xnbu", "lab", "tcp_gbps") == [0.5, 0.9]


def test_flavours_and_setups_do_not_mix() -> None:
    report = a_report(("xnbu", "relay", "tcp_gbps", RELAY), ("xnbo", "lab", "tcp_gbps", LAB))
    assert report.ratio("xnbu", "lab", "tcp_gbps") is None
    assert report.ratio("xnbo", "lab", "tcp_gbps") is None
    assert report.spread("xnbu", "relay", "tcp_gbps") == Spread(4.0, 2.0, 8.0, 3)


def test_a_relay_that_spent_no_cpu_gives_no_ratio() -> None:
    figures = ("xnbu", "relay", "tcp_cpu_s_per_gb", {1: 0.0}), ("xnbu", "lab", "tcp_cpu_s_per_gb", {1: 1.0})
    assert a_report(*figures).ratios("xnbu", "lab", "tcp_cpu_s_per_gb") == []


@pytest.mark.parametrize(
    ("values", "spread"),
    [([3.0], Spread(3.0, 3.0, 3.0, 1)), ([4.0, 1.0], Spread(2.5, 1.0, 4.0, 2)), ([], None)],
)
def test_a_spread_is_median_least_and_greatest(values: list[float], spread: Spread | None) -> None:
    assert Spread.of(values) == spread


@pytest.mark.parametrize(
    ("name", "ratio", "reached"),
    [
        ("tcp_gbps", 0.75, True),
        ("tcp_gbps", 0.74, False),
        ("udp_fps", 0.70, True),
        ("ping_p50_ms", 2.5, True),
        ("ping_p50_ms", 2.6, False),
        ("tcp_cpu_s_per_gb", 1.4, True),
        ("rr_p50_us", 2.6, False),
        ("tcp_gbps_32", 0.74, False),
        ("udp_cpu_us_per_frame", 99.0, None),
    ],
)
def test_a_promise_is_kept_from_the_right_side(name: str, ratio: float, reached: bool | None) -> None:
    assert metric(name).is_reached(ratio) is reached


@pytest.mark.parametrize(("lab", "reached"), [(0.8, True), (0.7, False)])
def test_the_report_says_whether_every_promise_was_kept(lab: float, reached: bool) -> None:
    report = a_report(("xnbo", "relay", "tcp_gbps", {1: 1.0}), ("xnbo", "lab", "tcp_gbps", {1: lab}))
    assert report.is_reached() is reached


def test_a_failed_workload_breaks_every_promise() -> None:
    report = a_report()
    assert report.is_reached()
    report.failures.append(Failure(1, "xnbu", "lab", "tcp", "iperf3: nothing arrived"))
    assert not report.is_reached()
    assert "failed: round 1 xnbu lab tcp: iperf3: nothing arrived" in report.as_text()


def test_the_table_shows_medians_spreads_and_the_verdict() -> None:
    report = a_report(("xnbu", "relay", "tcp_gbps", RELAY), ("xnbu", "lab", "tcp_gbps", LAB))
    lines = report.as_text().splitlines()
    assert lines[0].startswith("xnbu")
    assert lines[1].split() == ["relay", "lab", "lab/relay", "wanted"]
    assert lines[2].split("  ")[1] == "TCP bulk, Gbit/s"
    assert lines[2].endswith("4.00 (2.00-8.00)  2.00 (1.80-6.00)  0.75 (0.50-0.90)  >= 0.75 reached")
    assert not any("xnbo" in line for line in lines)


def test_a_lab_that_goes_another_way_has_a_row_of_its_own() -> None:
    names = ("relay", RELAY), ("lab", LAB), ("flip", {1: 0.4, 2: 0.4, 3: 0.8})
    report = a_report(*(("xnbu", setup, "tcp_gbps", figures) for setup, figures in names))
    lines = report.as_text().splitlines()
    at = lines.index("xnbu, other ways (and their ratio to the relay)")
    assert [line.split()[0] for line in lines[at + 2 : at + 4]] == ["lab", "flip"]
    assert lines[at + 3].split() == ["flip", "0.40", "(0.10x)"]
    assert lines[1].split() == ["relay", "lab", "lab/relay", "wanted"]
    assert report.summary()[0]["ratios"]["flip"]["median"] == pytest.approx(0.1)


def test_a_figure_one_setup_has_not_is_a_dash() -> None:
    names = ("kernel", "tcp_gbps", {1: 8.0}), ("relay", "tcp_gbps", {1: 4.0}), ("relay", "tcp_cpu_s_per_gb", {1: 0.5})
    report = a_report(*(("xnbu", *each) for each in names))
    row = next(line for line in report.as_text().splitlines() if "CPU s/GB" in line)
    assert row.split()[-3:] == ["-", "0.500", "(0.500-0.500)"] or row.split()[4] == "-"


def test_json_holds_every_sample_and_the_same_ratios() -> None:
    report = a_report(("xnbu", "relay", "tcp_gbps", RELAY), ("xnbu", "lab", "tcp_gbps", LAB))
    data = json.loads(report.as_json())
    assert len(data["samples"]) == 6
    (row,) = data["summary"]
    assert row["metric"] == "tcp_gbps"
    assert row["ratios"]["lab"] == {"median": 0.75, "least": 0.5, "greatest": 0.9, "rounds": 3}
    assert (row["wanted"], row["reached"]) == (0.75, True)
    assert data["environment"] == {"kernel": "6.18"}


def test_every_metric_belongs_to_a_workload_that_can_run() -> None:
    known = workloads(Program(("ends",)))
    assert {*known, "pairs"} == set(WORKLOADS) == {each.workload for each in METRICS}
    assert {each.name for each in METRICS} >= {f"tcp_gbps_{size}" for size in SIZES}
    assert set(TITLES) == set(FLAVOURS)
