"""A rate as xl.cfg writes it (xl-network-configuration(5)): ``10Mb/s``, ``1MB/s@20ms``.

`b` counts bits and `B` bytes; K, M and G are powers of 1000. The part behind ``@`` is the interval in which so much may
be sent, 50 ms if it is not there, in ``us`` (also without a unit), ``ms`` or ``s``. What goes to xenstore is
"bytes,usec": the bytes of one interval, rounded down, as libxlu_vif.c computes it.
"""

from __future__ import annotations

import re

from xnet.control.values import TIMES

RATE = re.compile(
    r"(?P<count>[0-9]{1,12})(?P<scale>[KMG]?)(?P<unit>[bB])/s(?:@(?P<interval>[0-9]{1,9})(?P<time>us|ms|s)?)?"
)
SCALES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
DEFAULT_USEC = 50_000
U32 = 0xFFFF_FFFF


def rate(value: object) -> str:
    """A converter: the text of the key ``rate``. ValueError."""
    found = RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'"{value}" is no rate: write it as "10Mb/s" or "1MB/s@20ms"')
    per_second = int(found["count"]) * SCALES[found["scale"]] // (8 if found["unit"] == "b" else 1)
    usec = int(found["interval"]) * 10**6 // TIMES[found["time"] or "us"] if found["interval"] else DEFAULT_USEC
    count = per_second * usec // 10**6
    if not 0 < usec <= U32:
        raise ValueError(f'"{value}": an interval is 1 us to {U32 // 10**6} s')
    if not count:
        raise ValueError(f'"{value}": not one byte in an interval of {usec} us; make the interval longer')
    return f"{count},{usec}"
