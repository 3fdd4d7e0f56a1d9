"""Chain: a burst of frames, lent for one call.

A frame is a plain tuple ``(word, length, pieces)``; a piece is ``(addr, length, domid, gref)``:

``word``    offload word, 0 for a plain frame (see below)
``length``  bytes of the whole frame, Ethernet header included, no FCS
``addr``    where the piece is in `Chain.memory`, the window of the domain that handles the chain; contiguous
``domid``   whose page it is: DOMID_SELF for an own page (or run of pages), else the granting domain
``gref``    its grant reference when it is foreign; a foreign piece is within a page, or a run: whole pages of
            consecutive references, but for the end of the last

They are kept in `Frames`, as numbers; a tuple is made of one for who looks at it.

Foreign pieces are mapped at ``addr`` or, in a chain with `bring`, have a place there and no bytes yet: who looks at
headers only leaves them with their owner, who looks further takes `Chain.fetched`.

Offload word: bit 0 the L4 checksum is blank (only the pseudo-header's sum is there), bit 1 the data is known good,
bits 8-15 GSO type (0 none, 1 TCPv4, 2 TCPv6: netif's numbers), bits 16-31 GSO size (payload bytes a segment).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from xnet.abi.xen import DOMID_SELF
from xnet.frame.frames import Frames

Piece = tuple[int, int, int, int]
Frame = tuple[int, int, tuple[Piece, ...]]
Bring = Callable[[Frames], Frames]
"""Copies what frames left behind to its place: the frames in own memory, less those whose owner will not have it."""

CSUM_BLANK: Final = 1
DATA_VALIDATED: Final = 2
GSO_TYPE_SHIFT: Final = 8
GSO_SIZE_SHIFT: Final = 16
GSO_TCPV4: Final = 1 << GSO_TYPE_SHIFT
GSO_TCPV6: Final = 2 << GSO_TYPE_SHIFT
GSO_TYPE_MASK: Final = 0xFF00


WIRE: Final = 1
"""It came in at a device: in `Chain.came`."""
POLLED: Final = 2
"""It was asked for when nobody had said that it was there, as a ring is polled whose interrupt is off."""


def own(word: int, addr: int, length: int) -> Frame:
    """A frame that lies in one run of the handling domain's own pages."""
    return (word, length, ((addr, length, DOMID_SELF, 0),))


class Chain:
    """A burst of frames and the memory their addresses count in. The receiver may read it until it returns."""

    __slots__ = ("bring", "bytes", "came", "frames", "memory")

    def __init__(
        self,
        memory: memoryview,
        frames: Iterable[Frame] = (),
        bring: Bring | None = None,
        came: int = 0,
    ) -> None:
        """`came`: how it got into the machine, WIRE and POLLED or neither."""
        self.memory = memory
        self.frames: Frames = frames if isinstance(frames, Frames) else Frames(frames)
        self.bring = bring
        self.came = came
        self.bytes = -1

    def size(self) -> int:  # hot
        """Bytes of all frames; added up once, so ask when they are all there."""
        if self.bytes < 0:
            self.bytes = self.frames.size()
        return self.bytes

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, frames: Iterable[Frame]) -> Chain:
        """A chain of some of these frames."""
        return Chain(self.memory, frames, self.bring, self.came)

    def fetched(self) -> Chain:
        """The same with all bytes in memory, less the frames that cannot be had."""
        return self if self.bring is None else Chain(self.memory, self.bring(self.frames), None, self.came)

    def views(self, frame: Frame) -> list[memoryview]:
        """The frame's bytes as views, in order; valid as long as the chain is lent."""
        memory = self.memory
        return [memory[addr : addr + length] for addr, length, _, _ in frame[2]]

    def tobytes(self, frame: Frame) -> bytes:
        """A copy of the frame's bytes, for who needs it longer than the call."""
        return b"".join(self.views(frame))
