"""Points as a run would have kept them, made up: copy is twice as fast, and flip runs dry or does not."""

from __future__ import annotations

from typing import Any

from xnet.bench.transports.keep import Kept, Measured
from xnet.bench.transports.plan import Options, Point, calibrations, points

SMALL = Options(
    ways=("copy", "flip", "map"),
    rounds=2,
    seconds=0.2,
    seed=7,
    sizes=(64, 65000),
    load_sizes=(1448,),
    loads=(0.5, 2.0),
    guests=(1, 8),
    heaps=("", "2M"),
    heap_guests=8,
    heap_seconds=0.8,
    stopped_guests=(8,),
    stopped_seconds=0.4,
)
SQUEEZE = "(d0) vif3.0: memory squeeze, no pages to flip"


def figures(point: Point, *, faster: float = 2.0, dry_at: str | None = None) -> dict[str, Any]:
    """Figures of a point: copy is `faster` than flip, and flip is out of pages where the heap is `dry_at`."""
    fps = 20_000.0 * (faster if point.way == "copy" else 1.0) + point.round
    dry = point.way == "flip" and point.stopped and dry_at == point.heap
    sent = round(fps * point.seconds * 1.5)
    delivered = round(fps * point.seconds)
    found: dict[str, Any] = dict.fromkeys(
        ("copies", "bytes_copied", "maps", "unmaps", "hypercalls", "faults", "remaps"), 100
    )
    found |= {
        "sent": sent,
        "delivered": delivered,
        "fps": fps,
        "gbps": fps * point.size * 8 / 1e9,
        "damaged": 0,
        "lost": {"the guest's TAP tx_dropped": sent - delivered - 3},
        "unexplained": 3,
        "p50_ms": 0.2,
        "p99_ms": 2.0 + point.round,
        "p999_ms": 9.0,
        "cpu_us_per_frame": 1e6 / fps,
        "cpu_s_per_gb": 1.5,
        "frames_given": 250 if point.way == "flip" else 0,
        "frames_increased": 256 if point.way == "flip" else 0,
        "deferred": 5,
        "dry": 4 if dry else 0,
        "heap_pages": 4096,
        "heap_least": 0 if dry else 1234,
        "console": 3 if dry else 0,
        "console_suppressed": 1 if dry else 0,
        "console_lines": [SQUEEZE] if dry else [],
    }
    if point.stopped:
        found |= {"prompt_fps": fps / 4, "prompt_p50_ms": 0.2, "prompt_p99_ms": 3.0}
    if point.sweep == "heaps":
        bins = [[at, 10 if dry and 4 <= at < 12 else 100] for at in range(16)]
        found |= {"bins": bins, "prompt_bins": bins, "heap": [[at * 0.05, 1000 - at] for at in range(16)]}
    return found


def kept(options: Options = SMALL, **how: Any) -> Kept:
    """A finished run."""
    found = Kept(options, [{"kernel": "6.1", "load": "0.10"}])
    todo = calibrations(options) + [point for block in points(options) for point in block]
    for point in todo:
        found.measured[point.key] = Measured(point, figures(point, **how))
    return found
