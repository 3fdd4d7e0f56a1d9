"""Floor 8, beside control: what the emulation costs, measured against a yardstick in the same minutes.

**What it is.** Two guests exchange real traffic through three setups: the kernel alone (veth and bridge: the
ceiling), a raw *relay* (the same TAP crossings as a lab, nothing between: the yardstick, `relay.c`, or `relay.py`
where there is no compiler), and a lab, brought up and entered by xnet's own commands. A workload (`workloads`) runs
Linux's iperf3 and ping, and `ends.c` for one byte there and back, in a setup (`setup.Setup`) and gives figures
(`metrics`); `pairs` runs many streams at once between many pairs of guests; a `Report` turns the rounds into ratios.

**Why ratios.** On a shared machine the same relay has been seen at 2 and at 8 Gbit/s within minutes. Within a round
all setups meet the same machine, so only lab/relay of one round says something; the median of some rounds and the
distance between the least and the greatest say how much.

**Who owns what.** Every setup is a context manager that hands out a `Setup` in which the guests reach each other.
The namespaces are anonymous, TAPs live by their fd, processes die with their parent: nothing is left behind by
Ctrl-C or by ``kill -9``.

**In which order.** All setups of two guests come up first and stay; an idle one costs nothing. Round by round,
flavour by flavour, each workload goes through all setups before the next one starts, and every round starts with
another setup. Then 2, 8 and 32 pairs: relay and lab of one size at a time, their streams started once and held at a
gate.

**What can go wrong.** A workload that fails is reported as failed and gives no figure; a setup that does not come
up ends the bench with a `HostError` (one of many pairs only its own rounds).

**Then and now.** `check` compares a run's ratios with those of one that was kept, and tells noise apart.

**Beside others.** `compare` measures the same guests over what one would take instead (`rivals`), in rounds of their
own.

**Fairness.** Lab and relay use the same TAPs (vnet header, checksum offload, TSO for both families), the same MTU,
the same congestion control, one process for the whole path, and 64 frames a wake-up, for one pair as for 32. CPU time
is that process's own, user and system, so softirq work done in its system calls (the bridge, the guest's stack)
counts for both alike.
"""

from __future__ import annotations

from xnet.bench.metrics import METRICS, Metric
from xnet.bench.report import Report, Sample, Spread
from xnet.bench.run import Options, run_bench
from xnet.bench.setup import Setup

__all__ = ["METRICS", "Metric", "Options", "Report", "Sample", "Setup", "Spread", "run_bench"]
