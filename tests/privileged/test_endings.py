"""However and whenever a lab ends, the machine is as it was before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("mortal_lab.py")
RunAlone = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("how", "what", "times", "seed"),
    [
        ("kill", "private", 24, 1),
        ("kill", "host", 12, 2),
        ("interrupt", "private", 8, 3),
        ("interrupt", "host", 4, 4),
        ("interrupt", "demo", 2, 5),
    ],
)
def test_nothing_of_a_lab_outlives_its_engine(run_alone: RunAlone, how: str, what: str, times: int, seed: int) -> None:
    done = run_alone(SCRIPT, how, what, times, seed)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{times} labs ended by {how}" in done.stdout
    print(done.stdout)
