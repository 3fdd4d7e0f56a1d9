"""Both ends of a ring as this xnet runs them do what the rules do, whatever is in the page; and let go of it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.ring import MASK32, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD
from xnet.ring import RingError, back, front, ring

PAIRS = {"front": (ring.FrontRing, front.FrontRing), "back": (ring.BackRing, back.BackRing)}
SIDES = pytest.mark.parametrize("side", PAIRS)
EITHER = pytest.mark.parametrize("made", [kind for pair in PAIRS.values() for kind in dict.fromkeys(pair)])
STATE = {
    "front": ("req_prod_pvt", "req_prod", "rsp_cons", "nr_ents", "slot_size"),
    "back": ("rsp_prod_pvt", "rsp_prod", "req_cons", "nr_ents", "slot_size"),
}
SLOT_SIZES = [1, 8, 12, 16, 112, 2016, 2017, 4032]
counts = st.one_of(st.integers(-1, 5), st.integers(0, 300))
indices = st.one_of(st.integers(0, MASK32), st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, MASK32 - 3, MASK32]))
slots = st.tuples(st.integers(0, 260), st.sampled_from([0, 0, 0, 0, 1]), st.integers(0, 255))
nothing = st.none()
ORDERS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "front": {
        "init": nothing,
        "free_requests": nothing,
        "add_requests": slots,
        "unpushed": nothing,
        "push_requests": nothing,
        "unconsumed_responses": nothing,
        "final_check_responses": nothing,
        "take_responses": counts,
        "next_responses": nothing,
    },
    "back": {
        "unconsumed_requests": nothing,
        "final_check_requests": nothing,
        "want_requests": st.one_of(counts, indices),
        "peek_requests": counts,
        "next_requests": nothing,
        "consume": counts,
        "add_responses": slots,
        "push_responses": st.one_of(st.just(()), slots),
    },
}
Order = tuple[str, Any]


@st.composite
def orders(draw: Any, side: str) -> list[Order]:
    """Calls of an end's methods, and in between what the other end, or anybody, writes over the indices.

    A distance from where this end stands is what a driver writes, right or wrong.
    """
    name = st.sampled_from([*ORDERS[side], "near", "poke"])
    found: list[Order] = []
    for order in draw(st.lists(name, max_size=25)):
        if order == "near":
            argument = draw(st.tuples(st.sampled_from([REQ_PROD, RSP_PROD]), st.integers(-2, 260)))
        elif order == "poke":
            argument = draw(st.tuples(st.integers(0, 3), indices))
        else:
            argument = draw(ORDERS[side][order])
        found.append((order, argument))
    return found


def outcome(end: Any, side: str, order: Order) -> object:
    """What comes of an order: its value, or the error."""
    name, argument = order
    try:
        if name in ("near", "poke"):
            at, value = argument
            base = getattr(end, STATE[side][2]) if name == "near" else 0
            end.indices[at] = (base + value) & MASK32
            return None
        call = getattr(end, name)
        if isinstance(argument, tuple):
            data = [bytes([argument[2]]) * (argument[0] * end.slot_size + argument[1])] if argument else []
            return call(*data)
        return call() if argument is None else call(argument)
    except RingError as error:
        return str(error), error.what, error.value
    except ValueError:
        return ValueError


@SIDES
@given(data=st.data(), start=indices, slot_size=st.sampled_from(SLOT_SIZES))
def test_an_end_does_what_the_rules_say(side: str, data: st.DataObject, start: int, slot_size: int) -> None:
    pages = [memoryview(bytearray(range(256)) * 16) for _ in range(2)]
    one, two = (kind(page, slot_size, attach=start) for kind, page in zip(PAIRS[side], pages, strict=True))
    for end in (one, two):
        end.indices[REQ_PROD] = end.indices[RSP_PROD] = start
    for order in data.draw(orders(side)):
        assert outcome(one, side, order) == outcome(two, side, order), order
        assert [getattr(one, name) for name in STATE[side]] == [getattr(two, name) for name in STATE[side]]
        assert pages[0] == pages[1], order


@given(slot_size=st.sampled_from(SLOT_SIZES), start=indices, distance=st.one_of(st.integers(-3, 300), indices))
def test_a_back_attaches_where_the_rules_say(slot_size: int, start: int, distance: int) -> None:
    found: list[object] = []
    for kind in PAIRS["back"]:
        page = memoryview(bytearray(PAGE_SIZE))
        words = page[:16].cast("I")
        words[RSP_PROD], words[REQ_PROD] = start, (start + distance) & MASK32
        try:
            end = kind.attach_at_rsp_prod(page, slot_size)
            found.append([end.unconsumed_requests(), *[getattr(end, name) for name in STATE["back"]]])
        except RingError as error:
            found.append(str(error))
    assert found[0] == found[1]


@SIDES
@pytest.mark.parametrize("slot_size", [*SLOT_SIZES, 7, 64, 65])
def test_as_many_slots_as_the_rules_say_are_read_from_where_they_say(side: str, slot_size: int) -> None:
    page = memoryview(bytearray(range(251)) * 16 + bytes(80))
    one, two = (kind(page, slot_size) for kind in PAIRS[side])
    for index in (0, 1, two.nr_ents - 1, 0x7FFFFFFF, MASK32):
        for count in {0, 1, two.nr_ents // 2, two.nr_ents}:
            assert one.read(index, count) == two.read(index, count)


@EITHER
@pytest.mark.parametrize("slot_size", [-1, 0, 4033, 2**40])
def test_slots_that_are_none_are_refused(made: Any, slot_size: int) -> None:
    with pytest.raises(ValueError, match="slots of"):
        made(memoryview(bytearray(PAGE_SIZE)), slot_size)


@EITHER
@pytest.mark.parametrize("size", [0, 64, 4095, 4097])
def test_a_page_that_is_none_is_refused(made: Any, size: int) -> None:
    with pytest.raises(ValueError, match="ring: "):
        made(memoryview(bytearray(size)), 12)


@EITHER
def test_a_page_that_cannot_be_written_is_not_written(made: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        made(memoryview(bytes(PAGE_SIZE)), 12).init()


@EITHER
def test_arguments_of_another_kind_are_refused(made: Any) -> None:
    page = memoryview(bytearray(PAGE_SIZE))
    for arguments in [(), (page,), (page, "12"), (None, 12), (page, 12, 0)]:
        with pytest.raises(TypeError):
            made(*arguments)
    with pytest.raises(TypeError):
        made(page, 12, attach=None)
    end = made(page, 12)
    side = "front" if hasattr(end, "rsp_cons") else "back"
    for name, argument in ORDERS[side].items():
        if argument is not nothing:
            with pytest.raises(TypeError):
                getattr(end, name)(None)
        with pytest.raises(TypeError):
            getattr(end, name)(1, 2)
    for count in (-1, end.nr_ents + 1):
        with pytest.raises(ValueError, match="slots, of"):
            end.read(0, count)
    assert bytes(page) == bytes(PAGE_SIZE)


NO_PAGE = {"free_requests", "unpushed", "consume"}
"""What looks at no page."""
FILLING = {"add_requests", "add_responses", "push_responses"}


@EITHER
def test_what_is_released_is_not_looked_at_again(made: Any) -> None:
    memory = bytearray(PAGE_SIZE)
    page = memoryview(memory)
    end = made(page, 12)
    side = "front" if hasattr(end, "rsp_cons") else "back"
    page.release()
    end.release()
    end.release()
    memory.append(0)  # BufferError if anything were left of it
    for name, argument in ORDERS[side].items():
        if name not in NO_PAGE:
            arguments = [] if argument is nothing else [b"" if name in FILLING else 0]
            with pytest.raises(ValueError, match="released"):
                getattr(end, name)(*arguments)
    with pytest.raises(ValueError, match="released"):
        end.indices[REQ_EVENT] = 1
    with pytest.raises(ValueError, match="released"):
        end.read(0, 0)


@EITHER
def test_a_barrier_may_release_the_ring_or_fail(made: Any) -> None:
    for barrier in ("release", "fail"):
        end = made(memoryview(bytearray(PAGE_SIZE)), 12)
        push, final_check = (
            (end.push_requests, end.final_check_responses)
            if hasattr(end, "rsp_cons")
            else (end.push_responses, end.final_check_requests)
        )
        end.barrier = end.release if barrier == "release" else lambda: 1 // 0
        assert end.barrier is not None
        for call in (final_check, push):
            with pytest.raises(ValueError if barrier == "release" else ZeroDivisionError):
                call()


@EITHER
def test_a_ring_that_its_own_barrier_holds_is_collected(made: Any) -> None:
    memory = bytearray(PAGE_SIZE)

    def forget() -> None:
        end = made(memoryview(memory), 12)
        end.barrier = lambda: end.init()

    forget()
    gc.collect()
    memory.append(0)  # BufferError if it were alive


@EITHER
def test_a_ring_keeps_its_page(made: Any) -> None:
    end = made(memoryview(bytearray(PAGE_SIZE)), 12)
    gc.collect()
    end.init()
    assert [*end.indices] == [0, 1, 0, 1]
    assert end.indices[RSP_EVENT] == 1
