"""A world, buried and accounted for at the end of every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xnet.testing.world import World


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world
