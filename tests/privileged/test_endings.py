"""However and whenever a lab ends, the machine is as it was before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("mortal_lab.py")
ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]
"""A machine of the test's own, where before and after can be compared exactly."""


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
def test_nothing_of_a_lab_outlives_its_engine(how: str, what: str, times: int, seed: int) -> None:
    command = [*ALONE, sys.executable, str(SCRIPT), how, what, str(times), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{times} labs ended by {how}" in done.stdout
    print(done.stdout)
