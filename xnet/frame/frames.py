"""`Frames`: the frames of a burst, in order. In C (`_frames.c`) they are numbers in one piece of memory, since a long
frame would be 20 objects of Python, made and forgotten at each step of its way. To Python each is a tuple (`chain`),
made when it is asked for: by index, or in a loop.

    append(frame)                    one more
    append_run(word, addr, lengths)  more that lie in own memory from `addr` on, each at the start of a page; where the
                                     next one would
    clear()                          none any more
    size()                           bytes of all of them
    within(kinds, largest)           whether none is longer than `largest`, and each of a kind among the bits `kinds`:
                                     bit 2 * GSO type, and the next one with a blank checksum
    destination(memory, largest)     the Ethernet address that all are for, if they are plainly right for a link of
                                     `largest` bytes: no tag, and as long or to be segmented as long. Empty in doubt
                                     about any: look closely

Where it was not compiled, it is a list, and `destination` is always in doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.frame._frames import Frames
else:
    try:
        from xnet.frame._frames import Frames
    except ImportError:
        from xnet.abi.xen import DOMID_SELF, PAGE_SIZE

        class Frames(list):
            def append_run(self, word, addr, lengths):
                for length in lengths:
                    self.append((word, length, ((addr, length, DOMID_SELF, 0),)))
                    addr += (length + PAGE_SIZE - 1) & -PAGE_SIZE
                return addr

            def size(self):
                return sum([length for _, length, _ in self])

            def within(self, kinds, largest):
                return all(
                    length <= largest and kinds >> (word >> 7 & 0x1FE | word & 1) & 1 for word, length, _ in self
                )

            def destination(self, memory, largest):
                return b""


__all__ = ["Frames"]
