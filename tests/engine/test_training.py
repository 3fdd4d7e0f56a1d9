"""What the compiler's profile is taken from runs, wherever xnet is built."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xnet.testing import training

pytestmark = pytest.mark.integration


async def test_frames_of_every_kind_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ROUNDS", 2)
    await training.main()


def test_it_needs_no_more_than_a_build_has() -> None:
    """The standard library and what comes with mypy: pip builds in an environment of its own."""
    code = "import sys, xnet.testing.training; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert "xnet" in found.split()
    assert not {"click", "msgspec", "pyroute2", "uvloop", "scapy", "pytest"} & set(found.split())
