from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from xnet.control.collect import Leftover, collect, stale_links
from xnet.control.state import claim

pytestmark = pytest.mark.integration


def test_the_collector_takes_what_the_dead_left_and_nothing_else(
    run_root: Path, dead_claim: Callable[[str], None]
) -> None:
    dead_claim("dead")
    held = claim("alive", "")
    (run_root / "dead" / "log").touch()
    (run_root / "stranger").mkdir()
    (run_root / "stranger" / "file").touch()
    (run_root / "foreign").mkdir()
    (run_root / "foreign" / "lab.json").write_text('{"mark": "somebody"}')
    expected = [Leftover("state", str(run_root / "dead"), ["lab.json", "log"], [])]
    assert collect(dry_run=True) == expected
    assert (run_root / "dead" / "log").exists()
    assert collect() == expected
    assert sorted(os.listdir(run_root)) == ["alive", "foreign", "stranger"]
    assert collect() == []
    held.release()


def test_the_collector_leaves_a_strangers_file_among_ours(run_root: Path, dead_claim: Callable[[str], None]) -> None:
    dead_claim("dead")
    (run_root / "dead" / "notes.txt").write_text("mine")
    assert collect() == [Leftover("state", str(run_root / "dead"), ["lab.json"], ["notes.txt"])]
    assert os.listdir(run_root / "dead") == ["notes.txt"]


def test_an_owner_killed_before_it_wrote_its_name_is_collected(run_root: Path) -> None:
    (run_root / "dead").mkdir(parents=True)
    (run_root / "dead" / "lab.json").touch()
    assert [leftover.name for leftover in collect()] == [str(run_root / "dead")]
    assert os.listdir(run_root) == []


def test_links_with_our_mark_and_a_dead_engine_are_stale(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    aliases = {
        "xenbr0": f"xnet pair {child.pid}",
        "xenbr1": f"xnet pair {os.getpid()}",
        "eth0": "",
        "eth1": "uplink of xnet",
        "eth2": f"xnet pair {child.pid} by hand",
        "eth3": "xnet pair x",
    }
    for name, alias in aliases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "ifalias").write_text(alias + "\n")
    assert stale_links(tmp_path) == ["xenbr0"]


@pytest.mark.privileged
def test_a_stale_bridge_is_removed_and_no_other(run_root: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    stale, other = f"xn{os.getpid()}", f"xo{os.getpid()}"
    for name, alias in ((stale, f"xnet pair {child.pid}"), (other, "mine")):
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", name, "alias", alias], check=True)
    try:
        assert Leftover("link", stale) in collect(dry_run=True)
        assert Path("/sys/class/net", stale).exists()
        assert Leftover("link", stale) in collect()
        assert not Path("/sys/class/net", stale).exists()
        assert Path("/sys/class/net", other).exists()
    finally:
        for name in (stale, other):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
