from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from xnet.control.cli import VERBS, guarded, main
from xnet.control.daemon import start
from xnet.control.state import claim, read_owner, running

ROOT = Path(__file__).parents[2]


def xnet(*args: str) -> Result:
    return CliRunner().invoke(main, args, prog_name="xnet")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "bench"])
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    result = xnet(verb, "--help")
    assert result.exit_code == 0
    assert f"xnet {verb}" in result.output.partition("Example:")[2]


def test_the_line_of_a_verb_is_the_one_in_the_list() -> None:
    context = click.Context(main, info_name="xnet")
    for verb, (_, line) in VERBS.items():
        if verb != "bench":
            command = main.get_command(context, verb)
            assert command is not None
            assert command.short_help == line


def test_help_lists_every_verb() -> None:
    output = xnet("--help").output
    assert all(f"  {verb} " in output for verb in VERBS)


USAGE = {
    ("lst",): 'xnet: there is no verb "lst"; did you mean "list"?',
    ("dwon",): 'xnet: there is no verb "dwon"; did you mean "down"?',
    ("xyzzy",): 'xnet: there is no verb "xyzzy"; "xnet --help" lists them',
    ("up",): "Missing argument 'LAB.toml'",
    ("list", "--jsn"): "No such option",
    ("list", "extra"): "unexpected extra argument",
    ("exec", "a"): "Missing argument",
    ("exec", "a", "--"): "no command: xnet exec a -- ip address",
    ("down", "--all", "--lab", "x"): "--all and --lab exclude each other",
    ("up", "/nonexistent/lab.toml"): "xnet: /nonexistent/lab.toml: no such file",
    ("run", "/nonexistent/lab.toml"): "xnet: /nonexistent/lab.toml: no such file",
}


@pytest.mark.parametrize(("args", "line"), USAGE.items(), ids=[" ".join(args) for args in USAGE])
def test_wrong_usage_is_one_line_on_stderr_and_status_2(args: tuple[str, ...], line: str, run_root: Path) -> None:
    result = xnet(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert line in result.stderr
    assert result.stderr.startswith("xnet: ")
    assert result.stderr.count("\n") == 1


def test_every_problem_of_a_lab_file_is_a_line_and_nothing_is_started(tmp_path: Path, run_root: Path) -> None:
    (tmp_path / "x.toml").write_text('[[bridge]]\nname = "a-bridge-too-far"\n[[domains]]\n')
    result = xnet("up", str(tmp_path / "x.toml"))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert not run_root.exists()


ORDERS = [
    ["create", "a"],
    ["shutdown", "a"],
    ["reboot", "a"],
    ["destroy", "a"],
    ["suspend", "a"],
    ["resume", "a"],
    ["pause", "a"],
    ["unpause", "a"],
    ["network-attach", "a", "bridge=xenbr0"],
    ["network-detach", "a", "eth0"],
    ["link", "a", "eth0", "down"],
    ["restart-backend", "a", "eth0"],
    ["check"],
]


@pytest.mark.parametrize("verb", [["list"], ["down"], ["dmesg"], ["exec", "a", "--", "true"], *ORDERS])
def test_verbs_without_a_lab_say_how_to_start_one(verb: list[str], run_root: Path) -> None:
    result = xnet(*verb)
    assert result.exit_code == 1
    assert result.stderr == 'xnet: no lab is up: start one with "xnet up LAB.toml"\n'


def test_down_all_without_a_lab_is_done_already(run_root: Path) -> None:
    assert xnet("down", "--all").exit_code == 0


def test_ctrl_c_ends_a_verb_quietly_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.integration
def test_a_reader_that_goes_away_ends_a_verb_quietly() -> None:
    code = "from xnet.control.cli import main; main(['--help'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.integration
@pytest.mark.parametrize("verb", ["list", "down", "dmesg", "exec", "gc", *(words[0] for words in ORDERS)])
def test_asking_verbs_import_neither_engine_nor_its_libraries(verb: str) -> None:
    code = f"import sys; from xnet.control.cli import main; main.get_command(None, {verb!r}); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    loaded = set(out.split())
    assert not loaded & {"asyncio", "pyroute2", "uvloop", "scapy", "xnet.engine", "xnet.control.config", "xnet.host"}


@pytest.mark.parametrize("verb", [["up", "x.toml"], ["run", "x.toml"], ["demo"]])
def test_without_root_one_line_says_so(verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = xnet(*verb)
    assert (result.exit_code, result.stderr) == (1, "xnet: labs need root, for namespaces and TAPs: use sudo\n")


# --- with a lab up, on a machine without Linux


def lab_file(tmp_path: Path, *domains: str, name: str = "pair") -> str:
    path = tmp_path / f"{name}.toml"
    path.write_text(
        '[machine]\nloop = "asyncio"\n[[bridge]]\nname = "xenbr0"\n'
        + "".join(f'[[domain]]\nname = "{d}"\n' for d in domains)
    )
    return str(path)


@pytest.fixture
def pair(tmp_path: Path, run_root: Path, fake_machine: Any) -> Any:
    """A lab named pair, up in the background."""
    assert xnet("up", lab_file(tmp_path, "a")).exit_code == 0
    yield run_root / "pair"
    xnet("down", "--all")
    reap()


def reap() -> None:
    """Engines are children of the test: it collects their corpses."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


@pytest.mark.integration
def test_list_shows_domains_as_xl_does(pair: Path) -> None:
    lines = xnet("list").stdout.splitlines()
    assert lines[0].split() == ["Name", "ID", "Mem", "Type", "State", "VIFs"]
    assert lines[1].split() == ["Domain-0", "0", "64", "pv", "r-----", "-"]
    assert lines[2].split() == ["a", "1", "32", "pv", "-b----", "vif1.0@xenbr0"]


@pytest.mark.integration
def test_up_keeps_a_lab_that_does_not_connect_if_asked_to(tmp_path: Path, run_root: Path, fake_machine: Any) -> None:
    result = xnet("up", "--keep", lab_file(tmp_path, "stuck"))
    assert result.exit_code == 1
    assert result.stderr == "xnet: vif1.0: not Connected: waits for the frontend (the lab is kept)\n"
    assert xnet("list").exit_code == 0
    assert xnet("down").exit_code == 0
    reap()


@pytest.mark.integration
def test_list_says_why_a_vif_does_not_work(tmp_path: Path, run_root: Path, fake_machine: Any) -> None:
    assert xnet("up", lab_file(tmp_path, "sad")).exit_code == 0
    assert xnet("list").stdout.splitlines()[3:] == ["a eth0: no reason at all"]
    xnet("down", "--all")
    reap()


@pytest.mark.integration
def test_long_list_shows_features_and_counters(pair: Path) -> None:
    out = xnet("list", "-l").stdout
    assert "+sg -gso-tcpv4" in out
    assert "map out of the guest, copy into it" in out
    assert "windows frontend, xvm-2008 backend" in out
    assert "split" in out
    assert any(line.split() == ["tx.frames", "7"] for line in out.splitlines())


@pytest.mark.integration
def test_json_is_what_the_machine_says(pair: Path) -> None:
    data = json.loads(xnet("list", "--json").stdout)
    assert data["lab"] == "pair"
    assert data["domains"][1]["vifs"][0]["statistics"] == {"tx": {"frames": 7}}


@pytest.mark.integration
@pytest.mark.parametrize("words", ORDERS[:-1], ids=lambda words: words[0])
def test_orders_say_nothing_but_what_is_wrong(pair: Path, words: list[str]) -> None:
    done = xnet(*words)
    made = "a: eth1 (vif 1), 00:16:3e:" if words[0] == "network-attach" else ""
    assert done.exit_code == 0
    assert done.output.startswith(made) if made else done.output == ""
    wrong = xnet(words[0], "nosuch", *words[2:])
    assert (wrong.exit_code, wrong.stderr) == (1, 'xnet: there is no domain "nosuch"; there are Domain-0, a\n')
    assert xnet(words[0]).exit_code == 2


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["bridge=nobr"], 'bridge: there is no bridge "nobr"'),
        (["brigde=xenbr0"], 'brigde: unknown key; did you mean "bridge"?'),
        (["bridge"], '"bridge": write it as key=value'),
        (["bridge=xenbr0", "mac=1"], "mac: "),
    ],
)
def test_a_vif_that_makes_no_sense_is_refused_with_the_fix(pair: Path, words: list[str], why: str) -> None:
    wrong = xnet("network-attach", "a", *words)
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith(f"xnet: {why}")


@pytest.mark.integration
def test_check_tells_what_is_nobodys(pair: Path) -> None:
    done = xnet("check")
    assert (done.exit_code, done.stdout) == (0, "ok: 2 domains, 1 vifs, all accounted for\n")
    assert json.loads(xnet("check", "--json").stdout) == {"problems": [], "domains": 2, "vifs": 1}
    again = xnet("check")
    assert (again.exit_code, again.stdout) == (1, "dom0: 1 ports, 0 accounted for\n")


@pytest.mark.integration
def test_dmesg_shows_the_console(pair: Path) -> None:
    assert xnet("dmesg").stdout.splitlines() == ["(XEN) d1 created", "(XEN) vif1.0 connected"]


@pytest.fixture
def follower(pair: Path) -> Iterator[subprocess.Popen[str]]:
    """``xnet dmesg -f``, which has shown the console and a line that came later."""
    command = [sys.executable, "-m", "xnet", "dmesg", "-f"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3)]
        assert lines == ["(XEN) d1 created\n", "(XEN) vif1.0 connected\n", "(XEN) look 2\n"]
        yield child
        child.kill()


@pytest.mark.integration
def test_a_follower_of_the_console_ends_by_ctrl_c(follower: subprocess.Popen[str]) -> None:
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=10)
    assert (follower.returncode, err) == (130, "")


@pytest.mark.integration
def test_a_follower_of_the_console_is_told_of_the_labs_end(follower: subprocess.Popen[str]) -> None:
    assert xnet("down").exit_code == 0
    _, err = follower.communicate(timeout=10)
    assert follower.returncode == 1
    assert err.startswith('xnet: lab "pair": the engine went away')


@pytest.mark.integration
def test_an_unknown_domain_is_named(pair: Path) -> None:
    result = xnet("exec", "z", "--", "true")
    assert (result.exit_code, result.stderr) == (1, 'xnet: there is no domain "z"; there are Domain-0, a\n')


@pytest.mark.integration
def test_a_second_up_is_refused_and_the_first_goes_on(pair: Path, tmp_path: Path) -> None:
    result = xnet("up", lab_file(tmp_path, "a"))
    assert result.exit_code == 1
    assert 'lab "pair" is already up' in result.stderr
    assert xnet("list").exit_code == 0


@pytest.mark.integration
def test_with_two_labs_up_the_choice_must_be_made(pair: Path, tmp_path: Path) -> None:
    assert xnet("up", lab_file(tmp_path, "a", name="other")).exit_code == 0
    assert "say --lab with one of other, pair" in xnet("list").stderr
    assert json.loads(xnet("list", "--lab", "other", "--json").stdout)["lab"] == "other"
    assert xnet("down", "--lab", "other").exit_code == 0
    assert xnet("list").exit_code == 0


@pytest.mark.integration
def test_down_leaves_nothing(pair: Path) -> None:
    owner = read_owner(pair)
    assert owner is not None
    assert xnet("down").exit_code == 0
    assert not owner.is_alive()
    assert os.listdir(pair.parent) == []


@pytest.mark.integration
@pytest.mark.slow
def test_down_ends_an_engine_that_does_not_answer(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnet.control.verbs.down.GRACE_S", 0.2)
    owner = read_owner(pair)
    assert owner is not None
    os.kill(owner.pid, signal.SIGSTOP)
    assert xnet("down").exit_code == 0
    assert not owner.is_alive()
    assert os.listdir(pair.parent) == []


@pytest.mark.integration
def test_after_kill_9_the_state_is_seen_as_stale_and_collected(pair: Path) -> None:
    owner = read_owner(pair)
    assert owner is not None
    owner.kill(signal.SIGKILL)
    assert owner.wait_gone(5)
    assert running() == []
    assert "would remove" in xnet("gc", "--dry-run").stdout
    assert json.loads(xnet("gc", "--json").stdout)[0]["name"] == str(pair)
    assert xnet("gc").stdout == "nothing to remove\n"
    assert os.listdir(pair.parent) == []


FAILURES = {
    "stuck": "vif1.0: not Connected: waits for the frontend",
    "rude": 'lab "bad": the engine died while booting (killed by SIGKILL)',
    "sour": "internal error: RuntimeError('a mistake of ours')",
}


@pytest.mark.integration
@pytest.mark.parametrize(("domain", "reason"), FAILURES.items(), ids=FAILURES)
def test_up_that_fails_says_why_and_leaves_nothing(
    domain: str, reason: str, tmp_path: Path, run_root: Path, fake_machine: Any
) -> None:
    result = xnet("up", lab_file(tmp_path, domain, name="bad"))
    assert result.exit_code == 1
    assert reason in result.stderr.splitlines()[-1]
    assert os.listdir(run_root) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_interrupted_while_booting_leaves_nothing(
    signum: signal.Signals, tmp_path: Path, run_root: Path, fake_machine: Any
) -> None:
    from xnet.control.config import load_lab

    lab = load_lab(lab_file(tmp_path, "endless"))

    def shoot(text: str) -> None:
        os.kill(os.getpid(), signum)

    with pytest.raises(SystemExit) as caught:
        start(lab, shoot)
    assert caught.value.code == 128 + signum
    assert os.listdir(run_root) == []


RUN = """
import sys
sys.path.insert(0, {tests!r})
import types
from conftest import FakeMachine
module = types.ModuleType("xnet.engine.machine")
module.Machine = FakeMachine
sys.modules["xnet.engine.machine"] = module
import xnet.control.state
xnet.control.state.need_root = lambda: None
from xnet.control.cli import main
main(["run", {path!r}])
"""

INTERRUPTED = {
    "up": ("a", "is up", 0),
    "booting": ("endless", "booting", 128),
    "with a teardown that hangs": ("slow", "is up", 128),
}


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("domain", "line", "status"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_run_ends_within_two_seconds_of_a_signal(
    domain: str, line: str, status: int, signum: signal.Signals, tmp_path: Path, run_root: Path
) -> None:
    code = RUN.format(tests=str(Path(__file__).parent), path=lab_file(tmp_path, domain))
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    while line not in (text := child.stdout.readline()):
        assert text
    began = time.monotonic()
    child.send_signal(signum)
    _, err = child.communicate(timeout=10)
    assert time.monotonic() - began < 2.0
    assert child.returncode == (status + signum if status else 0)
    assert "Traceback" not in err
    assert os.listdir(run_root) == []


@pytest.mark.integration
def test_run_refuses_a_name_that_is_taken(tmp_path: Path, run_root: Path, fake_machine: Any) -> None:
    held = claim("pair", "")
    result = xnet("run", lab_file(tmp_path, "a"))
    held.release()
    assert result.exit_code == 1
    assert "already up" in result.stderr


@pytest.mark.integration
def test_run_that_cannot_boot_leaves_nothing(tmp_path: Path, run_root: Path, fake_machine: Any) -> None:
    result = xnet("run", lab_file(tmp_path, "stuck"))
    assert result.exit_code == 1
    assert "waits for the frontend" in result.stderr
    assert os.listdir(run_root) == []
