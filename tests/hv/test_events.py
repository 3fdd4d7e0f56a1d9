"""Target and Inbox: the bits of shared_info; the same in C and in Python, whichever this xnet has."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen.event_channel import EVTCHN_MASK, EVTCHN_PENDING, EVTCHN_PENDING_SEL, EVTCHN_UPCALL_PENDING
from xnet.hv.events import COALESCED, HELD, KNOWN, NEWS, Inbox, Target

PORTS = st.integers(0, 4095)
TABLE = object()


class Page:
    """A shared_info page, and its bits as sets."""

    def __init__(self) -> None:
        self.info = memoryview(bytearray(4096))

    def bits(self, at: int, size: int = 512) -> set[int]:
        return {bit for bit in range(8 * size) if self.info[at + bit // 8] >> bit % 8 & 1}

    def set(self, at: int, bits: set[int]) -> None:
        for bit in bits:
            self.info[at + bit // 8] |= 1 << bit % 8

    def taken(self, inbox: Inbox) -> list[int]:
        found = [inbox.first()]
        while found[-1] >= 0:
            found.append(inbox.next())
        return found[:-1]


@given(sent=st.lists(PORTS), masked=st.sets(PORTS), selected=st.sets(st.integers(0, 63)))
def test_what_is_sent_is_pending_and_told_once_a_word(sent: list[int], masked: set[int], selected: set[int]) -> None:
    page = Page()
    page.set(EVTCHN_MASK, masked)
    page.set(EVTCHN_PENDING_SEL, selected)
    pending: set[int] = set()
    answers = []
    for port in sent:
        said = Target(TABLE, page.info, port).set_pending()
        if port in pending:
            assert said == COALESCED
        elif port in masked:
            assert said == HELD
        else:
            assert said == (KNOWN if port // 64 in selected else NEWS)
            selected.add(port // 64)
        pending.add(port)
        answers.append(said)
        assert page.bits(EVTCHN_PENDING_SEL, 8) == selected
    assert page.bits(EVTCHN_PENDING) == pending
    assert page.bits(EVTCHN_MASK) == masked
    assert page.info[EVTCHN_UPCALL_PENDING] == (NEWS in answers)


@given(port=PORTS)
def test_select_is_for_who_has_not_been_told(port: int) -> None:
    page = Page()
    target = Target(TABLE, page.info, port)
    assert (target.select(), target.select()) == (True, False)
    assert page.bits(EVTCHN_PENDING_SEL, 8) == {port // 64}
    assert page.info[EVTCHN_UPCALL_PENDING] == 1
    assert page.bits(EVTCHN_PENDING) == set()
    assert target.table is TABLE


@given(pending=st.sets(PORTS), masked=st.sets(PORTS), selected=st.sets(st.integers(0, 63)))
def test_a_look_takes_what_is_selected_and_not_masked_lowest_first(
    pending: set[int], masked: set[int], selected: set[int]
) -> None:
    page = Page()
    page.info[EVTCHN_UPCALL_PENDING] = 1
    page.set(EVTCHN_PENDING, pending)
    page.set(EVTCHN_MASK, masked)
    page.set(EVTCHN_PENDING_SEL, selected)
    expected = sorted(port for port in pending - masked if port // 64 in selected)
    assert page.taken(Inbox(page.info)) == expected
    assert page.bits(EVTCHN_PENDING) == pending - set(expected)
    assert page.bits(EVTCHN_PENDING_SEL, 8) == set()
    assert page.info[EVTCHN_UPCALL_PENDING] == 0


def test_what_a_handler_does_meanwhile_counts() -> None:
    page = Page()
    inbox = Inbox(page.info)
    for port in (3, 5, 7, 200):
        Target(TABLE, page.info, port).set_pending()
    assert inbox.first() == 3
    page.set(EVTCHN_MASK, {5})  # masked before its turn: left alone
    page.info[EVTCHN_PENDING] &= ~(1 << 7)  # closed before its turn
    assert Target(TABLE, page.info, 3).set_pending() == NEWS, "its bit is gone: new"
    assert Target(TABLE, page.info, 201).set_pending() == NEWS
    assert [inbox.next(), inbox.next(), inbox.next()] == [200, 201, -1]
    assert page.bits(EVTCHN_PENDING) == {3, 5}
    assert page.taken(inbox) == [3]


@pytest.mark.parametrize("port", [-1, 4096, 1 << 20])
def test_ports_that_no_bit_stands_for(port: int) -> None:
    with pytest.raises(ValueError, match="no port"):
        Target(TABLE, Page().info, port)


def test_a_target_keeps_its_table_and_lets_it_go() -> None:
    class Table:
        """A table that has targets of its own."""

        def __init__(self) -> None:
            self.target = Target(self, Page().info, 1)

    gone = weakref.ref(Table())
    gc.collect()
    assert gone() is None
