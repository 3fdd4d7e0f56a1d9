"""What goes over control.sock: a line of JSON each way.

    request   {"verb": "fds", "domain": "a"}                        verb, and its arguments by name
    answer    {"result": …} or {"error": "one line"}                with the answer to fds: four descriptors

Descriptors travel with the answer's first byte (SCM_RIGHTS), in the order of `NAMESPACES`. A connection takes any
number of requests, one at a time.
"""

from __future__ import annotations

NAMESPACES = ("net", "mnt", "pid", "uts")
"""Order of the namespace descriptors of a guest."""

LINE_MAX = 1 << 16
"""Bytes of the longest request."""
