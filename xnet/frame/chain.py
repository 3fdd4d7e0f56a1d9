"""Chain: a burst of frames, lent for one call.

A frame is a plain tuple ``(word, length, pieces)``; a piece is ``(addr, length, domid, gref)``:

``word``    offload word, 0 for a plain frame (see below)
``length``  bytes of the whole frame, Ethernet header included, no FCS
``addr``    where the piece is in `Chain.memory`, the window of the domain that handles the chain; contiguous
``domid``   whose page it is: DOMID_SELF for an own page (or run of pages), else the granting domain
``gref``    its grant reference when it is foreign; a foreign piece never crosses a page

Tuples, because a burst makes and forgets thousands a second.

Offload word: bit 0 the L4 checksum is blank (only the pseudo-header's sum is there), bit 1 the data is known good,
bits 8-15 GSO type (0 none, 1 TCPv4, 2 TCPv6: netif's numbers), bits 16-31 GSO size (payload bytes a segment).
"""

from __future__ import annotations

from typing import Final

from xnet.abi.xen import DOMID_SELF

Piece = tuple[int, int, int, int]
Frame = tuple[int, int, tuple[Piece, ...]]

CSUM_BLANK: Final = 1
DATA_VALIDATED: Final = 2
GSO_TYPE_SHIFT: Final = 8
GSO_SIZE_SHIFT: Final = 16
GSO_TCPV4: Final = 1 << GSO_TYPE_SHIFT
GSO_TCPV6: Final = 2 << GSO_TYPE_SHIFT
GSO_TYPE_MASK: Final = 0xFF00


def own(word: int, addr: int, length: int) -> Frame:
    """A frame that lies in one run of the handling domain's own pages."""
    return (word, length, ((addr, length, DOMID_SELF, 0),))


class Chain:
    """A burst of frames and the memory their addresses count in. The receiver may read it until it returns."""

    __slots__ = ("frames", "memory")

    def __init__(self, memory: memoryview, frames: list[Frame] | None = None) -> None:
        self.memory = memory
        self.frames: list[Frame] = [] if frames is None else frames

    def __len__(self) -> int:
        return len(self.frames)

    def views(self, frame: Frame) -> list[memoryview]:
        """The frame's bytes as views, in order; valid as long as the chain is lent."""
        memory = self.memory
        return [memory[addr : addr + length] for addr, length, _, _ in frame[2]]

    def tobytes(self, frame: Frame) -> bytes:
        """A copy of the frame's bytes, for who needs it longer than the call."""
        return b"".join(self.views(frame))
