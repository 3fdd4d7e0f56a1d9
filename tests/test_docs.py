"""Pages that are made from the code are what it would make now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.integration
def test_the_protocol_page_is_what_the_code_says() -> None:
    """``python tools/netif_doc.py`` writes it."""
    command = [sys.executable, str(ROOT / "tools" / "netif_doc.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
