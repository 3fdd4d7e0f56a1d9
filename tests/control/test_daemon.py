from __future__ import annotations

import asyncio

import pytest

from xnet.control.daemon import Complaints, first, loop_factory
from xnet.errors import XnetError


class Loop:
    """Counts what it would have logged in full."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def default_exception_handler(self, context: dict[str, str]) -> None:
        self.told.append(context["message"])


def test_a_mistake_that_repeats_is_told_ever_more_rarely(capsys: pytest.CaptureFixture[str]) -> None:
    loop, complaints = Loop(), Complaints()
    for _ in range(1000):
        complaints.hear(loop, {"message": "in a callback", "exception": KeyError("x")})  # type: ignore[arg-type]
    complaints.hear(loop, {"message": "elsewhere"})  # type: ignore[arg-type]
    assert loop.told == ["in a callback", "elsewhere"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["2", "4", "8", "16", "32", "64", "128", "256", "512"]
    assert lines[0].endswith("in a callback: KeyError('x')")


@pytest.mark.integration
async def test_the_first_to_end_ends_the_others() -> None:
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    await first(asyncio.sleep(0), endless())
    assert cancelled.is_set()


@pytest.mark.integration
async def test_the_first_to_fail_tells_why() -> None:
    async def fails() -> None:
        raise XnetError("no")

    with pytest.raises(XnetError, match="no"):
        await first(fails(), asyncio.sleep(60))


def test_the_lab_chooses_its_loop() -> None:
    assert loop_factory("asyncio") is None
    pytest.importorskip("uvloop")
    made = loop_factory("auto")
    assert made is not None
    assert made.__module__.startswith("uvloop")
    assert loop_factory("uvloop") is made


def test_a_loop_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert loop_factory("auto") is None
    with pytest.raises(XnetError, match="pip install uvloop"):
        loop_factory("uvloop")
