"""The plan: which points there are, and in which order."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from xnet.bench.transports.plan import FULL, QUICK, Options, Point, calibrations, points


def flat(options: Options) -> list[Point]:
    return [point for block in points(options) for point in block]


@pytest.mark.parametrize("options", [Options(), QUICK], ids=["full", "quick"])
def test_no_two_points_have_one_name(options: Options) -> None:
    keys = [point.key for point in [*calibrations(options), *flat(options)]]
    assert len(keys) == len(set(keys))


def test_a_seed_decides_the_order_and_nothing_else() -> None:
    one, again, other = (flat(Options(seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert {point.key for point in one} == {point.key for point in other}


def test_the_ways_of_a_setting_stand_together_in_an_order_that_varies() -> None:
    orders = set()
    for block in points(Options()):
        assert len({replace(point, way="") for point in block}) == 1
        assert len({point.way for point in block}) == len(block)
        orders.add(tuple(point.way for point in block))
    assert len(orders) > 4


def test_points_with_the_same_heap_stand_together_within_a_round() -> None:
    heaps = [point.heap for point in flat(Options(rounds=1))]
    changes = sum(a != b for a, b in pairwise(heaps))
    assert changes == len(set(heaps)) - 1


@pytest.mark.parametrize("options", [Options(), QUICK, Options(ways=("flip",))], ids=["full", "quick", "flip alone"])
def test_each_load_is_a_part_of_something_that_is_calibrated(options: Options) -> None:
    known = {(point.way, point.guests, point.size) for point in calibrations(options)}
    for point in flat(options):
        if point.load != FULL:
            way, guests, size = point.base.split("/")
            assert any((each[1], each[2]) == (int(guests), int(size)) and way in ("", each[0]) for each in known)


def test_an_eighth_stays_prompt_where_guests_are_slow() -> None:
    stopped = [point for point in flat(Options()) if point.stopped]
    assert stopped
    for point in stopped:
        assert 1 <= point.prompt < point.guests
        assert "map" not in point.way
    assert Point("guests", "copy", 8, 64, FULL, 1.0).prompt == 8
