from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from xnet.control import state
from xnet.control.state import Owner, claim, pick, read_owner, running, start_time
from xnet.errors import XnetError

pytestmark = pytest.mark.integration


def test_a_claim_names_its_living_owner(run_root: Path) -> None:
    held = claim("pair", "pair.toml")
    owner = read_owner(run_root / "pair")
    assert owner is not None
    assert (owner.pid, owner.name, owner.source, owner.mark) == (os.getpid(), "pair", "pair.toml", "xnet")
    assert owner.is_alive()
    assert running() == [owner]
    held.release()


def test_the_state_directory_is_for_root_and_its_group_only(run_root: Path) -> None:
    held = claim("pair", "")
    assert (run_root / "pair").stat().st_mode & 0o007 == 0
    assert held.path == run_root / "pair"
    held.release()


def test_a_second_claim_of_a_name_is_refused_and_names_the_first(run_root: Path) -> None:
    held = claim("pair", "")
    with pytest.raises(
        XnetError, match=rf'lab "pair" is already up \(process {os.getpid()}\): .* "xnet down --lab pair"'
    ):
        claim("pair", "")
    other = claim("other", "")
    other.release()
    held.release()


def test_a_released_claim_leaves_nothing_and_can_be_taken_again(run_root: Path) -> None:
    held = claim("pair", "")
    (held.path / "log").write_text("x")
    held.release()
    held.release()
    assert not (run_root / "pair").exists()
    claim("pair", "").release()


def test_a_dead_owners_name_can_be_claimed_at_once(run_root: Path, dead_claim: Callable[[str], None]) -> None:
    dead_claim("pair")
    assert (run_root / "pair" / "lab.json").exists()
    assert running() == []
    (run_root / "pair" / "control.sock").touch()
    held = claim("pair", "")
    assert os.listdir(held.path) == ["lab.json"]
    held.release()


def test_a_claim_that_cannot_have_a_socket_is_refused(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNET_RUN", "/tmp/" + "x" * 100)
    with pytest.raises(XnetError, match="too long for a socket: set XNET_RUN to a shorter path"):
        claim("pair", "")


def test_a_run_directory_that_is_a_file_is_named(run_root: Path) -> None:
    run_root.write_text("")
    with pytest.raises(XnetError, match=r"file exists|not a directory"):
        claim("pair", "")


LIES = {
    "another boot": {"boot": "0"},
    "another start": {"start": 1},
    "no process": {"pid": 2**22 - 1},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_owner_is_alive_only_if_pid_start_and_boot_agree(lie: dict[str, object]) -> None:
    own = Owner("pair", os.getpid(), start_time(os.getpid()), state.boot_id(), "")
    assert own.is_alive()
    assert not replace(own, **lie).is_alive()


def test_a_signal_reaches_the_owner_and_no_stranger_with_its_pid() -> None:
    child = subprocess.Popen(["sleep", "60"])
    owner = Owner("pair", child.pid, start_time(child.pid), state.boot_id(), "")
    replace(owner, start=owner.start - 1).kill(signal.SIGKILL)
    assert child.poll() is None
    assert not owner.wait_gone(0.02)
    owner.kill(signal.SIGKILL)
    assert owner.wait_gone(5.0)  # a corpse is no owner
    assert child.wait() == -signal.SIGKILL
    owner.kill(signal.SIGKILL)


def test_picking_a_lab_names_the_choice(run_root: Path) -> None:
    with pytest.raises(XnetError, match='no lab is up: start one with "xnet up'):
        pick(None)
    one = claim("one", "")
    assert pick(None).name == "one"
    two = claim("two", "")
    with pytest.raises(XnetError, match="more than one lab is up: say --lab with one of one, two"):
        pick(None)
    assert pick("two").name == "two"
    with pytest.raises(XnetError, match='lab "three" is not up; up are: one, two'):
        pick("three")
    one.release()
    two.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', json.dumps(asdict(Owner("a", 1, 1, "", "", "no")))])
def test_a_state_file_that_is_not_ours_has_no_owner(tmp_path: Path, content: str) -> None:
    (tmp_path / "lab.json").write_text(content)
    assert read_owner(tmp_path) is None
