"""The comparison with other systems: its ratios and words on figures made here, and the run of it on fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from click.testing import CliRunner

from xnet.bench import Sample, Spread, command, compare
from xnet.bench.compare import Comparison, link_of, run_compare
from xnet.bench.metrics import QUICK
from xnet.bench.programs import Program
from xnet.bench.rivals import RIVALS, Rival
from xnet.bench.setup import Setup
from xnet.bench.setups import NamespaceSetup
from xnet.errors import HostError

FEATURES = """Features for eth0:
rx-checksumming: off
tx-checksumming: on
\ttx-checksum-ip-generic: on
tcp-segmentation-offload: off
\ttx-tcp-segmentation: off
"""


def compared(**systems: dict[int, float]) -> Comparison:
    """A comparison in which only TCP was measured."""
    result = Comparison({"kernel": "6.18"}, rounds=2, seconds=1)
    for name, figures in systems.items():
        result.samples += [Sample(number, "", name, "tcp_gbps", value) for number, value in figures.items()]
    return result


def quiet(done: int, total: int, text: str) -> None:
    """Progress nobody looks at."""


def test_a_ratio_is_of_one_round_and_a_round_without_both_has_none() -> None:
    result = compared(xnbu={1: 6.0, 2: 4.0, 3: 5.0}, vde={1: 0.5, 2: 0.5})
    assert result.ratio("xnbu", "vde", "tcp_gbps") == Spread(10.0, 8.0, 12.0, 2)
    assert result.ratio("xnbo", "vde", "tcp_gbps") is None


@pytest.mark.parametrize(("vde", "reached", "word"), [(0.75, True, "reached"), (0.8, False, "MISSED")])
def test_eight_times_a_vde_switch_is_promised_of_either_netback(vde: float, reached: bool, word: str) -> None:
    result = compared(xnbu={1: 6.0}, xnbo={1: 9.0}, vde={1: vde})
    assert result.verdicts() == {"xnbu": reached, "xnbo": True}
    assert result.is_reached() is reached
    lines = result.as_text().splitlines()
    assert any(line.startswith("TCP bulk, xnbu:") and line.endswith(f"wanted >= 8: {word}") for line in lines)
    assert json.loads(result.as_json())["wanted"]["reached"] == {"xnbu": reached, "xnbo": True}


def test_without_the_other_system_nothing_is_promised_and_it_says_why() -> None:
    result = compared(xnbu={1: 6.0})
    result.absent["vde"] = "not installed: apt install vde2"
    assert result.is_reached()
    assert "vde: not installed: apt install vde2" in result.as_text().splitlines()
    assert json.loads(result.as_json())["systems"]["vde"]["absent"] == "not installed: apt install vde2"


def test_the_tables_have_a_row_for_each_system_that_ran() -> None:
    lines = compared(xnbu={1: 6.0}, vde={1: 0.5}, socat={1: 0.3}).as_text().splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["xnbu", "vde", "socat"]
    at = lines.index("xnet xnbu divided by each")
    assert [line.split()[:2] for line in lines[at + 2 : at + 4]] == [["vde", "12.00"], ["socat", "20.00"]]
    assert "xnet xnbo divided by each" not in lines


def test_a_link_is_told_by_what_the_guest_says_of_it() -> None:
    shown = "2: eth0: <BROADCAST,UP> mtu 1500 qdisc pfifo_fast state UNKNOWN"
    assert link_of(shown, FEATURES) == "MTU 1500, checksum offload on, TSO offload off"
    assert link_of(shown, "sh: ethtool: not found") == "MTU 1500, checksum offload unknown, TSO offload unknown"


def test_a_rival_that_is_not_installed_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "vde_plug2tap" else f"/usr/bin/{tool}")
    missing = {rival.name: rival.missing() for rival in RIVALS}
    assert missing.pop("vde") == "not installed: apt install vde2"
    assert set(missing.values()) == {None}


@contextmanager
def stage(name: str) -> Iterator[Setup]:
    """A setup that is none: the tools run in it fail to start."""
    yield NamespaceSetup(name, (), {})


@contextmanager
def broken() -> Iterator[Setup]:
    raise HostError("socat: no such device")
    yield


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """`run_compare` on fakes: two rivals come up, one fails, one is not installed; what ran where, in order."""
    ran: list[tuple[str, str]] = []

    def workload(name: str) -> Callable[[Setup, int], dict[str, float]]:
        def run(setup: Setup, seconds: int) -> dict[str, float]:
            ran.append((name, setup.name))
            if (name, setup.name) == ("udp", "kernel"):
                raise HostError("iperf3: nothing arrived")
            return {f"{name}_figure": float(seconds)}

        return run

    def rival(name: str, setup: Callable[[], AbstractContextManager[Setup]], tool: str = "sh") -> Rival:
        return Rival(name, setup, (tool,), f"{name}-package", "a fake")

    known = (
        rival("kernel", lambda: stage("kernel")),
        rival("socat", broken),
        rival("vde", lambda: stage("vde"), "a-tool-that-is-nowhere"),
    )
    monkeypatch.setattr(compare, "RIVALS", known)
    monkeypatch.setattr(compare, "lab_setup", stage)
    monkeypatch.setattr(compare, "check_machine", lambda: None)
    monkeypatch.setattr(compare, "environment", lambda relay: {"relay": relay})
    monkeypatch.setattr(compare, "either", lambda name: stage_program())
    monkeypatch.setattr(compare, "workloads", lambda ends: {name: workload(name) for name in QUICK})
    monkeypatch.setattr(compare, "_said", lambda setup, argv: "2: eth0: mtu 1400 state UP")
    return ran


@contextmanager
def stage_program() -> Iterator[Program]:
    yield Program(("ends",))


def test_what_fails_or_is_not_there_is_told_and_the_rest_goes_on(played: list[tuple[str, str]]) -> None:
    result = run_compare(1, 3, quiet)
    assert result.absent == {
        "socat": "did not come up: socat: no such device",
        "vde": "not installed: apt install vde-package",
    }
    assert [(each.setup, each.workload, each.words) for each in result.failures] == [
        ("kernel", "udp", "iperf3: nothing arrived")
    ]
    assert {each.setup for each in result.samples} == {"xnbu", "xnbo", "kernel"}
    assert len(result.samples) == 3 * len(QUICK) - 1
    assert not result.is_reached()
    assert result.links["kernel"].startswith("MTU 1400")
    assert result.links["kernel"].endswith("; kernel-package of unknown version")
    assert result.environment == {}


def test_every_round_starts_with_another_system(played: list[tuple[str, str]]) -> None:
    run_compare(3, 1, quiet)
    orders = [[system for name, system in played if name == "tcp"][start : start + 3] for start in (0, 3, 6)]
    assert [order[0] for order in orders] == ["xnbu", "xnbo", "kernel"]
    assert all(sorted(order) == ["kernel", "xnbo", "xnbu"] for order in orders)


@pytest.mark.parametrize(
    ("arguments", "asked"), [([], (5, 3)), (["--quick"], (1, 1)), (["--rounds", "2", "--time", "4"], (2, 4))]
)
def test_the_command_line_says_how_much(
    arguments: list[str], asked: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def run(rounds: int, seconds: int, progress: command.Progress) -> Comparison:
        seen.append((rounds, seconds))
        return compared(xnbu={1: 6.0}, vde={1: 1.0})

    monkeypatch.setattr(command, "run_compare", run)
    result = CliRunner().invoke(command.bench, ["compare", *arguments, "--json"])
    assert (result.exit_code, seen) == (1, [asked]), "six times is not eight times"
    assert json.loads(result.stdout)["ratios"]["xnbu"]["vde"]["tcp_gbps"]["median"] == 6.0
