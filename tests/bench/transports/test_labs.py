"""The labs of the experiment are files of the contract, and differ only in how frames cross."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from xnet.bench.transports.labs import SWITCH, WAYS, lab_file
from xnet.control.config import parse_lab


@pytest.mark.parametrize(("flavour", "heap"), [*product(SWITCH, ["", "2M"])])
def test_labs_can_be_read_and_differ_in_their_way_only(flavour: str, heap: str) -> None:
    labs = {way: parse_lab(lab_file("one", flavour, way, 64, heap), "one.toml") for way in WAYS}
    assert len(labs["copy"].domains) == 65
    for way, lab in labs.items():
        assert replace(lab, domains=()) == replace(labs["copy"], domains=())
        assert (lab.domains == labs["copy"].domains) == (way == "copy")
    assert (labs["flip"].heap == 2 << 20) == (heap == "2M")
