"""Real labs and real traffic: a very small plan from end to end, broken off once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from xnet.bench.transports import report
from xnet.bench.transports.keep import Kept, open_store
from xnet.bench.transports.plan import LIGHT, Options, calibrations, points
from xnet.bench.transports.run import run_points

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TINY = Options(
    ways=("copy", "flip", "map"),
    rounds=1,
    seconds=0.1,
    sizes=(64, 65000),
    load_sizes=(),
    guests=(1, 3),
    heaps=("", "1M"),
    heap_guests=4,
    heap_seconds=0.8,
    stopped_guests=(3,),
    stopped_seconds=0.2,
)
BREAK_AFTER = 8


class BrokenOffError(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.mark.parametrize("flavour", ["xnbo", "xnbu"])
def test_an_experiment_that_was_broken_off_goes_on_and_reports(tmp_path: Path, flavour: str) -> None:
    options = replace(TINY, flavour=flavour)
    steps: list[tuple[int, int]] = []

    def progress(done: int, total: int, text: str) -> None:
        steps.append((done, total))
        if len(steps) == BREAK_AFTER + 1:
            raise BrokenOffError

    def run() -> Kept:
        with open_store(tmp_path, options, seeded=True, fresh=False) as store:
            store.begin({"kernel": "this one"})
            run_points(options, store, progress)
            return store.kept

    with pytest.raises(BrokenOffError):
        run()
    kept = run()
    total = len(calibrations(options)) + sum(map(len, points(options)))
    assert steps == [(done, total) for done in [*range(BREAK_AFTER + 1), *range(BREAK_AFTER, total)]]
    assert [each.error for each in kept.measured.values()] == [""] * total
    for each in kept.good():
        point, found = each.point, each.figures
        assert found["damaged"] == 0
        assert 0 < found["delivered"] <= found["sent"]
        assert abs(found["unexplained"]) <= found["sent"] / 100
        assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["p999_ms"]
        assert found["cpu_s"] > 0
        if point.load == LIGHT:
            assert (found["frames_given"] > 0) == (point.way == "flip")
            assert (found["maps"] > 0) == (point.way == "map")
            assert (found["remaps"] > 0) == (point.way != "copy")
            assert found["bytes_copied"] > (found["delivered"] * point.size if point.way == "copy" else 0)
    pytest.importorskip("matplotlib")
    assert report.write(tmp_path, kept).startswith(str(tmp_path))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_behind_an_experiment_that_is_stopped(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xnet.bench", "transports", "--quick", "--out", str(tmp_path / "out")]
    env = {**os.environ, "TMPDIR": str(tmp_path), "XNET_RUN": str(tmp_path / "run")}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as bench:
        try:
            deadline = time.monotonic() + 60
            points = tmp_path / "out" / "points.jsonl"
            while time.monotonic() < deadline and not (points.exists() and points.read_text().count("\n") > 3):
                time.sleep(0.05)
            assert loads(), "the traffic program runs in guests"
            bench.send_signal(how)
            assert bench.wait(20) != 0
        finally:
            bench.kill()
    deadline = time.monotonic() + 10
    while (loads() or any((tmp_path / "run").iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert loads() == []
    assert list((tmp_path / "run").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def loads() -> list[str]:
    """The traffic programs that run on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [path.parent.name] if path.read_text() == "load\n" else []
        except OSError:
            continue  # gone meanwhile
    return found
