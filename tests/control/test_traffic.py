from __future__ import annotations

import shutil
from typing import Any

import pytest

from xnet.control.traffic import Outcome, need_tools, ping_outcome, tcp_outcome, udp_outcome
from xnet.errors import XnetError

PING = """PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.

--- 10.0.0.2 ping statistics ---
20 packets transmitted, {received} received, {lost}% packet loss, time 399ms
"""
TIMES = "rtt min/avg/max/mdev = 0.201/0.350/0.912/0.100 ms\n"

PINGS = {
    "all came back": (PING.format(received=20, lost=0) + TIMES, "", Outcome(loss_percent=0.0, rtt_ms=0.35)),
    "some lost": (
        PING.format(received=15, lost=25) + TIMES,
        "",
        Outcome(loss_percent=25.0, rtt_ms=0.35, problem="15 of 20 echoes came back"),
    ),
    "none came back": (
        PING.format(received=0, lost=100),
        "",
        Outcome(loss_percent=100.0, problem="0 of 20 echoes came back"),
    ),
    "no route": (
        "",
        "ping: connect: Network is unreachable\n",
        Outcome(problem="ping: connect: Network is unreachable"),
    ),
    "nothing": ("", "", Outcome(problem="ping said nothing")),
}


@pytest.mark.parametrize(("out", "err", "outcome"), PINGS.values(), ids=PINGS)
def test_ping_is_read(out: str, err: str, outcome: Outcome) -> None:
    assert ping_outcome(out, err) == outcome


def udp(packets: int, lost: int) -> dict[str, Any]:
    return {"end": {"sum": {"packets": packets, "lost_packets": lost, "bits_per_second": 100e6}}}


def test_tcp_counts_what_arrived() -> None:
    report = {"end": {"sum_sent": {"bytes": 9}, "sum_received": {"bytes": 8, "bits_per_second": 2.5e9}}}
    assert tcp_outcome(report) == Outcome(gbps=2.5)


def test_tcp_that_delivered_nothing_has_not_passed() -> None:
    report = {"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}
    assert tcp_outcome(report).problem == "nothing arrived"


@pytest.mark.parametrize("read", [tcp_outcome, udp_outcome])
def test_an_error_of_iperf3_is_the_problem(read: Any) -> None:
    assert read({"error": "unable to connect to server", "end": {}}).problem == "unable to connect to server"


UDP = {
    "all": (1000, 0, Outcome(gbps=0.1, loss_percent=0.0)),
    "a little lost": (1000, 200, Outcome(gbps=pytest.approx(0.08), loss_percent=20.0)),
    "too much lost": (1000, 500, Outcome(gbps=pytest.approx(0.05), loss_percent=50.0, problem="50.0 % lost")),
    "all lost": (1000, 1000, Outcome(loss_percent=100.0, problem="nothing arrived")),
    "nothing sent": (0, 0, Outcome(loss_percent=100.0, problem="nothing arrived")),
}


@pytest.mark.parametrize(("packets", "lost", "outcome"), UDP.values(), ids=UDP)
def test_udp_passes_with_little_loss(packets: int, lost: int, outcome: Outcome) -> None:
    assert udp_outcome(udp(packets, lost)) == outcome


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool != "nsenter" else f"/usr/bin/{tool}")
    with pytest.raises(XnetError, match="ping, iperf3 not found: sudo apt-get install iputils-ping iperf3"):
        need_tools("ping", "iperf3", "nsenter")
    need_tools("nsenter")
