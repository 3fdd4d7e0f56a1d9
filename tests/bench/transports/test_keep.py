"""What a run leaves, and how the next one goes on with it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.transports.canned import SMALL, figures, kept
from xnet.bench.transports.keep import POINTS, Measured, as_csv, load, open_store, rounded
from xnet.bench.transports.plan import Point, points
from xnet.errors import HostError

FIRST, SECOND = next(points(SMALL))[:2]


def begun(directory: Path, *done: Point) -> None:
    with open_store(directory, SMALL, seeded=True, fresh=False) as store:
        store.begin({"kernel": "6.1"})
        for point in done:
            store.add(Measured(point, figures(point)))


def test_a_run_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    begun(tmp_path, FIRST)
    with open_store(tmp_path, SMALL, seeded=True, fresh=False) as store:
        assert store.has(FIRST)
        assert not store.has(SECOND)
        store.begin({"kernel": "6.2"})
        store.add(Measured(SECOND, figures(SECOND)))
    found = load(tmp_path)
    assert [each.point for each in found.measured.values()] == [FIRST, SECOND]
    assert found.measured[FIRST.key].figures == rounded(figures(FIRST))
    assert [each["kernel"] for each in found.environments] == ["6.1", "6.2"]


def test_half_a_line_that_a_killed_run_left_is_nothing(tmp_path: Path) -> None:
    begun(tmp_path, FIRST)
    with (tmp_path / POINTS).open("a") as file:
        file.write('{"point": {"sweep"')
    assert list(load(tmp_path).measured) == [FIRST.key]
    begun(tmp_path, SECOND)
    assert list(load(tmp_path).measured) == [FIRST.key, SECOND.key]


def test_a_point_that_failed_is_measured_again(tmp_path: Path) -> None:
    with open_store(tmp_path, SMALL, seeded=True, fresh=False) as store:
        store.begin({})
        store.add(Measured(FIRST, {}, "no answer"))
        assert not store.has(FIRST)
    assert not load(tmp_path).good()


def test_another_plan_is_refused_by_what_differs_and_replaced_when_asked(tmp_path: Path) -> None:
    begun(tmp_path, FIRST)
    other = replace(SMALL, rounds=5, seed=8)
    with pytest.raises(HostError, match=r"another plan \(rounds\): --fresh .*--out DIR"):
        open_store(tmp_path, other, seeded=False, fresh=False)
    with pytest.raises(HostError, match=r"\(rounds, seed\)"):
        open_store(tmp_path, other, seeded=True, fresh=False)
    with open_store(tmp_path, other, seeded=True, fresh=True) as store:
        assert not store.has(FIRST)


def test_a_seed_nobody_chose_is_the_one_that_was_kept(tmp_path: Path) -> None:
    begun(tmp_path, FIRST)
    with open_store(tmp_path, replace(SMALL, seed=99), seeded=False, fresh=False) as store:
        assert store.kept.options == SMALL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no plan in it"),
        ("not json\n{}\n", ":1: not JSON"),
        ('{"plan": {}, "environment": {}}\n', "another version"),
    ],
    ids=["empty", "something else", "an older format"],
)
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / POINTS).write_text(text)
    with pytest.raises(HostError, match=words):
        load(tmp_path)


def test_nothing_kept_is_told_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"points\.jsonl: no such file"):
        load(tmp_path)


def test_a_load_is_a_part_of_the_way_that_is_full_first() -> None:
    found = kept()
    assert found.saturation("copy/1/64") == pytest.approx(40_000)
    assert found.saturation("/8/16000") == pytest.approx(20_000)
    with pytest.raises(HostError, match="copy/3/64"):
        found.saturation("copy/3/64")


def test_the_table_has_a_row_for_each_point_and_names_causes() -> None:
    found = kept(dry_at="2M")
    rows = list(csv.DictReader(io.StringIO(as_csv(found.good()))))
    assert len(rows) == sum(map(len, points(SMALL)))
    assert {row["heap"] for row in rows} == {"default", "2M"}
    assert all(row["lost"].startswith("the guest's TAP tx_dropped=") for row in rows)
    assert sum("memory squeeze" in row["console_line"] for row in rows) == SMALL.rounds
