"""The command line of the experiment, as far as it needs no machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.bench.transports.canned import SMALL, kept
from xnet.bench.command import bench
from xnet.bench.transports import command, report
from xnet.bench.transports.keep import Kept, open_store
from xnet.bench.transports.plan import QUICK, Options


@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        ([], Options(seed=5)),
        (["--quick"], replace(QUICK, seed=5)),
        (["--quick", "--rounds", "2", "--time", "0.52"], replace(QUICK, rounds=2, seconds=0.5, seed=5)),
        (["--ways", "copy,flip", "--flavour", "xnbu"], Options(ways=("copy", "flip"), flavour="xnbu", seed=5)),
        (["--seed", "9"], Options(seed=9)),
    ],
)
def test_options_say_what_is_measured(
    arguments: list[str], plan: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "need_matplotlib", lambda: None)
    monkeypatch.setattr(report, "write", lambda out, kept: f"{out}/report.md: written")
    asked: list[Any] = []

    def measured(out: Path, wanted: Options, **how: bool) -> Kept:
        asked.append((out, wanted, how))
        return kept()

    monkeypatch.setattr(command, "measured", measured)
    monkeypatch.setattr(command.secrets, "randbelow", lambda below: 5)
    result = CliRunner().invoke(bench, ["transports", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, plan, {"seeded": "--seed" in arguments, "fresh": False})]
    assert result.output == f"{tmp_path}/report.md: written\n"


@pytest.mark.parametrize("arguments", [["--ways", "copy,swap"], ["--rounds", "0"], ["--time", "0"], ["here"]])
def test_a_word_it_does_not_know_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(bench, ["transports", *arguments]).exit_code == 2


def test_what_draws_is_asked_for_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(bench, ["transports"])
    assert result.exit_code == 1
    assert result.output == "Error: bench: the report needs matplotlib: pip install 'xnet[report]'\n"


@pytest.mark.slow
def test_a_report_is_written_anew_from_what_was_kept(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with open_store(tmp_path, SMALL, seeded=True, fresh=False) as store:
        store.begin({"kernel": "6.1"})
        for each in kept().measured.values():
            store.add(each)
    result = CliRunner().invoke(bench, ["transports", "--out", str(tmp_path), "--report-only"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "data.json").read_text())["environments"] == [{"kernel": "6.1"}]


def test_no_report_without_anything_kept(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(bench, ["transports", "--out", str(tmp_path), "--report-only"])
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path}/points.jsonl: no such file or directory\n")
