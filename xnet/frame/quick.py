"""The two looks at each frame's headers, in C (`_quick.c`), since Python's price of reading a few bytes is high.

    destination(memory, frames, largest)   the Ethernet address that all of them are for, if they are plainly right for
                                           a link of `largest` bytes: no tag, and as long or to be segmented as long.
                                           Empty in doubt about any: look closely
    header_shape(word, view, length)       see `ether.header_shape`

Where that was not compiled, the first is always in doubt, and the second is `ether`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.frame._quick import destination, header_shape
else:
    try:
        from xnet.frame._quick import destination, header_shape
    except ImportError:
        from xnet.frame.ether import header_shape

        def destination(memory, frames, largest):
            return b""


__all__ = ["destination", "header_shape"]
