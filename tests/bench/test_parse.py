"""What the tools print becomes figures, or an error in the tool's own words. The samples are recorded."""

from __future__ import annotations

import pytest

from xnet.bench.parse import Received, cpu_ticks, iperf3_error, iperf3_received, ping_times_ms
from xnet.errors import HostError

TCP_SERVER = """{"start": {"version": "iperf 3.12"}, "intervals": [], "end": {
"sum_sent": {"start": 0, "end": 1.000566, "seconds": 1.000566, "bytes": 0, "bits_per_second": 0, "sender": false},
"sum_received": {"start": 0, "end": 1.000566, "seconds": 1.000566, "bytes": 1475870720,
"bits_per_second": 11800286797.672516, "sender": false}}}"""
UDP_SERVER = """{"start": {"version": "iperf 3.12"}, "intervals": [], "end": {
"sum": {"start": 0, "end": 1.000202, "seconds": 1.000202, "bytes": 0, "lost_packets": 8614, "packets": 192900},
"sum_received": {"start": 0, "end": 1.000202, "seconds": 1.000202, "bytes": 11794304, "bits_per_second": 94335376.25,
"jitter_ms": 0.0018, "lost_packets": 8614, "packets": 192900, "lost_percent": 4.46, "sender": false}}}"""
REFUSED = '{"start": {"connected": []}, "intervals": [], "end": {}, "error": "unable to connect to server: refused"}'
NOTHING_CAME = '{"end": {"sum_received": {"seconds": 1.0, "bytes": 0}}}'

PING = """PING 127.0.0.1 (127.0.0.1) 56(84) bytes of data.
64 bytes from 127.0.0.1: icmp_seq=1 ttl=64 time=1.45 ms
64 bytes from 127.0.0.1: icmp_seq=2 ttl=64 time=0.038 ms
64 bytes from 127.0.0.1: icmp_seq=3 ttl=64 time=12 ms
64 bytes from 127.0.0.1: icmp_seq=3 ttl=64 time=13 ms (DUP!)

--- 127.0.0.1 ping statistics ---
3 packets transmitted, 3 received, +1 duplicates, 0% packet loss, time 55ms
rtt min/avg/max/mdev = 0.038/0.325/1.450/0.562 ms
"""
PING_LOST = """PING 10.0.0.9 (10.0.0.9) 56(84) bytes of data.

--- 10.0.0.9 ping statistics ---
1 packets transmitted, 0 received, 100% packet loss, time 0ms
"""

STAT = "417 (a) (b c) S 1 417 417 0 -1 4194560 1040 99 0 7 250 1250 11 12 20 0 1 0 9 2 3"
"""Field 2 is a name made to mislead; 14 and 15 are 250 and 1250, 16 and 17 (children) 11 and 12."""


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (TCP_SERVER, Received(1475870720, 1.000566)),
        (UDP_SERVER, Received((192900 - 8614) * 64, 1.000202)),
    ],
)
def test_an_iperf3_server_says_what_the_application_received(text: str, received: Received) -> None:
    assert iperf3_received(text) == received


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (REFUSED, "unable to connect to server: refused"),
        (NOTHING_CAME, "nothing arrived"),
        ('{"end": {}}', "sum_received"),
        ("iperf3: not found\n", "not found"),
        ("[]", r"\[\]"),
        ("", "it said nothing"),
    ],
)
def test_an_iperf3_report_without_figures_is_an_error_with_its_words(text: str, words: str) -> None:
    with pytest.raises(HostError, match=words):
        iperf3_received(text)


def test_an_iperf3_client_tells_its_error_or_none() -> None:
    assert iperf3_error(REFUSED) == "unable to connect to server: refused"
    assert iperf3_error(TCP_SERVER) is None


def test_every_reply_of_ping_counts_and_its_summary_does_not() -> None:
    assert ping_times_ms(PING) == [1.45, 0.038, 12.0, 13.0]


@pytest.mark.parametrize("text", [PING_LOST, "ping: connect: Network is unreachable\n"])
def test_a_ping_without_reply_is_an_error_with_its_words(text: str) -> None:
    with pytest.raises(HostError, match=r"100% packet loss|unreachable"):
        ping_times_ms(text)


def test_cpu_time_is_read_behind_the_name_and_without_children() -> None:
    assert cpu_ticks(STAT) == 1500
