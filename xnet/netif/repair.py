"""A frame to be segmented must have a blank checksum; one that does not say so is made to, as Linux's netback does it.

Whatever the checksum field holds gives way to the sum of the pseudo-header (xenvif's checksum_setup). What is not TCP
over IP, as far as it says, is dropped.
"""

from __future__ import annotations

from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_TYPE_MASK, Chain, Frame, own
from xnet.frame.arena import Arena
from xnet.frame.offload import blank_checksum
from xnet.netif.counters import Counters


def needs_repair(word: int) -> bool:
    """Whether a frame's offload word wants segments, and no checksum in them."""
    return bool(word & GSO_TYPE_MASK) and not word & CSUM_BLANK


def repaired(chain: Chain, arena: Arena, counters: Counters) -> Chain:
    """The chain with such frames repaired, in copies: they are the guest's, or may be."""
    chain = chain.fetched()
    found: list[Frame] = []
    for frame in chain.frames:
        word, length, _ = frame
        if needs_repair(word):
            addr = arena.alloc(length)
            if addr < 0:
                counters.count("tx_no_memory")
                continue
            view = arena.memory[addr : addr + length]
            view[:] = chain.tobytes(frame)
            if not blank_checksum(view, length):
                counters.count("tx_malformed")
                continue
            counters.count("tx_gso_checksum_fixup")
            frame = own(word | CSUM_BLANK | DATA_VALIDATED, addr, length)
        found.append(frame)
    return Chain(chain.memory, found)
