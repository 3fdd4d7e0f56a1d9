"""What is measured: each figure has a name, a unit, a better direction and, where one was set, a wanted ratio."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Metric:
    """A figure of one run. `wanted` bounds the ratio lab/relay: from below if `higher` is better, else from above."""

    name: str
    workload: str
    title: str
    digits: int
    higher: bool
    wanted: float | None = None

    def is_reached(self, ratio: float) -> bool | None:
        """Whether `ratio` (lab/relay) is good enough; None where nothing was promised."""
        if self.wanted is None:
            return None
        return ratio >= self.wanted if self.higher else ratio <= self.wanted


METRICS = (
    Metric("tcp_gbps", "tcp", "TCP bulk, Gbit/s", 2, higher=True, wanted=0.75),
    Metric("tcp_cpu_s_per_gb", "tcp", "TCP bulk, CPU s/GB", 3, higher=False, wanted=1.4),
    Metric("udp_fps", "udp", "UDP 64 B, frames/s", 0, higher=True, wanted=0.70),
    Metric("udp_cpu_us_per_frame", "udp", "UDP 64 B, CPU us/frame", 2, higher=False),
    Metric("ping_p50_ms", "ping", "ping p50, ms", 3, higher=False, wanted=2.5),
    Metric("rr_p50_us", "rr", "request/response p50, us", 1, higher=False, wanted=2.5),
    Metric("rr_p99_us", "rr", "request/response p99, us", 1, higher=False),
    Metric("tcp_gbps_2", "pairs", "2 pairs, TCP bulk, Gbit/s", 2, higher=True, wanted=0.75),
    Metric("tcp_cpu_s_per_gb_2", "pairs", "2 pairs, CPU s/GB", 3, higher=False),
    Metric("tcp_gbps_8", "pairs", "8 pairs, TCP bulk, Gbit/s", 2, higher=True, wanted=0.75),
    Metric("tcp_cpu_s_per_gb_8", "pairs", "8 pairs, CPU s/GB", 3, higher=False),
    Metric("tcp_gbps_32", "pairs", "32 pairs, TCP bulk, Gbit/s", 2, higher=True, wanted=0.75),
    Metric("tcp_cpu_s_per_gb_32", "pairs", "32 pairs, CPU s/GB", 3, higher=False),
)
WORKLOADS = ("tcp", "udp", "ping", "rr", "pairs")
QUICK = ("tcp", "udp", "ping", "rr")
FLAVOURS = ("xnbu", "xnbo")


def metric(name: str) -> Metric:
    """The metric called `name`; KeyError if there is none."""
    return {each.name: each for each in METRICS}[name]
