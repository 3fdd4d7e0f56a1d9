"""xl's grammar of rates, to what libxl writes."""

from __future__ import annotations

import pytest

from xnet.control.rate import rate

GOOD = {
    "10Mb/s": "62500,50000",
    "10MB/s": "500000,50000",
    "1MB/s@20ms": "20000,20000",
    "250KB/s": "12500,50000",
    "1GB/s@1s": "1000000000,1000000",
    "1000b/s": "6,50000",
    "100Mb/s@10000": "125000,10000",
    "100Mb/s@5000us": "62500,5000",
    "8b/s@1s": "1,1000000",
}


@pytest.mark.parametrize(("text", "key"), GOOD.items(), ids=GOOD)
def test_a_rate_is_the_bytes_of_an_interval(text: str, key: str) -> None:
    assert rate(text) == key


@pytest.mark.parametrize(
    "text",
    ["", "10", "10M", "10Mb", "10mb/s", "10Mb/s@", "10Mb/s@5min", "-1Mb/s", "10Mb/s@0", "0Mb/s", "1e3b/s", None, 5],
)
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"no rate|an interval is|not one byte"):
        rate(text)
