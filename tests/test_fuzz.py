"""What fuzzing found, and where it began: every case again, some thousand more that are made of them, and some ten
thousand that atheris makes of them, led by the branches they reach."""

from __future__ import annotations

import os
import random
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HOME = Path(__file__).parent / "fuzz"
HOUSE = HOME.parent.parent
TARGETS = runpy.run_path(str(HOUSE / "tools" / "fuzz_targets.py"))["TARGETS"]
CASES = [(path.parent.name, path) for path in sorted(HOME.glob("*/*"))]
MADE = {"gather": 2000, "rx": 2000, "xenstore": 500, "lab": 300, "vif": 2000}
RUNS = 20000
"""Executions of each target under atheris."""


@pytest.mark.parametrize(("target", "path"), CASES, ids=[f"{target}-{path.name}" for target, path in CASES])
def test_every_case_ends_in_an_answer_or_an_error_of_ours(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


def test_every_target_has_cases() -> None:
    assert {target for target, _ in CASES} == set(TARGETS) == set(MADE)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_so_do_cases_that_are_changed(target: str) -> None:
    dice = random.Random(target)
    seeds = [path.read_bytes() for each, path in CASES if each == target]
    for _ in range(MADE[target]):
        data = bytearray(b"".join(dice.choices(seeds, k=dice.randint(1, 3))))
        for _ in range(dice.randint(1, 12)):
            at = dice.randrange(len(data) + 1)
            kind = dice.randrange(4)
            if kind == 0:
                data[at : at + dice.randint(0, 20)] = b""
            elif kind == 1:
                data[at:at] = dice.randbytes(dice.randint(1, 16))
            else:
                data[at : at + 1] = dice.choice((b"\0", b"\xff", b"\x7f", b"\x01", dice.randbytes(1)))
        TARGETS[target](bytes(data))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has wheels for x86-64 Linux and CPython up to 3.14")
@pytest.mark.parametrize("target", TARGETS)
def test_nor_do_those_that_coverage_leads_to(target: str, tmp_path: Path) -> None:
    """On the sources, whatever is installed: what is compiled cannot be counted."""
    new = tmp_path / "new"
    new.mkdir()
    command = [sys.executable, str(HOUSE / "tools" / "fuzz.py"), target, str(new), str(HOME / target)]
    command += [f"-runs={RUNS}", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    env |= {"PYTHONPATH": str(HOUSE), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    findings = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != new}
    assert done.returncode == 0, f"{findings}\n{done.stderr[-4000:]}"
    assert not findings
    executions = re.search(r"^stat::number_of_executed_units: (\d+)", done.stderr, re.MULTILINE)
    coverage = re.findall(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+)", done.stderr, re.MULTILINE)
    assert executions is not None, done.stderr[-4000:]
    assert int(executions[1]) >= RUNS
    branches, features = map(int, coverage[-1])
    assert branches > 20, "the sources were not instrumented"
    assert features >= int(coverage[0][1])
    assert list(new.iterdir()), "nothing that was made reached anything new"
    print(f"{target}: {executions[1]} executions, {branches} branches, {features} features")
