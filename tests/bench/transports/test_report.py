"""The report, out of points that were made up: it says what they say, whichever way they came out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.transports.canned import SMALL, SQUEEZE, kept
from xnet.bench.transports import report, story
from xnet.bench.transports.figures import Figures, phases_of
from xnet.bench.transports.keep import Kept
from xnet.errors import HostError


def words(**how: object) -> str:
    return report.markdown(Figures(kept(**how)), [])


def test_running_dry_at_the_default_heap_is_said() -> None:
    text = words(dry_at="")
    assert "flip at the default heap: **ran dry**, only where most guests were stopped, from 8 guests on" in text
    assert "in 2 of 2 rounds" in text
    assert "flip with a scarce heap: did not run dry at any of 2M either" in text
    assert SQUEEZE in text


def test_running_dry_at_a_scarce_heap_only_is_said() -> None:
    text = words(dry_at="2M")
    assert "flip at the default heap of 4096 pages: **did not run dry**; it never had fewer than 1234 to lend" in text
    assert "flip with a scarce heap: ran dry at 2MiB" in text
    assert "heap 2MiB, flip: what the prompt guests got fell to 0.1x and came back with the others; their" in text
    assert "heap 2MiB, copy: what the prompt guests got did not fall; their latency p99 was 3 ms; never" in text
    assert "copy: never ran dry; the heap lent 0 pages in all." in text


def test_never_running_dry_is_said_and_a_silent_console() -> None:
    text = words()
    assert "did not run dry" in text
    assert "ran dry" not in text.replace("never ran dry", "")
    assert "The console stayed silent in every point." in text


@pytest.mark.parametrize(
    ("faster", "verdict"),
    [(2.0, "copy is better at every size measured: no crossover"), (0.5, "flip is better at every size measured")],
)
def test_there_may_be_no_crossover_either_way(faster: float, verdict: str) -> None:
    assert story.crossover(Figures(kept(faster=faster)))[0].split(": ", 1)[1].startswith(verdict)


def test_a_crossover_is_named_by_its_sizes() -> None:
    found = kept()
    for each in found.measured.values():
        if each.point.way == "flip" and each.point.size == 65000:
            each.figures["fps"] *= 4
    assert "flip is better at 65000 bytes, copy at others" in story.crossover(Figures(found))[0]


def test_rounds_that_overlap_decide_nothing() -> None:
    found = kept()
    for each in found.measured.values():
        if each.point.size == 65000 and each.point.way == "flip" and each.point.round == 2:
            each.figures["fps"] *= 3
    verdict = story.crossover(Figures(found))[0]
    assert "copy is better at any size where rounds do not overlap: no crossover" in verdict
    assert "at 65000 bytes the rounds of both overlap" in verdict


def test_what_varied_is_computed_from_the_rounds() -> None:
    text = words()
    assert "- latency p99: rounds of one setting were 29 % apart" in text, "3 and 4 ms"
    one = report.markdown(Figures(_one_round(kept())), [])
    assert "29 % apart" not in one


def _one_round(found: Kept) -> Kept:
    for key, each in list(found.measured.items()):
        if each.point.round == 2:
            del found.measured[key]
    return found


def test_losses_are_told_by_cause_and_what_nobody_owns_up_to() -> None:
    line = next(line for line in words().splitlines() if line.startswith("| sizes, copy"))
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[3].startswith("33.")
    assert cells[-2] == str(3 * 2 * 2 * SMALL.rounds), "three in each of two sizes at two loads"


def test_phases_are_a_quarter_a_half_and_a_quarter() -> None:
    bins = [[at, 1 if at < 4 else 2 if at < 12 else 3] for at in range(20)]
    assert phases_of(bins, 0.8) == pytest.approx({"before": 20.0, "meanwhile": 40.0, "after": 60.0})


@pytest.mark.slow
def test_report_plots_and_data_are_written_and_refer_to_each_other(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    line = report.write(tmp_path, kept(dry_at="2M"))
    assert line.startswith(str(tmp_path / "report.md"))
    text = (tmp_path / "report.md").read_text()
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["cpu.svg", "guests.svg", "heaps.svg", "loads.svg", "sizes.svg", "story.svg"]
    for name in plots:
        assert f"(plots/{name})" in text
    data = json.loads((tmp_path / "data.json").read_text())
    assert data["plan"]["seed"] == SMALL.seed
    row = next(each for each in data["settings"] if (each["way"], each["sweep"], each["load"]) == ("copy", "sizes", 0))
    assert row["figures"]["fps"] == [40001.5, 40001.0, 40002.0]


def test_nothing_measured_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no finished point"):
        report.write(tmp_path, Kept(SMALL))
