"""Counters before and after, as the bench reads them."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.bench.transports import observe
from xnet.bench.transports.traffic import bucket_ns, percentile_ms, summed

DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0
  eth0: 1872    24    0    3    0     0          0         0 12550744     230    0   17    0     0       0
"""
SNMP = """Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 210 0 7 1 5
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
UdpLite: 0 0 0 0 0
"""


def shot(drops: int, errors: int, full: int, **netback: int) -> dict[str, Any]:
    counters = {"rx_packets": 5 * drops, "rx_drops": 99 * drops, "rx_defer": drops, **netback}
    domain = dict.fromkeys(("copies", "bytes_copied", "maps", "unmaps", "frames_given", "frames_received"), drops)
    domain |= dict.fromkeys(("frames_increased", "frames_decreased", "hypercalls", "events_sent", "upcalls"), 0)
    return {
        "devices": {"s": {"eth0": {"rx_dropped": 0, "tx_dropped": drops}}},
        "udp": {"g1": {"InErrors": errors, "RcvbufErrors": full}},
        "statistics": {
            "windows": {"remaps": drops, "pages": 9 * drops},
            "vifs": {"g1/0": {"netback": counters, "tap": {"read_frames": drops}}},
            "domains": {"a": domain},
        },
    }


def test_drops_of_interfaces_and_udp_are_read() -> None:
    assert observe.net_devices(DEV.splitlines())["eth0"] == {"rx_dropped": 3, "tx_dropped": 17}
    assert observe.udp_counters(SNMP.splitlines())["RcvbufErrors"] == 5


def test_each_loss_is_counted_once_by_its_own_cause() -> None:
    before, after = shot(1, 2, 2, rx_queue_full=1), shot(11, 9, 7, rx_queue_full=4, rx_grant_error=2)
    assert observe.losses(before, after) == {
        "the guest's TAP tx_dropped": 10,
        "UDP RcvbufErrors": 5,
        "UDP InErrors": 2,
        "netback rx_queue_full": 3,
        "netback rx_grant_error": 2,
    }
    assert observe.netback(before, after, "rx_defer") == 10
    work = observe.work(before, after)
    assert (work["copies"], work["remaps"], work["pages_remapped"]) == (10, 10, 90)


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a"], ["a"]),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        (["a"], ["a"], []),
    ],
)
def test_new_lines_of_a_console_are_told_from_old_ones(before: list[str], now: list[str], new: list[str]) -> None:
    assert observe.new_lines(before, now) == new


@pytest.mark.parametrize("ns", [1, 31, 32, 63, 64, 1000, 123_456, 10**9])
def test_a_latency_is_found_again_within_three_percent(ns: int) -> None:
    shift = max(ns.bit_length() - 6, 0)
    bucket = shift * 32 + (ns >> shift)
    assert bucket_ns(bucket) == pytest.approx(ns, rel=0.03, abs=1)
    assert percentile_ms({bucket: 1}, 0.5) == pytest.approx(ns / 1e6, rel=0.03, abs=1e-6)


def test_percentiles_of_several_receivers_are_of_all_datagrams() -> None:
    latency = summed([[(0, 90)], [(40, 9), (50, 1)]])
    assert [percentile_ms(latency, part) for part in (0.5, 0.9, 0.99, 0.999)] == [
        bucket_ns(bucket) / 1e6 for bucket in (0, 0, 40, 50)
    ]
    assert percentile_ms({}, 0.5) is None
