"""Bandwidth: the link and flow property ``maxbw``, in windows of 10 ms, each direction by itself.

A window passes L = (bps / 8) / 100 bytes. What a window does not use is lost: idle time earns nothing. A frame may be
larger than what is left of its window, or than a whole one (64 KiB that are not segmented yet): it passes where any of
the window is left, and what is too much is a debt that the windows after it pay, so that such a frame neither stalls
nor beats the cap. illumos would let it block its queue for ever (mac_sched.c, 2009).

============  ====================================  ===========================================================
direction     frames past the window are            dropped (``sdrops``) is
============  ====================================  ===========================================================
out (tx)      queued, the lane is blocked           what comes while 1000 packets wait, a large one counted as the
                                                    segments it becomes
into (rx)     queued                                what comes while 2 L bytes wait
============  ====================================  ===========================================================

A cap of 0 drops everything. One timer serves all lanes that have something queued (`Ticker`), those of high priority
first; without a queue there is none.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from xnet.errors import XnetError
from xnet.frame import GSO_SIZE_SHIFT, GSO_TYPE_MASK, Chain, Frame, own
from xnet.frame.arena import Arena
from xnet.frame.clock import Clock, Timer
from xnet.mac.stage import Stage

TICKS: Final = 100
"""Windows a second."""
MIN_BPS: Final = 1_200_000
PACKETS: Final = 1000
"""What a blocked lane queues on its way out."""
MAXBW: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?([KMGkmg]?)")
"""How one is written."""
SCALES: Final = {"K": 10**3, "M": 10**6, "": 10**6, "G": 10**9}
PRIORITIES: Final = ("high", "medium", "low")
"""The order in which lanes go on when a window begins."""


class BandwidthError(XnetError):
    """No bandwidth, in dladm's words."""


def parse_maxbw(text: str) -> int:
    """Bits a second of ``1200K``, ``100M``, ``1.5G``, ``100`` (Mbps). BandwidthError."""
    found = MAXBW.fullmatch(text)
    if found is None:
        raise BandwidthError("invalid argument")
    whole, part, scale = found[1], found[2] or "", SCALES[found[3].upper()]
    bps: int = int(whole) * scale + int(part or 0) * scale // 10 ** len(part)
    if 0 < bps < MIN_BPS:
        raise BandwidthError("minimum value for maxbw is 1200K")
    return bps


def format_maxbw(bps: int) -> str:
    """Mbps as dladm prints it: five wide at least, with a fraction only where there is one."""
    mbps, rest = divmod(bps, 10**6)
    return f"{mbps:5d}" + (f".{rest:06d}".rstrip("0") if rest else "")


def packets(frame: Frame) -> int:
    """How many a frame is on a wire, about."""
    word = frame[0]
    if not word & GSO_TYPE_MASK or not word >> GSO_SIZE_SHIFT:
        return 1
    return -(-frame[1] // (word >> GSO_SIZE_SHIFT))


class Ticker:
    """Windows, and whoever waits for the next one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waiting: set[Limit] = set()
        self.timer: Timer | None = None

    def now(self) -> int:
        """Number of the present window."""
        return int(self.clock.now() * TICKS + 1e-6)  # a timer of exactly a window must find it begun

    def wait(self, limit: Limit) -> None:
        """Have a lane go on when the next window begins."""
        self.waiting.add(limit)
        if self.timer is None:
            self.timer = self.clock.call_at((self.now() + 1) / TICKS, self.due)

    def due(self) -> None:
        """A window begins."""
        self.timer = None
        lanes = sorted(self.waiting, key=lambda limit: limit.rank)
        self.waiting.clear()
        for lane in lanes:
            lane.drain()

    def leave(self, limit: Limit) -> None:
        """It does not wait any more."""
        self.waiting.discard(limit)
        if not self.waiting and self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Limit(Stage):
    """A cap for one direction; what passes goes to `on`."""

    def __init__(self, ticker: Ticker, arena: Arena, on: Callable[[Chain], None], bps: int, *, into: bool) -> None:
        """`into`: toward the client."""
        self.ticker = ticker
        self.arena = arena
        self.on = on
        self.into = into
        self.rank = 0
        """Lower ones go on first."""
        self.window = ticker.now()
        self.used = 0
        """Bytes that passed in this window, with the debt of those before."""
        self.queue: deque[tuple[int, bytes]] = deque()
        self.queued_bytes = self.queued_packets = 0
        self.sdrops = self.blocked = self.unblocked = 0
        self.bps = bps
        self.limit = bps // (8 * TICKS)

    def set(self, bps: int) -> None:
        """Another cap, from now on; what waits goes on waiting, under the new one."""
        self.bps = bps
        self.limit = bps // (8 * TICKS)
        if not self.limit:
            self.drop_all()

    def take(self, chain: Chain) -> None:  # hot
        """Frames on their way."""
        limit = self.limit
        if not limit:
            self.sdrops += len(chain.frames)
            return
        if not self.queue:
            window = self.ticker.now()
            if window != self.window:
                self.roll(window)
            size = chain.size()
            if self.used + size <= limit:
                self.used += size
                self.on(chain)
                return
        self.part(chain.fetched())

    def roll(self, window: int) -> None:
        """Another window has begun: those since pay the debt, what they have left is lost."""
        self.used = max(0, self.used - (window - self.window) * self.limit)
        self.window = window

    def part(self, chain: Chain) -> None:
        """Pass what the window takes, queue what it does not."""
        passed: list[Frame] = []
        for frame in chain.frames:
            if not self.queue and self.used < self.limit:
                self.used += frame[1]
                passed.append(frame)
            else:
                self.park(chain, frame)
        if passed:
            self.on(chain.part(passed))

    def park(self, chain: Chain, frame: Frame) -> None:
        """Queue a frame, or drop it."""
        size, count = frame[1], packets(frame)
        if self.queue and (
            self.queued_bytes + size > 2 * self.limit if self.into else self.queued_packets + count > PACKETS
        ):
            self.sdrops += 1
            return
        if not self.queue:
            self.blocked += 1
            self.ticker.wait(self)
        self.queue.append((frame[0], chain.tobytes(frame)))
        self.queued_bytes += size
        self.queued_packets += count

    def drain(self) -> None:
        """A window has begun: pass what it takes."""
        self.roll(self.ticker.now())
        self.send(self.limit)
        if self.queue:
            self.ticker.wait(self)
        else:
            self.unblocked += 1

    def send(self, limit: int) -> None:
        """Pass what waits until so many bytes of the window are used, in bursts that leave memory to who gets them."""
        while self.queue and self.used < limit:
            arena, frames = self.arena, []
            mark = arena.mark()
            room = arena.free() >> 1
            while self.queue and self.used < limit and (room := room - len(self.queue[0][1]) - 4096) > 0:
                word, data = self.queue.popleft()
                addr = arena.alloc(len(data))
                arena.memory[addr : addr + len(data)] = data
                frame = own(word, addr, len(data))
                frames.append(frame)
                self.used += len(data)
                self.queued_bytes -= len(data)
                self.queued_packets -= packets(frame)
            if not frames:
                return  # in the middle of somebody's large burst: the next window
            self.on(Chain(arena.memory, frames))
            arena.release(mark)

    def drop_all(self) -> None:
        """What waits is lost."""
        self.sdrops += len(self.queue)
        self.queue.clear()
        self.queued_bytes = self.queued_packets = 0
        self.ticker.leave(self)

    def end(self) -> None:
        """There is no cap any more: what waits goes on in its order."""
        self.ticker.leave(self)
        if self.queue:
            self.send(1 << 62)
        self.drop_all()
