"""The edge: frames between file descriptors and the machine, in bursts, with what a descriptor may refuse."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from time import perf_counter

import pytest

from xnet.abi.linux.virtio_net import VNET_HDR
from xnet.abi.xen import PAGE_SIZE
from xnet.engine.edge import BACKLOG, GO_ON, TapLink
from xnet.engine.pump import BURST, EMPTY, Pump
from xnet.engine.turn import Turn
from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    MOST_PAGES,
    Chain,
    Client,
    Sink,
    bytes_for,
    own,
)
from xnet.frame.arena import Arena
from xnet.frame.chain import POLLED, WIRE
from xnet.frame.ether import vnet_header
from xnet.testing.frames import flaw, plain, tcp, udp

pytestmark = pytest.mark.integration

PLAIN = bytes(10)
BLANK_TCP4 = VNET_HDR.pack(1, 0, 0, 0, 34, 16)
GSO_TCP4 = VNET_HDR.pack(1, 1, 54, 1448, 34, 16)
GSO4 = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end and the kernel's: like a TAP, a read or write is a whole frame."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


class Buffers(Sink):
    """A sink of a few buffers; published frames are what the machine got."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.memory = memoryview(bytearray(PAGE_SIZE + bytes_for(200)))
        self.commits = 0
        self.burst: list[tuple[int, bytes]] = []
        self.published: list[list[tuple[int, bytes]]] = []

    def reserve(self) -> tuple[int, int] | None:
        return (PAGE_SIZE, min(bytes_for(self.room), bytes_for(200))) if self.room else None

    def commit(self, word: int, lengths: list[int]) -> None:
        self.room -= len(lengths)
        self.commits += 1
        at = PAGE_SIZE
        for length in lengths:
            self.burst.append((word, bytes(self.memory[at : at + length])))
            at += -(-length // PAGE_SIZE) * PAGE_SIZE

    def flush(self) -> None:
        if self.burst:
            self.published.append(self.burst)
            self.burst = []

    @property
    def frames(self) -> list[bytes]:
        return [frame for burst in self.published for _, frame in burst]


class Ways(Buffers):
    """It keeps how the frames came, chain by chain."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.ways: list[tuple[int, int]] = []

    def flush(self) -> None:
        if self.burst:
            self.ways.append((self.came, len(self.burst)))
        super().flush()


def turn_of(steps: Callable[[], object] = lambda: None) -> Turn:
    """A turn whose machine does `steps` once a time, and is never busy."""
    turn = Turn(asyncio.get_running_loop())
    turn.busy_s = 0.0

    def step(_: int) -> int:
        steps()
        return 0

    turn.step = step
    return turn


async def passes(count: int = 3) -> None:
    """Some passes of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)


def chain_of(*frames: bytes, word: int = 0) -> Chain:
    """Frames one after another, each at the start of a page."""
    memory, at = bytearray(sum(len(frame) + PAGE_SIZE for frame in frames)), 0
    chain = Chain(memoryview(memory))
    for frame in frames:
        chain.frames.append(own(word, at, len(frame)))
        memory[at : at + len(frame)] = frame
        at += -(-len(frame) // PAGE_SIZE) * PAGE_SIZE
    return chain


def read_all(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 17))
        except BlockingIOError:
            return found


# --- reading


ALWAYS = float("inf")
"""Every frame is of a stream, however slow the machine that tests it."""


async def test_a_lone_frame_after_a_pause_is_published_without_asking_for_another(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink = Buffers(8)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    for i in range(4):
        theirs.send(PLAIN + plain(60 + i))
    pump.stream_s = 0.0
    pump.link_ready()
    pump.on_readable()
    assert [len(burst) for burst in sink.published] == [1]
    pump.stream_s = ALWAYS
    pump.on_readable()
    assert [len(burst) for burst in sink.published] == [1, 3], "what comes at once is a stream"
    pump.close()


async def test_while_others_are_busy_a_rare_visitor_is_read_to_the_end(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink, turn = Buffers(8), turn_of()
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn)
    pump.stream_s = 0.0
    turn.busy_s, turn.left_at = ALWAYS, perf_counter()
    for i in range(4):
        theirs.send(PLAIN + plain(60 + i))
    pump.link_ready()
    pump.on_readable()
    assert [len(burst) for burst in sink.published] == [4]
    assert turn.asked is None, "nobody's answer is looked for"
    pump.close()


async def test_who_came_after_a_lone_frame_is_asked_at_once_the_next_time() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    turn, loop = turn_of(), asyncio.get_running_loop()
    sinks, pumps = [Buffers(1000), Buffers(1000)], []
    for (ours, theirs), sink in zip(pairs, sinks, strict=True):
        ours.setblocking(False)
        theirs.setblocking(False)
        pumps.append(Pump(loop, ours.fileno(), sink, turn))
        pumps[-1].stream_s = 0.0
        pumps[-1].link_ready()
    (one, other), (there, elsewhere) = pumps, [theirs for _, theirs in pairs]
    while one.follower is not other:  # a slow machine may need a second lesson
        there.send(PLAIN + plain(60))
        one.on_readable()
        elsewhere.send(PLAIN + plain(61))
        other.on_readable()
        turn.asked = None
    answered = len(sinks[1].frames)
    there.send(PLAIN + plain(60))
    elsewhere.send(PLAIN + plain(61))
    one.on_readable()
    assert len(sinks[1].frames) == answered + 1, "one callback, both frames"
    there.send(PLAIN + plain(60))
    one.on_readable()
    assert one.follower is None, "who has nothing is not asked again"
    for pump in pumps:
        pump.close()
    for pair in pairs:
        for end in pair:
            end.close()


async def test_a_burst_is_published_as_one_and_the_machine_runs_in_the_same_callback(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink, turns = Buffers(99), []
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of(lambda: turns.append(len(sink.published))))
    pump.stream_s = ALWAYS
    for size in (60, 1514, 9000):
        theirs.send(PLAIN + plain(size))
    pump.link_ready()
    await passes()
    assert sink.published == [[(0, plain(60)), (0, plain(1514)), (0, plain(9000))]]
    assert turns == [1], "the turn came after the burst was published, once"
    assert pump.counters["read_frames"] == 3
    pump.close()


async def test_a_long_burst_lets_the_others_have_their_turn(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    sink = Buffers(1000)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    for i in range(BURST + 10):
        theirs.send(PLAIN + plain(60 + i))
    pump.link_ready()
    await passes(5)
    assert [len(burst) for burst in sink.published] == [BURST, 10]
    pump.close()


async def test_behind_several_frames_a_pump_asks_by_itself_until_there_is_nothing_more(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    later = [[70, 71, 72], [80]]

    def meanwhile() -> None:
        for size in later.pop(0) if later else ():
            theirs.send(PLAIN + plain(size))

    sink = Ways(99)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of(meanwhile))
    pump.stream_s = ALWAYS
    pump.link_ready()
    for size in (60, 61):
        theirs.send(PLAIN + plain(size))
    pump.on_readable()
    assert sink.ways == [(WIRE, 2)]
    pump.poll()
    pump.poll()
    assert sink.ways[1:] == [(WIRE | POLLED, 3), (WIRE | POLLED, 1)]
    assert pump.counters == {"read_frames": 6, "written_frames": 0, "polled_frames": 4}
    for _ in range(EMPTY):
        assert pump.polling
        pump.poll()
    assert not pump.polling
    theirs.send(PLAIN + plain(60))
    pump.on_readable()
    assert sink.ways[3:] == [(WIRE, 1)], "interrupts are on again"
    assert not pump.polling, "a lone frame is no load"
    pump.close()


async def test_what_the_loop_says_while_a_pump_polls_is_one_poll_more(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink = Ways(1000)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    pump.link_ready()
    for i in range(BURST + 10):
        theirs.send(PLAIN + plain(60 + i))
    pump.on_readable()
    assert pump.polling
    pump.on_readable()
    assert sink.ways == [(WIRE, BURST), (WIRE | POLLED, 10)]
    await passes()
    assert not pump.polling
    assert pump.watched
    theirs.send(PLAIN + plain(60))
    await passes()
    assert sink.ways[2:] == [(WIRE, 1)], "the loop looks again"
    pump.close()


async def test_a_pump_without_room_goes_on_by_a_poll(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    sink = Ways(1)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    for i in range(3):
        theirs.send(PLAIN + plain(60 + i))
    pump.link_ready()
    await passes()
    assert sink.ways == [(WIRE, 1)]
    assert not pump.watched, "the loop is not woken for what nobody takes"
    sink.room = 9
    pump.link_ready()
    await passes()
    assert sink.ways[1:] == [(WIRE | POLLED, 2)]
    theirs.send(PLAIN + plain(60))
    await passes()
    assert sink.ways[2:] == [(WIRE, 1)]
    pump.close()


async def test_a_pump_that_was_paused_while_it_polled_stays_so(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    sink = Ways(1000)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    pump.link_ready()
    for i in range(BURST + 10):
        theirs.send(PLAIN + plain(60 + i))
    pump.on_readable()
    pump.pause()
    await passes()
    assert len(sink.frames) == BURST
    pump.link_ready()
    await passes()
    assert len(sink.frames) == BURST + 10
    pump.close()


async def test_a_pump_that_is_paused_by_what_it_read_reads_no_more(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    sink = Ways(1000)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of(lambda: pump.pause()))
    pump.stream_s = ALWAYS
    pump.link_ready()
    for i in range(5):
        theirs.send(PLAIN + plain(60 + i))
    sink.room = 3
    pump.on_readable()
    assert len(sink.frames) == 3
    pump.close()


async def test_no_room_pauses_and_the_kernel_queues_until_it_is_resumed(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink = Buffers(2)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    for i in range(5):
        theirs.send(PLAIN + plain(60 + i))
    pump.link_ready()
    await passes()
    assert sink.frames == [plain(60), plain(61)]
    assert not pump.reading
    sink.room = 99
    pump.link_ready()
    pump.link_ready()
    await passes()
    assert sink.frames == [plain(60 + i) for i in range(5)]
    pump.close()


async def test_room_that_the_machine_makes_is_used_in_the_same_callback(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    sink = Buffers(2)
    frames = 7

    def reap() -> None:
        sink.room = 2

    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of(reap))
    pump.stream_s = ALWAYS
    for i in range(frames):
        theirs.send(PLAIN + plain(60 + i))
    pump.link_ready()
    pump.on_readable()
    assert [len(burst) for burst in sink.published] == [2, 2, 2, 1]
    assert pump.reading
    pump.close()


async def test_a_paused_pump_reads_nothing(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    sink = Buffers(9)
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    pump.link_ready()
    pump.pause()
    theirs.send(PLAIN + plain(60))
    await passes()
    assert sink.frames == []
    assert theirs.fileno() >= 0
    pump.link_ready()
    await passes()
    assert sink.frames == [plain(60)]
    pump.close()


async def test_a_pump_without_a_sink_stays_off_the_loop(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), None, turn_of())
    pump.stream_s = ALWAYS
    theirs.send(PLAIN + plain(60))
    pump.link_ready()
    assert not pump.reading
    pump.sink = sink = Buffers(1)
    pump.link_ready()
    pump.sink = None
    pump.on_readable()
    assert not pump.reading
    assert sink.frames == []
    pump.close()


READ_WORDS = {
    "a plain frame": (PLAIN, plain(60), 0),
    "data validated": (VNET_HDR.pack(2, 0, 0, 0, 0, 0), tcp(b"abc"), DATA_VALIDATED),
    "a blank checksum": (BLANK_TCP4, tcp(b"abc", blank=True), CSUM_BLANK | DATA_VALIDATED),
    "segmentation offload": (GSO_TCP4, tcp(bytes(9000), blank=True), GSO4),
}


@pytest.mark.parametrize("name", READ_WORDS)
async def test_the_vnet_header_becomes_the_offload_word(wire: tuple[socket.socket, socket.socket], name: str) -> None:
    header, frame, word = READ_WORDS[name]
    sink = Buffers(1)
    pump = Pump(asyncio.get_running_loop(), wire[0].fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    wire[1].send(header + frame)
    pump.link_ready()
    await passes()
    assert sink.published == [[(word, frame)]]
    pump.close()


async def test_a_checksum_wish_that_netif_cannot_say_is_fulfilled(wire: tuple[socket.socket, socket.socket]) -> None:
    """As an SCTP or tunnelled one: not the outer TCP or UDP header's."""
    sink = Buffers(1)
    pump = Pump(asyncio.get_running_loop(), wire[0].fileno(), sink, turn_of())
    pump.stream_s = ALWAYS
    plain = udp(b"abc", blank=True)
    odd = plain[:12] + b"\x81\0\0\5" + plain[12:23] + b"\x84" + plain[24:]  # tagged, and no protocol we know
    wire[1].send(VNET_HDR.pack(1, 0, 0, 0, 38, 6) + odd)
    pump.link_ready()
    await passes()
    [[(word, frame)]] = sink.published
    assert word == 0
    assert flaw(udp(b"abc")) == ""
    assert frame[38:] == udp(b"abc")[34:], "what is summed is complete"
    pump.close()


async def test_a_device_that_goes_away_is_left_and_named() -> None:
    fd = os.open("/proc/self/mem", os.O_RDWR)
    sink = Buffers(9)
    pump = Pump(asyncio.get_running_loop(), fd, sink, turn_of())
    pump.stream_s = ALWAYS
    pump.reading = True  # though no loop can watch such a file
    pump.on_readable()
    assert pump.counters["read_EIO"] == 1
    assert sink.published == []
    os.close(fd)


# --- writing


async def test_frames_are_written_behind_their_header(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), None, turn_of())
    pump.stream_s = ALWAYS
    big = tcp(bytes(9000), blank=True)
    pump.rx(chain_of(plain(60), plain(5000)))
    pump.rx(chain_of(big, word=GSO4))
    pump.rx(chain_of(tcp(b"x", blank=True), word=CSUM_BLANK))
    assert read_all(theirs) == [
        PLAIN + plain(60), PLAIN + plain(5000), GSO_TCP4 + big, BLANK_TCP4 + tcp(b"x", blank=True),
    ]  # fmt: skip
    assert pump.counters["written_frames"] == 4
    pump.close()


@pytest.mark.parametrize("cut", [1, 14, 33, 54, 100])
async def test_a_frame_in_pieces_is_written_as_one(wire: tuple[socket.socket, socket.socket], cut: int) -> None:
    ours, theirs = wire
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), None, turn_of())
    pump.stream_s = ALWAYS
    frame = tcp(bytes(range(256)) * 20, blank=True)
    memory = bytearray(4 * PAGE_SIZE)
    memory[PAGE_SIZE - cut : PAGE_SIZE] = frame[:cut]
    memory[2 * PAGE_SIZE : 2 * PAGE_SIZE + len(frame) - cut] = frame[cut:]
    pieces = ((PAGE_SIZE - cut, cut, 7, 1), (2 * PAGE_SIZE, len(frame) - cut, 7, 2))
    pump.rx(Chain(memoryview(memory), [(GSO4, len(frame), pieces)]))
    assert read_all(theirs) == [GSO_TCP4 + frame]
    pump.close()


async def test_a_frame_is_written_behind_the_header_of_the_moment(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    """The same frame in the same place is another one when its bytes are others."""
    ours, theirs = wire
    pump = Pump(asyncio.get_running_loop(), ours.fileno(), None, turn_of())
    big = tcp(bytes(5000), blank=True)
    chain = chain_of(big, big, word=GSO4)
    chain = chain.part([chain.frames[0], (CSUM_BLANK, *chain.frames[1][1:])])
    first = chain.memory[: len(big)]
    said = []
    for at, value in [(0, 0), (46, 0x80), (47, 0x90), (47, 0x10), (46, 0x50), (23, 17), (23, 6), (12, 0), (12, 8)]:
        if at:
            first[at] = value
        pump.rx(chain)
        one, other = read_all(theirs)
        assert one == vnet_header(GSO4, first, len(big)) + first
        assert other == BLANK_TCP4 + big
        said.append(VNET_HDR.unpack(one[:10])[:3])
    head, cwr = (1, 1, 54), (1, 0x81, 66)
    assert said == [head, (1, 1, 66), cwr, (1, 1, 66), head, (1, 0, 0), head, (0, 0, 0), head]
    pump.close()


class Told(Client):
    """A link's client that counts what it is told."""

    def __init__(self) -> None:
        self.behind = 0
        self.received: list[list[tuple[int, bytes]]] = []
        self.space = 99
        self.ready = 0

    def rx(self, chain: Chain) -> None:
        self.received.append([(frame[0], chain.tobytes(frame)) for frame in chain.frames])

    def room(self) -> int:
        return self.space

    def backlog(self) -> int:
        return self.behind

    def link_ready(self) -> None:
        self.ready += 1


def tap_link(fd: int, turn: Turn | None = None, pages: int = 600) -> TapLink:
    memory = memoryview(bytearray(pages * PAGE_SIZE))
    arena = Arena(memory, 0, pages * PAGE_SIZE)
    loop = asyncio.get_running_loop()
    link = TapLink(loop, fd, mtu=1500, memory=memory, arena=arena, turn=turn or turn_of())
    link.pump.stream_s = ALWAYS
    return link


def fill(link: TapLink, size: int = 1000) -> int:
    """Write until the descriptor refuses; how many frames it took, the held one not counted."""
    done = 0
    while link.room():
        link.tx(chain_of(plain(size)))
        done += 1
    return done - 1


async def test_what_a_busy_descriptor_refuses_is_kept_and_written_first(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    client = Told()
    link = tap_link(ours.fileno())
    link.attach(client)
    taken = fill(link)
    assert taken > 0
    assert link.room() == 0
    await passes()
    assert client.ready == 0
    got = read_all(theirs)
    await passes()
    assert got + read_all(theirs) == [PLAIN + plain(1000)] * (taken + 1)
    assert link.room() > 0
    assert link.pump.counters["written_frames"] == taken + 1
    assert client.ready == 1, "who waits for room is told, once"
    link.close()


async def test_behind_what_is_kept_frames_are_dropped_by_name_and_never_overtake(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    link = tap_link(ours.fileno())
    taken = fill(link)
    theirs.recv(1 << 17)
    theirs.recv(1 << 17)
    link.tx(chain_of(plain(60), plain(61)))  # the descriptor would take it, but one frame waits
    assert link.pump.counters["write_busy"] == 2
    await passes()
    rest = read_all(theirs)
    await passes()
    rest += read_all(theirs)
    assert rest == [PLAIN + plain(1000)] * (taken - 1)
    link.tx(chain_of(plain(62)))
    assert read_all(theirs) == [PLAIN + plain(62)]
    link.close()


async def test_the_end_of_a_room_less_time_lets_the_machine_run(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    client, order = Told(), []
    link = tap_link(ours.fileno(), turn_of(lambda: order.append(client.ready)))
    link.attach(client)
    fill(link)
    read_all(theirs)
    await passes()
    assert order == [1], "what the client pushed on its word is delivered in the same pass"
    link.close()


async def test_closing_drops_what_is_kept_and_leaves_the_loop(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    link = tap_link(ours.fileno())
    taken = fill(link)
    link.close()
    loop = asyncio.get_running_loop()
    assert not loop.remove_writer(ours.fileno())
    read_all(theirs)
    await passes()
    assert read_all(theirs) == []
    assert taken > 0


async def test_a_device_that_is_down_loses_frames_by_name() -> None:
    fd = os.open("/proc/self/mem", os.O_RDWR)  # as a TAP that is down: EIO
    pump = Pump(asyncio.get_running_loop(), fd, None, turn_of())
    pump.stream_s = ALWAYS
    pump.rx(chain_of(plain(60), plain(61)))
    assert pump.counters["write_device_down"] == 2
    assert pump.counters["written_frames"] == 0
    assert pump.room() > 0
    os.close(fd)
    pump.rx(chain_of(plain(60)))
    assert pump.counters["write_device_gone"] == 1
    pump.fd = os.open("/dev/full", os.O_WRONLY)
    pump.rx(chain_of(plain(60)))
    assert pump.counters[f"write_{errno.errorcode[errno.ENOSPC]}"] == 1
    os.close(pump.fd)


# --- a TAP as a link


async def test_a_burst_becomes_a_chain_for_the_client(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    client = Told()
    link = tap_link(ours.fileno())
    before = link.staging.arena.free()
    link.attach(client)
    theirs.send(PLAIN + plain(60))
    theirs.send(GSO_TCP4 + tcp(bytes(60000), blank=True))
    theirs.send(PLAIN + plain(61))
    await passes()
    assert client.received == [[(0, plain(60)), (GSO4, tcp(bytes(60000), blank=True)), (0, plain(61))]]
    assert link.staging.arena.free() == before, "staging memory is given back"
    link.close()


async def test_more_than_the_staging_memory_holds_comes_in_several_chains(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    client = Told()
    link = tap_link(ours.fileno())
    link.attach(client)
    link.pump.pause()
    frames = [tcp(bytes([i]) * 40000, blank=True) for i in range(40)]
    sent = 0
    link.pump.link_ready()
    while sent < len(frames):
        try:
            theirs.send(GSO_TCP4 + frames[sent])
            sent += 1
        except BlockingIOError:
            await passes(1)
    await passes()
    assert [frame for burst in client.received for _, frame in burst] == frames
    link.close()


async def test_a_client_without_room_is_not_read_for_until_it_is_ready(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    client = Told()
    client.space = 0
    link = tap_link(ours.fileno())
    link.attach(client)
    for i in range(5):
        theirs.send(PLAIN + plain(60 + i))
    await passes()
    assert client.received == []
    assert not link.pump.reading
    client.space = 2 + MOST_PAGES  # two small frames, for the next could be the largest
    link.client_ready()
    await passes(6)
    assert [len(burst) for burst in client.received] == [2, 2, 1], "never more than there is room for"
    link.close()


async def test_a_client_that_is_behind_is_left_alone_until_it_has_nearly_caught_up(
    wire: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = wire
    client = Told()
    link = tap_link(ours.fileno())
    link.attach(client)
    client.behind = BACKLOG + 1
    theirs.send(PLAIN + plain(60))
    await passes()
    client.behind = GO_ON
    link.client_ready()
    await passes()
    assert client.received == [], "the kernel keeps them"
    client.behind = GO_ON - 1
    link.client_ready()
    await passes()
    assert client.received == [[(0, plain(60))]]
    client.behind = BACKLOG
    theirs.send(PLAIN + plain(61))
    await passes()
    assert len(client.received) == 2
    link.close()


async def test_a_tap_says_how_its_frames_came_queue_by_queue(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    client = Told()
    link = tap_link(ours.fileno())
    link.attach(client)
    client.space = 1000
    for _ in range(BURST + 11):
        theirs.send(PLAIN + plain(60))
    link.pump.on_readable()
    await passes()
    theirs.send(PLAIN + plain(60))
    await passes()
    link.tx(chain_of(plain(60), plain(61)))
    [rx], [tx] = link.lanes().values()
    assert rx == {
        "id": "hw", "index": 0, "ipkts": BURST + 12, "rbytes": 60 * (BURST + 12), "intrs": BURST + 1, "polls": 11,
        "sdrops": 0, "ch10": 0, "ch10_50": 1, "ch50": 0,
    }  # fmt: skip
    assert (tx["id"], tx["index"], tx["opkts"], tx["obytes"]) == ("hw", 0, 2, 121)
    link.close()


async def test_without_a_client_the_kernel_keeps_the_frames(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    client = Told()
    link = tap_link(ours.fileno())
    link.client_ready()
    theirs.send(PLAIN + plain(60))
    await passes()
    link.attach(client)
    await passes()
    link.attach(None)
    theirs.send(PLAIN + plain(61))
    await passes()
    assert client.received == [[(0, plain(60))]]
    assert not link.pump.reading
    link.close()
