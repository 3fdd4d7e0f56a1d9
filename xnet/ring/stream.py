"""Byte streams over one shared page: two one-way rings of bytes, as xenstore and the console use them.

Each ring is a buffer of a power of two bytes and two free-running 32-bit indices: the producer owns prod, the consumer
cons; the byte of an index is ``index & (size - 1)``, and ``prod - cons`` bytes wait to be read. Indices need not start
at zero: an end goes on where its own index in the page stands when it attaches, and from then on believes only its
private copy of it, for the other end can write the whole page.

There is no event index: whoever moved bytes or made room notifies.
"""

from __future__ import annotations

from typing import NamedTuple

from xnet.abi.xen import xs_wire as xs
from xnet.abi.xen.ring import MASK32
from xnet.ring.shared import Barrier, RingError


class RingLayout(NamedTuple):
    """Where one direction lives in its page: byte offsets; `size` is a power of two."""

    buffer: int
    size: int
    cons: int
    prod: int


class StreamLayout(NamedTuple):
    """Both directions of a stream page, named from the domain's side: `to_back` is what the domain writes."""

    to_back: RingLayout
    to_front: RingLayout


XENSTORE = StreamLayout(
    to_back=RingLayout(xs.REQ, xs.XENSTORE_RING_SIZE, xs.REQ_CONS, xs.REQ_PROD),
    to_front=RingLayout(xs.RSP, xs.XENSTORE_RING_SIZE, xs.RSP_CONS, xs.RSP_PROD),
)
CONSOLE = StreamLayout(
    to_back=RingLayout(buffer=1024, size=2048, cons=3080, prod=3084),
    to_front=RingLayout(buffer=0, size=1024, cons=3072, prod=3076),
)
"""Source: public/io/console.h, struct xencons_interface: in[1024], out[2048], in_cons, in_prod, out_cons, out_prod."""


class ByteProducer:
    """The writing end of one direction."""

    __slots__ = ("barrier", "buffer", "cons", "mask", "prod", "prod_pvt", "size")

    def __init__(self, page: memoryview, layout: RingLayout, barrier: Barrier) -> None:
        self.size = layout.size
        self.mask = layout.size - 1
        self.buffer = page[layout.buffer : layout.buffer + layout.size]
        self.cons = page[layout.cons : layout.cons + 4].cast("I")
        self.prod = page[layout.prod : layout.prod + 4].cast("I")
        self.prod_pvt = self.prod[0]
        self.barrier = barrier

    def room(self) -> int:
        """Bytes that can be written now. RingError when the reader claims bytes that were never written."""
        used = (self.prod_pvt - self.cons[0]) & MASK32
        if used > self.size:
            raise RingError("stream consumer past the producer", used)
        return self.size - used

    def write(self, data: bytes | memoryview) -> int:
        """Write as much of `data` as there is room for and publish it; how many bytes that was. RingError."""
        count = min(len(data), self.room())
        if not count:
            return 0
        if self.barrier is not None:
            self.barrier()  # the reader's index is read before its bytes are overwritten
        start = self.prod_pvt & self.mask
        first = min(count, self.size - start)
        self.buffer[start : start + first] = data[:first]
        self.buffer[: count - first] = data[first:count]
        if self.barrier is not None:
            self.barrier()  # bytes visible before the index that announces them
        self.prod[0] = self.prod_pvt = (self.prod_pvt + count) & MASK32
        return count


class ByteConsumer:
    """The reading end of one direction."""

    __slots__ = ("barrier", "buffer", "cons", "cons_pvt", "mask", "prod", "size")

    def __init__(self, page: memoryview, layout: RingLayout, barrier: Barrier) -> None:
        self.size = layout.size
        self.mask = layout.size - 1
        self.buffer = page[layout.buffer : layout.buffer + layout.size]
        self.cons = page[layout.cons : layout.cons + 4].cast("I")
        self.prod = page[layout.prod : layout.prod + 4].cast("I")
        self.cons_pvt = self.cons[0]
        self.barrier = barrier

    def unread(self) -> int:
        """Bytes that wait. RingError when the writer claims more than the ring holds."""
        count = (self.prod[0] - self.cons_pvt) & MASK32
        if count > self.size:
            raise RingError("stream producer past the ring", count)
        return count

    def read(self) -> bytes:
        """A private copy of all that waits (perhaps nothing); the room is given back. RingError."""
        count = self.unread()
        if not count:
            return b""
        if self.barrier is not None:
            self.barrier()  # the index is read before the bytes it announces
        start = self.cons_pvt & self.mask
        first = min(count, self.size - start)
        data = bytes(self.buffer[start : start + first]) + bytes(self.buffer[: count - first])
        if self.barrier is not None:
            self.barrier()  # bytes copied before their room is given away
        self.cons[0] = self.cons_pvt = (self.cons_pvt + count) & MASK32
        return data


class ByteStream:
    """One end of a stream page: write into one ring, read from the other. `page` is kept until `release`."""

    __slots__ = ("_in", "_out")

    def __init__(self, page: memoryview, outgoing: RingLayout, incoming: RingLayout, barrier: Barrier) -> None:
        self._out = ByteProducer(page, outgoing, barrier)
        self._in = ByteConsumer(page, incoming, barrier)

    @classmethod
    def front(cls, page: memoryview, layout: StreamLayout, *, barrier: Barrier = None) -> ByteStream:
        """The domain's end."""
        return cls(page, layout.to_back, layout.to_front, barrier)

    @classmethod
    def back(cls, page: memoryview, layout: StreamLayout, *, barrier: Barrier = None) -> ByteStream:
        """The server's end."""
        return cls(page, layout.to_front, layout.to_back, barrier)

    def write(self, data: bytes | memoryview) -> int:
        """Write what there is room for; bytes taken. RingError."""
        return self._out.write(data)

    def read(self) -> bytes:
        """Take all that waits. RingError."""
        return self._in.read()

    def room(self) -> int:
        """Bytes `write` would take. RingError."""
        return self._out.room()

    def unread(self) -> int:
        """Bytes `read` would return. RingError."""
        return self._in.unread()

    def release(self) -> None:
        """Let go of the page, so that it can be unmapped; the stream is dead afterwards."""
        for end in (self._out, self._in):
            for view in (end.buffer, end.cons, end.prod):
                view.release()
