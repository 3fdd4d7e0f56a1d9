"""A frame to be segmented must have a blank checksum; one that does not say so is made to, at both ends, as in Linux.

Whatever the checksum field holds gives way to the sum of the pseudo-header (checksum_setup, of xenvif and of netfront).
What is not TCP over IP, as far as it says, is dropped.
"""

from __future__ import annotations

from typing import Final

from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_TYPE_MASK, Chain, Frame, Frames, own
from xnet.frame.arena import Arena
from xnet.frame.offload import blank_checksum
from xnet.netif.assemble import assemble
from xnet.netif.counters import Counters

HEADERS: Final = 14 + 4 + 4 + 256 + 60
"""Bytes that Ethernet's, two tags', IP's and TCP's headers fit into."""


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


def assembled(memory: memoryview, data: bytes, first: int, base: int) -> tuple[Frames, int]:
    """`assemble`, and what it found made to be so, in the guest's own pages; those that cannot be are dropped, too."""
    found, bad = assemble(data, first, base)
    kept = blanked(memory, found)
    return kept, bad + len(found) - len(kept)


def blanked(memory: memoryview, frames: Frames) -> Frames:
    """The frames, a blank checksum in each that is to be segmented: its headers are in its first piece, or it goes."""
    if not any(needs_repair(word) for word, _, _ in frames):
        return frames
    kept = Frames()
    for word, length, pieces in frames:
        if needs_repair(word):
            start, size, _, _ = pieces[0]
            if size < min(length, HEADERS) or not blank_checksum(memory[start : start + size], length):
                continue
            word |= CSUM_BLANK | DATA_VALIDATED
        kept.append((word, length, pieces))
    return kept
