"""Our ring ends against Xen's own macros in a C process, in lockstep through one memfd.

Four rings get the same orders, one for each way to pair the ends: ours with ours, ours with Xen's, Xen's with ours,
Xen's with Xen's. After every order all four have answered alike, and their pages are equal in all 4096 bytes.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring import BackRing, FrontRing, RingError

pytestmark = pytest.mark.integration

STARTS = [0, 0x7FFFFFF0, 0xFFFFFFF0, 0xFFFFFFFF]
KINDS = ["tx", "rx"]
SLOT_SIZE = {"tx": 12, "rx": 8}
LAYOUT = {("tx", "front"): TX_REQUEST, ("tx", "back"): TX_RESPONSE}
LAYOUT |= {("rx", "front"): RX_REQUEST, ("rx", "back"): RX_RESPONSE}
PAIRS = 4
NR_ENTS = 256

Fields = tuple[int, ...]


class Peer:
    """The C process, the memory shared with it, and its command line."""

    def __init__(self, program: Path) -> None:
        self.fd = os.memfd_create("rings")
        os.ftruncate(self.fd, PAIRS * PAGE_SIZE)
        self.memory = memoryview(mmap.mmap(self.fd, PAIRS * PAGE_SIZE))
        argv = [str(program), str(self.fd), str(PAIRS * PAGE_SIZE)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, bufsize=1, pass_fds=[self.fd])

    def ask(self, *words: object) -> Fields:
        """One order and the numbers of its answer; an order that makes no sense is the test's mistake."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        answer = self.process.stdout.readline()
        assert answer.strip(), f"ringpeer died of {words}"
        assert not answer.startswith("error"), (words, answer)
        return () if answer == "ok\n" else tuple(map(int, answer.split()))

    def page(self, number: int) -> memoryview:
        return self.memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]

    def close(self) -> None:
        self.process.communicate(timeout=5)
        os.close(self.fd)
        assert self.process.returncode == 0


@pytest.fixture(scope="module")
def peer(oracle: Callable[[str], Path]) -> Iterator[Peer]:
    process = Peer(oracle("ringpeer"))
    yield process
    process.close()


class End(Protocol):
    """One end of a ring, whoever plays it. A slot is its fields, six of them for an extra_info."""

    def put(self, slots: list[Fields]) -> None: ...
    def push(self) -> int: ...
    def pending(self) -> int: ...
    def get(self, count: int) -> list[Fields]: ...
    def final(self) -> int: ...


class XensEnd:
    """ring.h's macros, in the C process."""

    def __init__(self, peer: Peer, number: int, side: str, kind: str, page: int, start: int) -> None:
        self.peer, self.number = peer, number
        self.verb = "request" if side == "front" else "response"
        peer.ask(number, side, kind, page * PAGE_SIZE, start)

    def put(self, slots: list[Fields]) -> None:
        for fields in slots:
            # an rx request's middle field is padding, which the macros' user leaves zero
            given = (fields[0], fields[2]) if len(fields) == 3 else fields
            self.peer.ask(self.number, "extra" if len(fields) == 6 else self.verb, *given)

    def push(self) -> int:
        return self.peer.ask(self.number, "push")[0]

    def pending(self) -> int:
        return self.peer.ask(self.number, "pending")[0]

    def get(self, count: int) -> list[Fields]:
        slots = [self.peer.ask(self.number, "get") for _ in range(count)]
        return [(fields[0], 0, fields[1]) if self.is_rx_request(fields) else fields for fields in slots]

    def is_rx_request(self, fields: Fields) -> bool:
        return self.verb == "response" and len(fields) == 2

    def final(self) -> int:
        return self.peer.ask(self.number, "final")[0]


def packed(slots: list[Fields], kind: str, side: str) -> bytes:
    layouts = [EXTRA_GSO if len(fields) == 6 else LAYOUT[kind, side] for fields in slots]
    return b"".join(
        layout.pack(*fields).ljust(SLOT_SIZE[kind], b"\0") for layout, fields in zip(layouts, slots, strict=True)
    )


def unpacked(data: bytes, kind: str, side: str) -> list[Fields]:
    return [LAYOUT[kind, side].unpack_from(data, at) for at in range(0, len(data), SLOT_SIZE[kind])]


class OurFront:
    def __init__(self, page: memoryview, kind: str, start: int) -> None:
        self.kind = kind
        self.ring = FrontRing(page, SLOT_SIZE[kind], attach=start)

    def put(self, slots: list[Fields]) -> None:
        self.ring.add_requests(packed(slots, self.kind, "front"))

    def push(self) -> int:
        return int(self.ring.push_requests())

    def pending(self) -> int:
        return self.ring.unconsumed_responses()

    def get(self, count: int) -> list[Fields]:
        return unpacked(self.ring.take_responses(count), self.kind, "back")

    def final(self) -> int:
        return int(self.ring.final_check_responses() > 0)


class OurBack:
    def __init__(self, page: memoryview, kind: str, start: int) -> None:
        self.kind = kind
        self.ring = BackRing(page, SLOT_SIZE[kind], attach=start)

    def put(self, slots: list[Fields]) -> None:
        self.ring.add_responses(packed(slots, self.kind, "back"))

    def push(self) -> int:
        return int(self.ring.push_responses())

    def pending(self) -> int:
        return self.ring.unconsumed_requests()

    def get(self, count: int) -> list[Fields]:
        data = self.ring.peek_requests(count)
        self.ring.consume(count)
        return unpacked(data, self.kind, "front")

    def final(self) -> int:
        return int(self.ring.final_check_requests() > 0)


class Four:
    """The four pairs. An order goes to one side of each; they must agree in answer and page."""

    def __init__(self, peer: Peer, kind: str, start: int) -> None:
        self.pages = [peer.page(number) for number in range(PAIRS)]
        self.ends: dict[str, list[End]] = {"front": [], "back": []}
        for number, page in enumerate(self.pages):
            start_page(page, start)
            front: End = XensEnd(peer, 2 * number, "front", kind, number, start)
            back: End = XensEnd(peer, 2 * number + 1, "back", kind, number, start)
            self.ends["front"].append(OurFront(page, kind, start) if number & 1 else front)
            self.ends["back"].append(OurBack(page, kind, start) if number & 2 else back)

    def ask(self, side: str, verb: str, *args: Any) -> Any:
        answers = [getattr(end, verb)(*args) for end in self.ends[side]]
        assert all(answer == answers[0] for answer in answers), (side, verb, args, answers)
        first, *others = map(bytes, self.pages)
        assert all(page == first for page in others), (side, verb, args)
        return answers[0]


def start_page(page: memoryview, start: int) -> None:
    """A ring that has run for `start` slots: SHARED_RING_INIT's page, moved on."""
    page[:] = bytes(PAGE_SIZE)
    indices = page[:16].cast("I")
    indices[REQ_PROD] = indices[RSP_PROD] = start
    indices[REQ_EVENT] = indices[RSP_EVENT] = (start + 1) & MASK32


def any_slot(random: Random, kind: str, side: str) -> Fields:
    u16, status = random.getrandbits(16), random.randint(-0x8000, 0x7FFF)
    if (kind, side) in [("tx", "front"), ("rx", "back")] and random.random() < 0.2:
        return (random.getrandbits(8), random.getrandbits(8), u16, random.getrandbits(8), 0, random.getrandbits(16))
    by_layout: dict[tuple[str, str], Fields] = {
        ("tx", "front"): (random.getrandbits(32), u16, u16 ^ 5, random.getrandbits(16), u16 ^ 9),
        ("tx", "back"): (u16, status),
        ("rx", "front"): (u16, 0, random.getrandbits(32)),
        ("rx", "back"): (u16, u16 ^ 3, u16 ^ 7, status),
    }
    return by_layout[kind, side]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_either_end_of_either_ring_may_be_xens(peer: Peer, kind: str, start: int) -> None:
    random = Random(start)
    four = Four(peer, kind, start)
    free, owed = NR_ENTS, 0  # request slots the front may fill, responses the back must still write
    notified, kept = 0, 0
    for _ in range(500):
        side = random.choice(["front", "back"])
        verb = random.choice(["put", "push", "get", "final"])
        room = free if side == "front" else owed
        burst = min(room, random.choice([1, 2, 19, NR_ENTS]))
        if verb == "put":
            four.ask(side, "put", [any_slot(random, kind, side) for _ in range(burst)])
            free, owed = (free - burst, owed) if side == "front" else (free, owed - burst)
        elif verb == "push":
            notify = four.ask(side, "push")
            notified, kept = notified + notify, kept + (not notify)
        elif verb == "get":
            count = min(four.ask(side, "pending"), random.choice([1, 18, NR_ENTS]))
            four.ask(side, "get", count)
            free, owed = (free + count, owed) if side == "front" else (free, owed + count)
        else:
            four.ask(side, "final")
    assert min(notified, kept) > 10, "the play never decided both ways"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_ring_goes_round_in_one_burst(peer: Peer, kind: str, start: int) -> None:
    random = Random(start)
    four = Four(peer, kind, start)
    for _ in range(3):
        requests = [any_slot(random, kind, "front") for _ in range(NR_ENTS)]
        responses = [any_slot(random, kind, "back")[:4] for _ in range(NR_ENTS)]
        four.ask("front", "put", requests)
        assert four.ask("front", "push") == 1
        assert four.ask("back", "pending") == NR_ENTS
        assert len(four.ask("back", "get", NR_ENTS)) == NR_ENTS
        assert four.ask("back", "final") == 0
        four.ask("back", "put", responses)
        assert four.ask("back", "push") == 1
        assert len(four.ask("front", "get", NR_ENTS)) == NR_ENTS
        assert four.ask("front", "final") == 0


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_wakes_only_the_sleeper(peer: Peer, kind: str, start: int) -> None:
    """The first request after a final check notifies, the second does not, and the same for responses."""
    four = Four(peer, kind, start)
    slot = any_slot(Random(1), kind, "front")
    answer = any_slot(Random(2), kind, "back")[:4]
    for expected in (1, 0, 0):
        four.ask("front", "put", [slot])
        assert four.ask("front", "push") == expected
    assert four.ask("front", "push") == 0, "nothing new wakes nobody"
    assert four.ask("back", "final") == 1
    four.ask("back", "get", 3)
    assert four.ask("back", "final") == 0
    for expected in (1, 0, 0):
        four.ask("back", "put", [answer])
        assert four.ask("back", "push") == expected
    four.ask("front", "get", 2)
    assert four.ask("front", "final") == 1
    four.ask("front", "get", 1)
    assert four.ask("front", "final") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_ring_is_initialised_alike_whatever_the_page_held(peer: Peer, kind: str) -> None:
    pages = [peer.page(number) for number in range(2)]
    for page in pages:
        page[:] = b"\xa5" * PAGE_SIZE
    XensEnd(peer, 0, "front", kind, 0, 0)
    peer.ask(0, "init")
    FrontRing(pages[1], SLOT_SIZE[kind]).init()
    assert bytes(pages[0]) == bytes(pages[1])


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("distance", [0, 1, NR_ENTS, NR_ENTS + 1, 0x7FFFFFFF, 0x80000000, MASK32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_producer_that_xen_calls_impossible_is_an_error(peer: Peer, kind: str, distance: int, start: int) -> None:
    page = peer.page(0)
    start_page(page, start)
    XensEnd(peer, 0, "back", kind, 0, start)
    XensEnd(peer, 1, "front", kind, 0, start)
    front, back = OurFront(page, kind, start), OurBack(page, kind, start)
    page[:16].cast("I")[REQ_PROD] = page[:16].cast("I")[RSP_PROD] = (start + distance) & MASK32
    possible = distance <= NR_ENTS
    assert [peer.ask(0, "sane"), peer.ask(1, "sane")] == [(possible,), (possible,)]
    if possible:
        assert back.pending() == peer.ask(0, "pending")[0] == distance
    else:
        with pytest.raises(RingError):
            back.pending()
    if distance:  # we are stricter than the macro: nothing was asked for, so nothing can be answered
        with pytest.raises(RingError):
            front.pending()
