"""What fuzzing found, and where it began: every case again, and some thousand more that are made of them."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import pytest

HOME = Path(__file__).parent / "fuzz"
TARGETS = runpy.run_path(str(HOME.parent.parent / "tools" / "fuzz_targets.py"))["TARGETS"]
CASES = [(path.parent.name, path) for path in sorted(HOME.glob("*/*"))]
MADE = {"gather": 2000, "rx": 2000, "xenstore": 500, "lab": 300, "vif": 2000}


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
