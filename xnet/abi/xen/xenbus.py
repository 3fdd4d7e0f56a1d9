"""States of a xenbus device, each end writing its own ``state`` node. Source: public/io/xenbus.h.

A node that is missing reads as Unknown.
"""

from enum import IntEnum


class XenbusState(IntEnum):
    """One end's state, as a decimal number in its ``state`` node."""

    Unknown = 0
    Initialising = 1
    InitWait = 2
    Initialised = 3
    Connected = 4
    Closing = 5
    Closed = 6
    Reconfiguring = 7
    Reconfigured = 8
