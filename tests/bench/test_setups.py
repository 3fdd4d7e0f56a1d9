"""Real namespaces, TAPs and traffic: short rounds through the kernel, both relays and a lab."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xnet.bench import METRICS, Options, run_bench
from xnet.bench.metrics import FLAVOURS, QUICK

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


def quiet(done: int, total: int, text: str) -> None:
    """Progress nobody looks at."""


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_short_round_measures_kernel_and_relay(flavour: str) -> None:
    report = run_bench(
        Options(rounds=1, seconds=1, flavours=(flavour,), workloads=QUICK, lab=False, relay="both"), quiet
    )
    assert report.failures == []
    for name in ("tcp_gbps", "udp_fps", "ping_p50_ms", "rr_p50_us"):
        (kernel,) = report.ratios(flavour, "kernel", name)
        (python,) = report.ratios(flavour, "python", name)
        assert kernel > 0
        assert python > 0
    for setup in ("relay", "python"):
        spent = report.spread(flavour, setup, "tcp_cpu_s_per_gb")
        assert spent is not None
        assert 0.01 < spent.median < 20
    assert report.spread(flavour, "kernel", "tcp_cpu_s_per_gb") is None


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_short_round_compares_a_lab_with_the_relay(flavour: str) -> None:
    report = run_bench(Options(rounds=1, seconds=1, flavours=(flavour,), kernel=False, pairs=(2,)), quiet)
    assert report.failures == []
    for metric in METRICS:
        if metric.name.endswith(("_8", "_32")):
            continue
        (ratio,) = report.ratios(flavour, "lab", metric.name)
        assert ratio > 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_behind_a_bench_that_is_stopped(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xnet.bench", "--flavour", "xnbu", "--only", "tcp", "--time", "60"]
    with subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as bench:
        try:
            assert bench.stderr is not None
            assert any("round 1" in line for line in bench.stderr)
            started = time.monotonic()
            while (names := children(bench.pid)).count("iperf3") < 2 and time.monotonic() < started + 5:
                time.sleep(0.02)
            assert names.count("iperf3") == 2
            assert len(names) == 4, "two iperf3, the relay and the lab"
            bench.send_signal(how)
            assert bench.wait(10) != 0
        finally:
            bench.kill()
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[str]:
    """Names of the process' children."""
    names = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
        except OSError:
            continue  # gone meanwhile
    return names
