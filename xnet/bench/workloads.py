"""The traffic: what is run in the guests of a setup, and the figures that come out of it.

tcp   ``iperf3`` from a to b, one stream; the receiver's payload per second
udp   ``iperf3 -u -b 0 -l 64``: as fast as the sender can; what the receiving *application* got counts
ping  200 echoes 10 ms apart, so that nothing stays awake in between; the median
rr    one byte there, one byte back, over one TCP connection, again and again (`ends.c`); median, 99th percentile

Beside the first two stands what the process that moves the frames spent, user and system time, over the whole run
of the tool. Congestion control is always cubic, so that two machines run the same protocol.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from xnet.bench.parse import Received, cpu_ticks, iperf3_error, iperf3_received, ping_times_ms, turns
from xnet.bench.programs import Program
from xnet.bench.setup import Setup, output, running
from xnet.errors import HostError

Figures = dict[str, float]

UDP_PAYLOAD = 64
RR_PORT = "5202"
PING_INTERVAL_S = 0.01
SERVER_START_S = 5.0
GRACE_S = 20.0
"""How long a tool may take beyond the time it was asked for."""


def tcp(setup: Setup, seconds: int) -> Figures:
    """TCP bulk from ``a`` to ``b``: ``tcp_gbps``, and ``tcp_cpu_s_per_gb`` (10^9 bytes) where there is a pump."""
    received, cpu_s = _iperf3(setup, seconds, ["-C", "cubic"])
    figures = {"tcp_gbps": received.payload * 8 / received.seconds / 1e9}
    if cpu_s is not None:
        figures["tcp_cpu_s_per_gb"] = cpu_s / (received.payload / 1e9)
    return figures


def udp(setup: Setup, seconds: int) -> Figures:
    """UDP datagrams of 64 bytes that ``b`` received: ``udp_fps``, ``udp_cpu_us_per_frame`` where there is a pump."""
    received, cpu_s = _iperf3(setup, seconds, ["-u", "-b", "0", "-l", str(UDP_PAYLOAD)])
    frames = received.payload / UDP_PAYLOAD
    figures = {"udp_fps": frames / received.seconds}
    if cpu_s is not None:
        figures["udp_cpu_us_per_frame"] = cpu_s * 1e6 / frames
    return figures


def ping(setup: Setup, seconds: int) -> Figures:
    """Idle round trip ``ping_p50_ms``; as many echoes as fit into two thirds of `seconds`, 200 in 3 s."""
    count = max(20, round(seconds * 2 / 3 / PING_INTERVAL_S))
    argv = ["ping", "-n", "-i", str(PING_INTERVAL_S), "-c", str(count), setup.address("b")]
    with running(setup, "a", argv) as tool:
        times = ping_times_ms(output(tool, seconds + GRACE_S))
    return {"ping_p50_ms": statistics.median(times)}


def rr(setup: Setup, seconds: int, ends: Program) -> Figures:
    """Requests and responses of one byte, one at a time, for a third of `seconds`: ``rr_p50_us``, ``rr_p99_us``."""
    with running(setup, "b", [*ends.argv, "echo", RR_PORT], ends.keep):
        argv = [*ends.argv, "ask", setup.address("b"), RR_PORT, f"{seconds / 3:g}"]
        with running(setup, "a", argv, ends.keep) as client:
            times = turns(output(client, seconds + GRACE_S))
    return {"rr_p50_us": times.p50_us, "rr_p99_us": times.p99_us}


Workload = Callable[[Setup, int], Figures]


def workloads(ends: Program) -> dict[str, Workload]:
    """What runs in a setup of two guests, by name; `ends` is our own program."""
    return {"tcp": tcp, "udp": udp, "ping": ping, "rr": partial(rr, ends=ends)}


def _iperf3(setup: Setup, seconds: int, how: list[str]) -> tuple[Received, float | None]:
    """One iperf3 test: what the server in ``b`` received, and the CPU seconds the pump spent, if there is one."""
    with running(setup, "b", ["iperf3", "-s", "-1", "-J"]) as server:
        before = cpu_of(setup.pids)
        _client(setup, seconds, ["iperf3", "-c", setup.address("b"), "-t", str(seconds), "-J", *how])
        after = cpu_of(setup.pids)
        received = iperf3_received(output(server, GRACE_S))
    return received, None if before is None or after is None else after - before


def _client(setup: Setup, seconds: int, argv: list[str]) -> None:
    """Run the client in ``a``, again as long as the server is not listening yet."""
    deadline = time.monotonic() + SERVER_START_S
    while True:
        with running(setup, "a", argv) as client:
            error = iperf3_error(output(client, seconds + GRACE_S))
        if error is None:
            return
        if "Connection refused" not in error or time.monotonic() > deadline:
            raise HostError(f"iperf3: {error}", call="iperf3")
        time.sleep(0.02)


def cpu_of(pids: Sequence[int]) -> float | None:
    """User and system time the processes that move the frames have spent so far; None where there are none."""
    if not pids:
        return None
    ticks = 0
    for pid in pids:
        try:
            ticks += cpu_ticks(Path(f"/proc/{pid}/stat").read_text())
        except OSError as gone:
            raise HostError(f"bench: the pump (process {pid}) is gone: {gone.strerror}") from None
    return ticks / os.sysconf("SC_CLK_TCK")
