"""Pump: one descriptor of frames on the event loop, a TAP's mostly.

It reads bursts of frames straight into memory its sink reserved, and writes chains to the fd. A guest's pump has
the netfront's queue as its sink; one in dom0 (`edge.TapLink`) has staging memory that becomes a chain for the link's
client.

Interrupts and polls. A burst ends at EAGAIN, after BURST frames, or when the sink has no room. Then the sink publishes
it and the run queue is drained within the same callback (`turn`), so that a frame walks through the whole machine
without waiting for another pass of the loop. An *interrupt* is a callback of the loop because the fd is readable; the
burst it reads came by interrupt. Behind several frames more are likely: the pump asks again by itself in the next pass,
before the loop would sleep, and what it finds then has been *polled*, as is what the loop says while it asks. EMPTY
passes in a row with nothing end that, and the loop may sleep. A frame that came alone is no load; behind it comes the
pump that had something the last time (`follower`), for waking the loop costs as much as the frame.

A sink without room is read for no more; `link_ready` goes on by a poll, for the kernel has queued meanwhile, and
dropped, as on a real host. The loop is told to look no longer when it says so all the same (as Linux masks an
interrupt, late).

Writes: a TAP takes frames as long as it is up; TCP segments that go on where others end it gets as one (`frame.gro`).
What it refuses is dropped and counted; only EAGAIN is kept, one chain (`held`), and `room` is 0 until it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from errno import EAGAIN, EBADF, EINVAL, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENXIO, errorcode
from time import perf_counter
from typing import Final

from xnet.abi.linux.virtio_net import VNET_HDR, VNET_HDR_SIZE
from xnet.abi.xen import PAGE_SIZE
from xnet.engine.iov import receive, send
from xnet.engine.turn import Turn
from xnet.frame import Chain, Client, Frames, Sink, head, own
from xnet.frame.chain import POLLED, WIRE
from xnet.frame.ether import VNET_PLAIN, header_shape, header_word, offload_word, vnet_header
from xnet.frame.offload import finish_checksum

BURST: Final = 64
"""Frames read in one callback before others have their turn."""
EMPTY: Final = 2
"""Passes with an empty poll before interrupts are on again."""
ASK_AGAIN: Final = 2
"""So many frames in a burst are a sign that there will be more when it has been dealt with."""
STREAM_S: Final = 0.002
"""Frames that come sooner after a burst than this are a stream: read until there are no more."""
ANSWER_S: Final = 0.001
"""Who is readable within this after a lone frame is taken for the one it went to, or his answer."""
HOPS: Final = 8
"""Lone frames followed in one callback."""
ROOM: Final = 1 << 16

Receive = Callable[[int, memoryview, int, int, int, bytearray, bytes], tuple[list[int], int]]
LOST: Final = {ENETDOWN: "read_device_down", EINVAL: "read_no_header", EMSGSIZE: "read_too_long"}
"""What a packet socket says of one moment or one frame, such as one that no vnet header can be for: others come."""
REFUSED: Final = {
    EIO: "write_device_down",
    ENETDOWN: "write_device_down",
    EBADF: "write_device_gone",
    ENXIO: "write_device_gone",
    ENOBUFS: "write_queue_full",
    EMSGSIZE: "write_too_long",
}


class Pump(Client):
    """One TAP fd on the loop. `turn` drains the run queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, sink: Sink | None, turn: Turn) -> None:
        self.loop = loop
        self.fd = self.bell = fd
        """What is read and written, and what tells when there is something to read."""
        self.sink = sink
        self.turn = turn
        self.take: Receive = receive
        """What reads: `iov.receive`, or another like it."""
        self.header = bytearray(VNET_HDR_SIZE)
        self.seen = bytes(VNET_HDR_SIZE)
        self.seen_word = 0
        """The last header, and the word it says; -1 if the frame must be looked at."""
        self.wrote = VNET_PLAIN
        self.wrote_word = self.wrote_shape = 0
        """The last header written to a frame in plain IPv4, and what it says of which frames."""
        self.reading = False
        """It wants frames, by interrupt or poll."""
        self.watched = False
        """The loop looks whether there are any."""
        self.resting = False
        """Its sink had no room."""
        self.polling = self.scheduled = False
        """It asks by itself; and it has a place in the next pass for that."""
        self.empty = 0
        """Passes in a row that found nothing."""
        self.read_frames = self.polled_frames = self.written_frames = 0
        self.others: dict[str, int] = {}
        """Counters that are rarely needed, by name."""
        self.stream_s = STREAM_S
        self.left_at = 0.0
        """When the last burst was over."""
        self.alone = False
        """It was a lone frame."""
        self.follower: Pump | None = None
        """Who was readable next."""
        self.held: list[tuple[bytes, bytes]] = []
        self.drained: Callable[[], None] = lambda: None
        """Called when `room`, once 0, is not 0 any more."""

    @property
    def counters(self) -> dict[str, int]:
        """All of them."""
        found = {"read_frames": self.read_frames, "written_frames": self.written_frames}
        if self.polled_frames:
            found["polled_frames"] = self.polled_frames
        return found | self.others

    def link_ready(self) -> None:
        """Read (again): the sink has room."""
        if self.reading or self.fd < 0 or self.sink is None:
            return
        self.reading = True
        if self.resting:
            self.resting = False
            self.poll_soon()
        else:
            self.watch(True)

    def watch(self, on: bool) -> None:
        """Have the loop look whether there is something to read, or not."""
        if on and not self.watched:
            self.loop.add_reader(self.bell, self.on_readable)
        elif self.watched and not on:
            self.loop.remove_reader(self.bell)
        self.watched = on

    def poll_soon(self) -> None:
        """Ask in the next pass of the loop."""
        self.polling = True
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.poll)

    def poll(self) -> None:
        """The pass is there."""
        self.scheduled = False
        if self.polling:
            self.read(BURST, WIRE | POLLED)

    def rest(self) -> None:
        """Read no more for now: there is no room. The loop may say once more that there is something."""
        self.reading = self.polling = False
        self.resting = True

    def pause(self) -> None:
        """Stop reading; the kernel queues."""
        self.reading = self.resting = self.polling = False
        self.watch(False)

    def close(self) -> None:
        """Leave the loop. The fd is its owner's."""
        self.pause()
        self.follower = self.turn.asked = None
        if self.held:
            self.loop.remove_writer(self.fd)
            self.held.clear()
        self.fd = -1

    def on_readable(self) -> None:
        """Frames wait. Behind a lone one, whoever was next the last time is asked at once: an echo is there already,
        and the loop is dear to wake. One that had nothing is not asked again."""
        if not self.reading:
            self.watch(False)
            return
        if self.polling:
            self.read(BURST, WIRE | POLLED)
            return
        turn, pump = self.turn, self
        before, now = turn.asked, perf_counter()
        if before is not None and now - before.left_at < ANSWER_S:
            before.follower = self
        self.read(self.burst(now, turn.left_at), WIRE)
        for _ in range(HOPS):
            turn.asked = pump if pump.alone else None
            follower = pump.follower
            if not pump.alone or follower is None:
                return
            if not follower.reading or follower.polling or not follower.read(follower.burst(perf_counter(), 0.0), WIRE):
                pump.follower = None
                return
            pump = follower

    def burst(self, now: float, busy_at: float) -> int:
        """Frames to read: a lone one while all rest is likely to be alone, and the loop says so if it is not."""
        return BURST if now - self.left_at < self.stream_s or now - busy_at < self.turn.busy_s else 1

    def read(self, burst: int, came: int) -> int:  # hot: budget 6 us a frame, system call included
        """Read a burst that `came` so, publish it, let the machine run: how many frames."""
        self.alone = False
        sink, header, take = self.sink, self.header, self.take
        if sink is None:
            self.pause()
            return 0
        turn = self.turn
        done = 0
        fresh = False
        sink.came = came
        try:
            while done < burst:
                room = sink.reserve()
                if room is None:
                    if fresh:
                        fresh = False
                        sink.flush()
                        turn()
                        continue
                    self.rest()
                    break
                addr, size = room
                most = burst - done if self.seen_word >= 0 else 1
                lengths, result = take(self.fd, sink.memory, addr, size, most, header, self.seen)
                if lengths:
                    turn.held = fresh = True
                    done += len(lengths)
                    if result > 0 and header != self.seen:
                        self.turn_header(sink, addr, lengths)
                    else:
                        sink.commit(self.word_of(sink, addr, lengths[0]), lengths)
                if result <= 0:
                    if result != -EAGAIN:
                        self.no_frame(result)
                    break
        finally:
            self.read_frames += done
            if came & POLLED:
                self.polled_frames += done
            sink.flush()
            if done:
                turn()
            self.left_at = turn.left_at = perf_counter()
        self.alone = done == burst == 1
        if self.reading:
            self.go_on(done)
        return done

    def go_on(self, done: int) -> None:  # hot
        """By poll or by interrupt, behind a read of so many frames."""
        if done >= ASK_AGAIN:
            self.empty = 0
            self.poll_soon()
        elif self.polling:
            self.empty = 0 if done else self.empty + 1
            if self.empty < EMPTY:
                self.poll_soon()
            else:
                self.polling = False
                self.watch(True)

    def turn_header(self, sink: Sink, addr: int, lengths: list[int]) -> None:
        """Frames from `addr` on, of which the last has another header than the one seen."""
        last = lengths.pop()
        if lengths:
            sink.commit(self.seen_word, lengths)
            for length in lengths:
                addr += (length + PAGE_SIZE - 1) & -PAGE_SIZE
        self.seen = bytes(self.header)
        self.seen_word = header_word(self.seen)
        sink.commit(self.word_of(sink, addr, last), [last])

    def word_of(self, sink: Sink, addr: int, length: int) -> int:
        """The offload word of a frame behind the header seen, which may say to look at it. A wish that netif cannot
        express is fulfilled: none remains."""
        if self.seen_word >= 0:
            return self.seen_word
        view = sink.memory[addr : addr + length]
        word = offload_word(self.seen, view, length)
        if word is None:
            _, _, _, _, start, offset = VNET_HDR.unpack(self.seen)
            finish_checksum(view, length, start, offset)
            return 0
        return word

    def no_frame(self, result: int) -> None:
        """Less than a header was read, or a frame was lost; or the device went away under us (its namespace died): stop
        reading."""
        if result >= 0:
            self.count("read_empty", 1)
        elif -result in LOST:
            self.count(LOST[-result], 1)
        else:
            self.pause()
            self.count(f"read_{errorcode.get(-result, 'error')}", 1)

    def room(self) -> int:
        """Frames the fd takes now: plenty, or none while something waits."""
        return 0 if self.held else ROOM

    def rx(self, chain: Chain) -> None:  # hot: budget 4 us a frame, system call included
        """Write a chain's frames; what the fd refuses is dropped by name."""
        frames, memory, put, gro = chain.frames, chain.memory, send, self.turn.gro
        if self.held:
            self.count("write_busy", len(frames))  # nothing overtakes what waits
            return
        done, count = 0, len(frames)
        while done < count:
            after, error, joins = put(self.fd, memory, frames, done, self.wrote, self.wrote_word, self.wrote_shape, gro)
            if joins:
                self.count("joined_frames", joins)
            if after == done and not error:
                after, error = self.send_other(chain, done)
            self.written_frames += after - done
            done = after
            if error == EAGAIN:
                self.hold(chain, done)
                return
            if error:
                self.refused(error)
                done += 1

    def send_other(self, chain: Chain, at: int) -> tuple[int, int]:
        """Write a frame that wants another header than the last one did: as `iov.send`."""
        frame = chain.frames[at]
        word, length, _ = frame
        view = head(chain, frame)
        shape, header = header_shape(word, view, length), vnet_header(word, view, length)
        if shape >= 0:
            self.wrote, self.wrote_word, self.wrote_shape = header, word, shape
        return send(self.fd, chain.memory, chain.frames, at, header, word, -1, False)[:2]

    def refused(self, error: int) -> None:
        """The device is down, it is gone, its queue is full: the frame is lost, and named."""
        self.count(REFUSED.get(error) or f"write_{errorcode.get(error, 'error')}", 1)

    def hold(self, chain: Chain, done: int) -> None:
        """Keep what a busy fd did not take. The writer goes with it: a TAP is always writable."""
        for frame in list(chain.frames)[done:]:
            data = chain.tobytes(frame)
            self.held.append((vnet_header(frame[0], memoryview(data), frame[1]), data))
        self.loop.add_writer(self.fd, self.on_writable)

    def on_writable(self) -> None:
        """The fd takes frames again; who waited for room has it."""
        while self.held:
            header, data = self.held[0]
            sent, error, _ = send(self.fd, memoryview(data), Frames([own(0, 0, len(data))]), 0, header, 0, -1, False)
            if error == EAGAIN:
                return
            if error:
                self.refused(error)
            self.written_frames += sent
            self.held.pop(0)
        self.loop.remove_writer(self.fd)
        self.turn.held = True
        self.drained()
        self.turn()

    def count(self, name: str, count: int) -> None:
        """Add to a counter that is rarely needed."""
        self.others[name] = self.others.get(name, 0) + count
