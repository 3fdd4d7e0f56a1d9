"""Scatter: whole frames to rx slots and the copies that fill them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xnet.abi.xen.netif import RX_REQUEST, RX_SLOT_SIZE
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, Frame, Frames, own
from xnet.hv.api import COPY_RUN, CopyOp
from xnet.netif.posted import slots_of
from xnet.netif.scatter import answer, copies
from xnet.netif.slots import Scatter

DOMID = 5
TO = GNTCOPY_dest_gref
NAMES = ("src", "src_domid", "src_offset", "dst", "dst_domid", "dst_offset", "length", "flags")


def requests_of(grefs: list[int], first: int = 0) -> bytes:
    return b"".join([RX_REQUEST.pack(first + i & 0xFFFF, 0, gref) for i, gref in enumerate(grefs)])


def fields(ops: list[CopyOp]) -> list[tuple[int, ...]]:
    return [tuple(getattr(op, name) for name in NAMES) for op in ops]


def burst(frames: list[Frame], requests: bytes) -> tuple[bytes, int, int, int, list[tuple[int, ...]]]:
    ops: list[CopyOp] = []
    answers, slots, done, size = Scatter(DOMID).burst(Frames(frames), requests, ops)
    return answers, slots, done, size, fields(ops)


def test_a_small_frame_is_a_slot_and_a_copy() -> None:
    answers, slots, done, size, ops = burst([own(CSUM_BLANK, 3 * PAGE_SIZE, 66)], requests_of([40], first=7))
    assert (slots, done, size) == (1, 1, 66)
    assert answers == bytes.fromhex("0700 0000 0300 4200")
    assert ops == [(3, DOMID_SELF, 0, 40, DOMID, 0, 66, TO)]


def test_a_gso_frame_has_its_extra_in_the_second_slot_whose_buffer_goes_back() -> None:
    word = CSUM_BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
    frame = own(word, 8 * PAGE_SIZE, 2 * PAGE_SIZE + 10)
    answers, slots, _, _, ops = burst([frame], requests_of([20, 21, 22, 23], first=3))
    assert slots == 4
    slot = "0300 0000 0f00 0010"
    extra = "0100 a805 0100 0000"
    assert answers == bytes.fromhex(slot + extra + "0500 0000 0400 0010" + "0600 0000 0000 0a00")
    assert ops == [
        (8, DOMID_SELF, 0, 20, DOMID, 0, PAGE_SIZE, TO),
        (9, DOMID_SELF, 0, 22, DOMID, 0, PAGE_SIZE + 10, TO | COPY_RUN),
    ]


def test_what_was_left_in_another_guest_is_copied_from_there() -> None:
    pieces = ((PAGE_SIZE, PAGE_SIZE, DOMID_SELF, 0), (2 * PAGE_SIZE, 2 * PAGE_SIZE + 1, 9, 101))
    frame = (0, 3 * PAGE_SIZE + 1, pieces)
    _, _, _, _, ops = burst([frame], requests_of([20, 21, 22, 23]))
    assert ops == [
        (1, DOMID_SELF, 0, 20, DOMID, 0, PAGE_SIZE, TO),
        (101, 9, 0, 21, DOMID, 0, 2 * PAGE_SIZE + 1, TO | GNTCOPY_source_gref | COPY_RUN),
    ]


def test_as_many_frames_as_there_are_slots_for_the_last_one_copied_first() -> None:
    frames = [own(0, i * 2 * PAGE_SIZE, PAGE_SIZE + 1) for i in range(3)]
    answers, slots, done, size, ops = burst(frames, requests_of([20, 21, 22, 23, 24]))
    assert (slots, done, size, len(answers)) == (4, 2, 2 * PAGE_SIZE + 2, 4 * RX_SLOT_SIZE)
    assert [op[3] for op in ops] == [22, 20]


words = st.sampled_from(
    [0, CSUM_BLANK, DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED]
    + [CSUM_BLANK | kind | mss << GSO_SIZE_SHIFT for kind in (GSO_TCPV4, GSO_TCPV6) for mss in (1, 1448, 65535)]
)


@st.composite
def frames(draw: Any) -> Frame:
    """In one run, in odd pieces of own pages, or with pages of another's, as `MapFetch` and `CopyFetch` lend them."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return own(draw(words), draw(st.integers(0, 9 * PAGE_SIZE)), draw(st.integers(1, 65535)))
    sizes = draw(st.lists(st.integers(1, PAGE_SIZE), min_size=1, max_size=16))
    pieces = []
    for i, size in enumerate(sizes):
        at = draw(st.integers(0, PAGE_SIZE - size))
        foreign = kind == 2 and draw(st.booleans())
        pieces.append(
            (i * PAGE_SIZE + at, size, 3, draw(st.integers(8, 40))) if foreign else (i * 3000, size, DOMID_SELF, 0)
        )
    return (draw(words), sum(sizes), tuple(pieces))


@given(st.lists(frames(), min_size=1, max_size=5), st.lists(st.integers(8, 30), max_size=60), st.integers(0, 70000))
def test_a_burst_is_its_frames_one_by_one(burst_of: list[Frame], grefs: list[int], first: int) -> None:
    requests = requests_of(sorted(grefs), first)
    answers, slots, done, size, ops = burst(burst_of, requests)
    at = 0
    wanted, parts = [], []
    for word, length, pieces in burst_of:
        end = at + slots_of(word, length) * RX_SLOT_SIZE
        if end > len(requests):
            break
        said, into = answer(word, length, requests[at:end])
        wanted.append(said)
        parts.append(fields(copies(DOMID, pieces, into)))
        at = end
    assert (answers, slots, done) == (b"".join(wanted), at // RX_SLOT_SIZE, len(wanted))
    assert size == sum(length for _, length, _ in burst_of[:done])
    assert ops == [op for part in reversed(parts) for op in part]
