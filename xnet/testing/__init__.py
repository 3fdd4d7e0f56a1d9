"""The garden: what tests of xnet, and of other people's drivers, are made of. Sees floors 0 to 7; nothing sees it.

`world` is a whole host in one's hand, without an event loop: guests, vifs, a store, and nothing moves unless it is
stepped; `ends` is what a vif of it is plugged into at either side. `byhand` has a frontend and a backend that keep no
rule: they put on a ring whatever they are told to, byte by byte, so that the driver at the other end can be shown
right, odd and hostile peers; `rogue` and `rogue_back` are what hostile ones do, and what they
get for it, `stage` is what a hostile backend stands on. `frames` builds frames and
judges those that arrive, sharing no code with what it judges.
"""

from xnet.testing.byhand import BackByHand, FrontByHand, RawRing
from xnet.testing.wire import Hub, Sent, Wire
from xnet.testing.world import Vif, World

__all__ = ["BackByHand", "FrontByHand", "Hub", "RawRing", "Sent", "Vif", "Wire", "World"]
