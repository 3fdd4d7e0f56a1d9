"""A point measured: datagrams from the sender to the receivers at a pace, and all that was counted meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from xnet.bench.transports import observe
from xnet.bench.transports.labs import TransportLab, address, receivers
from xnet.bench.transports.plan import Point

BIN_S = 0.05
"""As in load.c."""
STEPS = 32
LEAD_S = 0.03
"""From the order to the first datagram."""
QUIET_S = 0.08
QUIET_MAX_S = 4.0
LINES_MAX = 12
"""Console lines kept of a point; how many there were is counted."""


def measure(lab: TransportLab, point: Point, rate: float, run: int) -> dict[str, Any]:
    """The point's figures; `rate` is in datagrams a second, 0 as fast as the sender can. `run` is new each time."""
    guests, seconds = point.guests, point.seconds
    before = observe.snapshot(lab, guests)
    start = time.monotonic() + LEAD_S
    end = start + seconds
    start_ns, end_ns = int(start * 1e9), int(end * 1e9)
    for agent in lab.receivers[:guests]:
        agent.ask("listen", run, start_ns)
    stopped_from, stopped_to = stopped_window(point)
    with ExitStack() as stack:
        samples = stack.enter_context(observe.heap_sampled(lab))
        if point.stopped:
            names = receivers(guests)[point.prompt :]
            stack.enter_context(observe.stopped(lab, names, start + stopped_from, start + stopped_to))
        to = [address(number) for number in range(1, guests + 1)]
        lab.sender.order("send", run, start_ns, end_ns, rate, point.size, *to)
        sent = lab.sender.figures(seconds)
        _wait_quiet(lab)
    heard = [agent.told("heard") for agent in lab.receivers[:guests]]
    after = observe.snapshot(lab, guests)
    return figures(point, rate, sent, heard, before, after, [(at - start, free) for at, free in samples])


def stopped_window(point: Point) -> tuple[float, float]:
    """From when to when guests are stopped, in seconds: in the sweep of heaps the middle half, else all the time."""
    if point.sweep == "heaps":
        return point.seconds / 4, point.seconds * 3 / 4
    return 0.0, point.seconds


def _wait_quiet(lab: TransportLab) -> None:
    """Return when no frame has moved for a while; what is still on its way then counts as unexplained."""
    deadline = time.monotonic() + QUIET_MAX_S
    seen = -1
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        vifs = lab.control.ask("statistics")["vifs"].values()
        now = sum(vif[end][name] for vif in vifs for end in ("netback",) for name in ("rx_packets", "tx_packets"))
        if now == seen:
            return
        seen = now


def figures(
    point: Point,
    rate: float,
    sent: dict[str, Any],
    heard: Sequence[dict[str, Any]],
    before: dict[str, Any],
    after: dict[str, Any],
    heap: Sequence[tuple[float, int]],
) -> dict[str, Any]:
    """All that is kept of a point, from what was sent, heard, counted and sampled."""
    delivered = sum(each["frames"] for each in heard)
    bins = summed(each["bins"] for each in heard)
    in_time = sum(count for at, count in bins.items() if at < round(point.seconds / BIN_S))
    latency = summed(each["latency"] for each in heard)
    prompt = summed(each["bins"] for each in heard[: point.prompt])
    prompt_latency = summed(each["latency"] for each in heard[: point.prompt])
    lost = observe.losses(before, after)
    missing = sent["sent"] - delivered
    cpu_s = after["cpu_s"] - before["cpu_s"]
    console = {
        name: after["statistics"]["console"][name] - before["statistics"]["console"][name]
        for name in ("written", "suppressed")
    }
    found: dict[str, Any] = {
        "rate": rate,
        "sent": sent["sent"],
        "refused": sent["refused"],
        "offered_fps": sent["sent"] / point.seconds,
        "delivered": delivered,
        "fps": in_time / point.seconds,
        "gbps": in_time * point.size * 8 / point.seconds / 1e9,
        "damaged": sum(each["damaged"] for each in heard),
        "lost": lost,
        "unexplained": missing - sum(lost.values()),
        "p50_ms": percentile_ms(latency, 0.5),
        "p99_ms": percentile_ms(latency, 0.99),
        "p999_ms": percentile_ms(latency, 0.999),
        "cpu_s": cpu_s,
        "cpu_us_per_frame": cpu_s * 1e6 / delivered if delivered else None,
        "cpu_s_per_gb": cpu_s * 1e9 / (delivered * point.size) if delivered else None,
        "faults": after["faults"] - before["faults"],
        **observe.work(before, after),
        "deferred": observe.netback(before, after, "rx_defer"),
        "dry": observe.netback(before, after, "rx_no_pages"),
        "heap_pages": after["statistics"]["heap"]["pages"],
        "heap_used": after["statistics"]["heap"]["used"],
        "heap_start": heap[0][1],
        "heap_least": min(free for _, free in heap),
        "console": console["written"] + console["suppressed"],
        "console_suppressed": console["suppressed"],
        "console_lines": observe.new_lines(before["console"], after["console"])[:LINES_MAX],
    }
    if point.stopped:
        found["prompt_fps"] = (
            sum(count for at, count in prompt.items() if at < round(point.seconds / BIN_S)) / point.seconds
        )
        found["prompt_p50_ms"] = percentile_ms(prompt_latency, 0.5)
        found["prompt_p99_ms"] = percentile_ms(prompt_latency, 0.99)
    if point.sweep == "heaps":
        found["prompt_bins"] = [[at, count] for at, count in sorted(prompt.items())]
        found["heap"] = [[round(at, 2), free] for at, free in heap]
        found["bins"] = [[at, count] for at, count in sorted(bins.items())]
    return found


def summed(lists: Iterable[Iterable[Sequence[int]]]) -> dict[int, int]:
    """Sparse counts of several receivers as one's."""
    found: dict[int, int] = {}
    for pairs in lists:
        for at, count in pairs:
            found[at] = found.get(at, 0) + count
    return found


def percentile_ms(latency: dict[int, int], part: float) -> float | None:
    """The latency that this part of all datagrams did not exceed, within 3 %; None if none came."""
    wanted = part * sum(latency.values())
    passed = 0
    for bucket, count in sorted(latency.items()):
        passed += count
        if passed >= wanted:
            return bucket_ns(bucket) / 1e6
    return None


def bucket_ns(bucket: int) -> float:
    """The middle of a bucket of load.c's histogram."""
    shift = max(bucket // STEPS - 1, 0)
    return ((bucket - shift * STEPS) + 0.5) * (1 << shift)
