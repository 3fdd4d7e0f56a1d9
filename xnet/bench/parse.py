"""What iperf3, ping and our `ends` print, as figures; `HostError` with the tool's own words when there are none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from xnet.errors import HostError

PING_TIME = re.compile(r"^\d+ bytes from .* time=([\d.]+) ms", re.MULTILINE)


@dataclass(slots=True, frozen=True)
class Received:
    """What arrived at an iperf3 server: payload bytes, and the seconds it took."""

    payload: int
    seconds: float


def iperf3_received(text: str) -> Received:
    """The receiver's side of an ``iperf3 -s -1 -J`` report, TCP or UDP (lost and late datagrams are not in it)."""
    report = _json(text)
    if "error" in report:
        raise HostError(f"iperf3: {report['error']}", call="iperf3")
    try:
        received = report["end"]["sum_received"]
        result = Received(int(received["bytes"]), float(received["seconds"]))
    except KeyError as missing:
        raise HostError(f"iperf3: its report has no {missing}", call="iperf3") from None
    if result.payload <= 0 or result.seconds <= 0:
        raise HostError("iperf3: nothing arrived", call="iperf3")
    return result


def iperf3_error(text: str) -> str | None:
    """The error an ``iperf3 -c -J`` report ends with, or None if the test ran."""
    error = _json(text).get("error")
    return None if error is None else str(error)


def _json(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise HostError(f"iperf3: {_one_line(text) or 'it said nothing'}", call="iperf3")
    return report


def ping_times_ms(text: str) -> list[float]:
    """Each reply's round trip in milliseconds, in order, from what ``ping -n`` prints."""
    times = [float(time) for time in PING_TIME.findall(text)]
    if not times:
        raise HostError(f"ping: no reply: {_one_line(text)}", call="ping")
    return times


@dataclass(slots=True, frozen=True)
class Turns:
    """Round trips of one byte over a connection: how many, and their median and 99th percentile."""

    turns: int
    p50_us: float
    p99_us: float


@dataclass(slots=True, frozen=True)
class Streamed:
    """What one receiver of many got, and between which moments of CLOCK_MONOTONIC."""

    start_ns: int
    end_ns: int
    payload: int


def turns(text: str) -> Turns:
    """The report of ``ends ask``."""
    try:
        result = Turns(**json.loads(text))
    except (ValueError, TypeError):
        raise HostError(f"ends: {_one_line(text) or 'it said nothing'}", call="ends") from None
    if not result.turns:
        raise HostError("ends: no byte came back", call="ends")
    return result


def streamed(line: str) -> Streamed:
    """A line of ``ends sink``."""
    try:
        start, end, payload = map(int, line.split())
    except ValueError:
        raise HostError(f"ends: {_one_line(line) or 'it said nothing'}", call="ends") from None
    return Streamed(start, end, payload)


def cpu_ticks(stat: str) -> int:
    """User plus system clock ticks of a process with all its threads. Source: proc_pid_stat(5), fields 14 and 15."""
    after_name = stat.rpartition(")")[2].split()  # the name may hold blanks and brackets; field 3 follows it
    return int(after_name[11]) + int(after_name[12])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
