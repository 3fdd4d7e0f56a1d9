"""Both ends of one ring, each doing what it likes and sleeping when it may: nothing is lost, doubled or forgotten.

The model is what the ring is for: a queue of requests that are each in one hand at a time (the front's, the ring's,
the back's, the ring's again), and two sleepers who must be woken when there is something for them.

The ends are those that this xnet runs, and in the model also those that say the rules, each with each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import product
from random import Random
from struct import Struct

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring import BackRing, FrontRing, RingError, back, front

STARTS = [0, 0x7FFFFFF0, 0xFFFFFFF0]
SLOT_SIZE, ENTRIES = 12, 256
SLOT = Struct("<III")  # marker (request or response), serial number, its complement
REQUEST, RESPONSE = 0x11111111, 0x22222222


def new_ring(
    start: int, front_type: type[FrontRing] = FrontRing, back_type: type[BackRing] = BackRing
) -> tuple[FrontRing, BackRing, memoryview]:
    """Both ends over one page whose indices all begin at `start`."""
    page = memoryview(bytearray(b"\xa5" * 4096))
    front = front_type(page, SLOT_SIZE, attach=start)
    front.init()
    for index in (REQ_PROD, RSP_PROD):
        front.indices[index] = start
    for index in (REQ_EVENT, RSP_EVENT):
        front.indices[index] = (start + 1) & MASK32
    return front, back_type(page, SLOT_SIZE, attach=start), page


def written(marker: int, serials: list[int]) -> bytes:
    return b"".join(SLOT.pack(marker, serial, ~serial & MASK32) for serial in serials)


class Ring(RuleBasedStateMachine):
    """Front and back take turns; `awake` says who is running, the others sleep until they are woken."""

    ends: tuple[type[FrontRing], type[BackRing]] = (FrontRing, BackRing)

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: int) -> None:
        self.front, self.back, self.page = new_ring(start, *self.ends)
        self.serial = 0
        self.unpushed: list[int] = []
        self.published: deque[int] = deque()
        self.taken: list[int] = []
        self.answered_unpushed: list[int] = []
        self.answered: deque[int] = deque()
        self.front_awake = self.back_awake = True

    @precondition(lambda self: self.front_awake)
    @rule(count=st.one_of(st.integers(1, 5), st.integers(1, ENTRIES)))
    def add_requests(self, count: int) -> None:
        count = min(count, self.front.free_requests())
        serials = [*range(self.serial, self.serial + count)]
        self.serial += count
        self.front.add_requests(written(REQUEST, serials))
        self.unpushed += serials

    @precondition(lambda self: self.front_awake)
    @rule()
    def push_requests(self) -> None:
        woken = self.front.push_requests()
        self.published += self.unpushed
        self.unpushed.clear()
        self.back_awake |= woken

    @precondition(lambda self: self.back_awake)
    @rule(count=st.one_of(st.integers(1, 5), st.integers(1, ENTRIES)))
    def consume(self, count: int) -> None:
        available = self.back.unconsumed_requests()
        assert available == len(self.published)
        data = self.back.peek_requests(count)
        count = min(count, available)
        self.back.consume(count)
        serials = [self.published.popleft() for _ in range(count)]
        assert data == written(REQUEST, serials)
        self.taken += serials

    @precondition(lambda self: self.back_awake and self.taken)
    @rule(count=st.one_of(st.integers(1, 5), st.integers(1, ENTRIES)), order=st.randoms(use_true_random=False))
    def add_responses(self, count: int, order: Random) -> None:
        """A back may answer in any order; what it has answered it must not touch again."""
        order.shuffle(self.taken)
        serials, self.taken = self.taken[:count], self.taken[count:]
        self.back.add_responses(written(RESPONSE, serials))
        self.answered_unpushed += serials

    @precondition(lambda self: self.back_awake)
    @rule()
    def push_responses(self) -> None:
        woken = self.back.push_responses()
        self.answered += self.answered_unpushed
        self.answered_unpushed.clear()
        self.front_awake |= woken

    @precondition(lambda self: self.front_awake)
    @rule(count=st.one_of(st.integers(1, 5), st.integers(1, ENTRIES)))
    def take_responses(self, count: int) -> None:
        available = self.front.unconsumed_responses()
        assert available == len(self.answered)
        count = min(count, available)
        data = self.front.take_responses(count)
        assert data == written(RESPONSE, [self.answered.popleft() for _ in range(count)])

    @precondition(lambda self: self.back_awake)
    @rule()
    def consume_all_or_sleep(self) -> None:
        data = self.back.next_requests()
        assert data == written(REQUEST, [*self.published])
        self.back.consume(len(self.published))
        self.back_awake = bool(data)
        self.taken += self.published
        self.published.clear()

    @precondition(lambda self: self.back_awake)
    @rule()
    def answer_all(self) -> None:
        woken = self.back.push_responses(written(RESPONSE, self.taken))
        self.answered += self.answered_unpushed + self.taken
        self.answered_unpushed.clear()
        self.taken.clear()
        self.front_awake |= woken

    @precondition(lambda self: self.front_awake)
    @rule()
    def take_all_or_sleep(self) -> None:
        data = self.front.next_responses()
        assert data == written(RESPONSE, [*self.answered])
        self.front_awake = bool(data)
        self.answered.clear()

    @precondition(lambda self: self.front_awake)
    @rule()
    def front_sleeps(self) -> None:
        self.front_awake = self.front.final_check_responses() > 0
        assert self.front_awake == bool(self.answered), "it sleeps exactly when there is nothing for it"

    @precondition(lambda self: self.back_awake)
    @rule()
    def back_sleeps(self) -> None:
        self.back_awake = self.back.final_check_requests() > 0
        assert self.back_awake == bool(self.published)

    @precondition(lambda self: self.back_awake and not self.published)
    @rule(count=st.integers(1, 20))
    def back_sleeps_until_there_are_many(self, count: int) -> None:
        self.back.want_requests(count)
        self.back_awake = False

    @rule()
    def a_spurious_event(self) -> None:
        self.front_awake = self.back_awake = True

    @invariant()
    def every_request_is_in_one_hand(self) -> None:
        hands = [self.unpushed, self.published, self.taken, self.answered_unpushed, self.answered]
        out = [serial for hand in hands for serial in hand]
        assert len(out) == len(set(out))
        assert len(out) == ENTRIES - self.front.free_requests()
        assert len(out) <= ENTRIES

    @invariant()
    def the_indices_stand_in_order(self) -> None:
        base = self.front.rsp_cons
        marks = [
            base,
            self.front.indices[RSP_PROD],
            self.back.rsp_prod_pvt,
            self.back.req_cons,
            self.front.indices[REQ_PROD],
            self.front.req_prod_pvt,
        ]
        distances = [(mark - base) & MASK32 for mark in marks]
        assert distances == sorted(distances)
        assert distances[-1] <= ENTRIES

    @invariant()
    def nobody_sleeps_over_news(self) -> None:
        """The front sleeps only with nothing to take; the back too, unless it asked for more than there is."""
        if not self.front_awake:
            assert not self.answered
        if not self.back_awake and self.published:
            short = (self.front.indices[REQ_EVENT] - self.front.indices[REQ_PROD]) & MASK32
            assert 0 < short < ENTRIES, "woken too late"

    @invariant()
    def what_is_between_header_and_slots_is_untouched(self) -> None:
        assert bytes(self.page[64 + ENTRIES * SLOT_SIZE :]) == b"\xa5" * (4096 - 64 - ENTRIES * SLOT_SIZE)


FRONTS = {kind.__module__: kind for kind in (FrontRing, front.FrontRing)}
BACKS = {kind.__module__: kind for kind in (BackRing, back.BackRing)}


@pytest.mark.parametrize("ends", [*product(FRONTS, BACKS)], ids="-".join)
def test_nothing_is_lost_doubled_or_forgotten(ends: tuple[str, str]) -> None:
    class These(Ring):
        """Two ends, each in C or in Python."""

    These.ends = FRONTS[ends[0]], BACKS[ends[1]]
    run_state_machine_as_test(
        These,
        settings=settings(
            max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.mark.parametrize("start", STARTS)
def test_many_ringfuls_pass_the_wrap(start: int) -> None:
    front, back, _ = new_ring(start)
    serial = notified = 0
    for burst in [1, 255, 256, 7, 100, 256, 64, 3] * 8:
        serials = [*range(serial, serial + burst)]
        serial += burst
        front.add_requests(written(REQUEST, serials))
        notified += front.push_requests()
        assert back.peek_requests(back.unconsumed_requests()) == written(REQUEST, serials)
        back.consume(burst)
        assert not back.final_check_requests()
        back.add_responses(written(RESPONSE, serials))
        assert back.push_responses()
        assert front.take_responses(front.unconsumed_responses()) == written(RESPONSE, serials)
        assert not front.final_check_responses()
    assert notified == 64, "each burst found the back asleep"
    assert front.rsp_cons == (start + serial) & MASK32


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("event", [-1, 0, 1, 2, 3, 4, 5])
def test_an_event_is_sent_when_the_producer_passes_the_mark(start: int, event: int) -> None:
    """Three requests are pushed: marks 1, 2 and 3 past the old producer are passed, the others not."""
    front, _, _ = new_ring(start)
    front.indices[REQ_EVENT] = (start + event) & MASK32
    front.add_requests(written(REQUEST, [0, 1, 2]))
    assert front.push_requests() == (event in (1, 2, 3))
    assert front.push_requests() is False, "nothing new notifies nobody"


Spoil = Callable[[FrontRing, BackRing], int]
IMPOSSIBLE: dict[str, Spoil] = {
    "a request producer past the ring": lambda front, back: spoil_requests(front, back, ENTRIES + 1),
    "a request producer far away": lambda front, back: spoil_requests(front, back, 0x80000000),
    "a request producer that went back": lambda front, back: spoil_requests(front, back, MASK32),
}


def spoil_requests(front: FrontRing, back: BackRing, distance: int) -> int:
    front.indices[REQ_PROD] = (back.rsp_prod_pvt + distance) & MASK32
    return back.unconsumed_requests()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_request_producer_is_refused(start: int, name: str) -> None:
    front, back, _ = new_ring(start)
    with pytest.raises(RingError):
        IMPOSSIBLE[name](front, back)
    with pytest.raises(RingError):
        back.final_check_requests()


@pytest.mark.parametrize("start", STARTS)
def test_a_producer_behind_what_was_taken_is_refused(start: int) -> None:
    front, back, _ = new_ring(start)
    front.add_requests(written(REQUEST, [0, 1, 2]))
    front.push_requests()
    back.consume(3)
    front.indices[REQ_PROD] = (start + 2) & MASK32
    with pytest.raises(RingError):
        back.unconsumed_requests()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("distance", [4, ENTRIES, ENTRIES + 1, 0x80000000, MASK32])
def test_responses_that_nobody_asked_for_are_refused(start: int, distance: int) -> None:
    front, _, _ = new_ring(start)
    front.add_requests(written(REQUEST, [0, 1, 2]))
    front.push_requests()
    front.indices[RSP_PROD] = (start + distance) & MASK32
    with pytest.raises(RingError):
        front.unconsumed_responses()


@pytest.mark.parametrize("start", STARTS)
def test_a_back_goes_on_where_the_responses_end(start: int) -> None:
    front, old, page = new_ring(start)
    front.add_requests(written(REQUEST, [*range(10)]))
    front.push_requests()
    old.consume(4)
    old.add_responses(written(RESPONSE, [0, 1, 2]))
    old.push_responses()
    new = BackRing.attach_at_rsp_prod(page, SLOT_SIZE)
    assert new.unconsumed_requests() == 7, "what was taken and not answered is there again"
    assert new.peek_requests(7) == written(REQUEST, [*range(3, 10)])
    front.indices[REQ_PROD] = (start + 3 + ENTRIES + 1) & MASK32
    with pytest.raises(RingError):
        BackRing.attach_at_rsp_prod(page, SLOT_SIZE)


@pytest.mark.parametrize("start", STARTS)
def test_what_comes_between_the_wish_and_the_last_look_is_found(start: int) -> None:
    """The barrier stands between them; what is published right there the look must see, or it waits for ever."""
    front, back, _ = new_ring(start)
    wishes: list[tuple[int, int]] = []

    def ask_meanwhile() -> None:
        wishes.append((REQ_EVENT, front.indices[REQ_EVENT]))
        front.add_requests(written(REQUEST, [0]))
        front.push_requests()

    def answer_meanwhile() -> None:
        wishes.append((RSP_EVENT, front.indices[RSP_EVENT]))
        back.add_responses(written(RESPONSE, [0]))
        back.push_responses()

    front.indices[REQ_EVENT] = front.indices[RSP_EVENT] = start
    back.barrier = ask_meanwhile
    assert back.final_check_requests() == 1
    back.consume(1)
    back.barrier, front.barrier = None, answer_meanwhile
    assert front.final_check_responses() == 1
    assert wishes == [(REQ_EVENT, (start + 1) & MASK32), (RSP_EVENT, (start + 1) & MASK32)]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rubbish", [0, 1, 0x80000000, MASK32])
def test_who_is_woken_is_decided_by_what_we_published_and_not_by_what_the_other_wrote_there(
    start: int, rubbish: int
) -> None:
    front, back, _ = new_ring(start)
    for end, prod in ((front, REQ_PROD), (back, RSP_PROD)):
        end.indices[prod] = (start + rubbish) & MASK32
    assert not front.unpushed()
    front.add_requests(written(REQUEST, [0]))
    assert front.unpushed()
    assert front.push_requests()
    back.consume(1)
    back.add_responses(written(RESPONSE, [0]))
    assert back.push_responses()
    assert (front.indices[REQ_PROD], front.indices[RSP_PROD]) == ((start + 1) & MASK32,) * 2
