"""Both ends of a ring, in C (`_ring.c`); where that was not compiled, `front` and `back`, which say the rules, do it.

A burst asks its four rings two dozen times for a number or a few slots; boxing those and finding them in the page cost
a sixth of all that it takes besides its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.ring._ring import BackRing, FrontRing
else:
    try:
        from xnet.ring._ring import BackRing, FrontRing
    except ImportError:
        from xnet.ring.back import BackRing
        from xnet.ring.front import FrontRing

__all__ = ["BackRing", "FrontRing"]
