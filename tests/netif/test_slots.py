"""Bursts of slots in C say what the rules say frame by frame, or are in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.grant_table import GNTCOPY_source_gref
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RX_RESPONSE,
    RX_SLOT_SIZE,
    TX_REQUEST,
    TX_SLOT_SIZE,
    NETTXF_csum_blank,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xnet.compiled import is_compiled
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, Frames
from xnet.hv.api import COPY_RUN, CopyOp
from xnet.netif.assemble import assemble
from xnet.netif.gather import BadRing, next_packet
from xnet.netif.posted import Posted, answers_of, requests_of
from xnet.netif.repair import needs_repair
from xnet.netif.slots import Gather, answered, frames, requests

DOMID = 5
NAMES = ("src", "src_domid", "src_offset", "dst", "dst_domid", "dst_offset", "length", "flags")
WORDS = [0, DATA_VALIDATED, CSUM_BLANK | DATA_VALIDATED] + [
    CSUM_BLANK | DATA_VALIDATED | kind | mss << GSO_SIZE_SHIFT
    for kind in (GSO_TCPV4, GSO_TCPV6)
    for mss in (1, 1448, 65535)
]
words = st.sampled_from(WORDS)
lengths = st.one_of(st.sampled_from([14, 60, 4095, 4096, 4097, 8192, 65226, 65535]), st.integers(1, 65535))


# --- posted


@st.composite
def runs(draw: Any) -> list[Posted]:
    """Frames side by side, and from some on at the run's beginning again."""
    found, page = [], draw(st.integers(0, 200))
    wrap = draw(st.integers(0, 9))
    for i, (word, length) in enumerate(draw(st.lists(st.tuples(words, lengths), max_size=6))):
        page = 0 if i == wrap else page
        found.append((page, word, length))
        page += -(-length // PAGE_SIZE)
    return found


@given(runs(), st.integers(8, 2**31))
def test_requests_of_a_burst_are_those_of_its_frames(burst: list[Posted], refs: int) -> None:
    assert requests(burst, refs) == b"".join([slot for posted in burst for slot in requests_of(posted, refs)])


@given(runs(), st.data())
def test_frames_are_answered_as_far_as_their_answers_are_as_expected(burst: list[Posted], draw: st.DataObject) -> None:
    data = bytearray(b"".join(map(answers_of, burst)))
    if data and draw.draw(st.booleans()):
        data[draw.draw(st.integers(0, len(data) - 1))] ^= 1
    data = data[: draw.draw(st.integers(0, len(data) // TX_SLOT_SIZE)) * TX_SLOT_SIZE]
    before = bytes(draw.draw(st.sampled_from([0, 3])) * TX_SLOT_SIZE)
    at, done = len(before), 0
    for posted in burst:
        answers = answers_of(posted)
        if (before + data)[at : at + len(answers)] != answers or (done and not posted[0]):
            break
        done += 1
        at += len(answers)
    assert answered(burst, bytes(before + data), len(before)) == (done, at)


# --- gather


@st.composite
def packets(draw: Any) -> bytes:
    """As our frontend writes them; or something about them is different, right or wrong."""
    word, length, gref = draw(words), draw(lengths), draw(st.integers(8, 2**32 - 300))
    slots = [bytearray(slot) for slot in requests_of((draw(st.integers(0, 200)), word, length), gref)]
    if draw(st.booleans()):
        slot = draw(st.sampled_from(slots))
        at, value = draw(st.sampled_from([(0, 1), (4, 8), (6, 1), (6, 2), (6, 4), (6, 8), (8, 3), (10, 1), (11, 16)]))
        slot[at] ^= value
    if draw(st.integers(0, 4)) == 0:
        slots = slots[: draw(st.integers(1, len(slots)))]
    return b"".join(slots)


@given(st.lists(packets(), max_size=5), st.integers(0, 6), st.integers(0, 200000), st.booleans())
def test_packets_of_a_burst_are_those_that_the_rules_find(
    burst: list[bytes], most: int, room: int, heads_only: bool
) -> None:
    data, base = b"".join(burst), 64 * PAGE_SIZE
    found, ops = Frames(), list[CopyOp]()
    answers, slots, used = Gather(DOMID, heads_only).burst(data, most, room, base, found, ops)
    at = addr = 0
    wanted, copies, said = [], [], b""
    while at < slots:
        packet = next_packet(data, at)
        assert not packet.error
        [(gref, offset, size)] = packet.segments
        place = base + addr + offset
        assert addr < room
        if heads_only and size > PAGE_SIZE:
            rest = (place + PAGE_SIZE, size - PAGE_SIZE, DOMID, gref + 1)
            pieces, size = ((place, PAGE_SIZE, DOMID_SELF, 0), rest), PAGE_SIZE
        else:
            pieces = ((place, size, DOMID_SELF, 0),)
        wanted.append((packet.word, packet.length, pieces))
        flags = GNTCOPY_source_gref | (COPY_RUN if size > PAGE_SIZE else 0)
        copies.append((gref, DOMID, offset, place // PAGE_SIZE, DOMID_SELF, offset, size, flags))
        said += packet.answers
        at += len(packet.slots) // TX_SLOT_SIZE
        addr += -(-(offset + packet.length) // PAGE_SIZE) * PAGE_SIZE
    assert (at, addr, said) == (slots, used, answers)
    assert list(found) == wanted
    assert len(wanted) <= most
    assert [tuple(getattr(op, name) for name in NAMES) for op in ops] == copies[::-1]
    if is_compiled() and len(wanted) < most and addr < room and at * TX_SLOT_SIZE < len(data):
        try:
            packet = next_packet(data, at)
        except BadRing:
            return
        segments, flags = packet.segments, TX_REQUEST.unpack_from(data, at * TX_SLOT_SIZE)[2]
        doubt = packet.error or len(segments) > 1 or packet.extras > 1 or needs_repair(packet.word)
        assert doubt, f"not in doubt: {segments} {flags}"


# --- assemble


@st.composite
def responses(draw: Any) -> bytes:
    """A frame as a backend lays it out; or something about it is different, right or wrong."""
    word, sizes = draw(words), draw(st.lists(st.sampled_from([1, 60, 4000, 4096]), min_size=1, max_size=17))
    flags = {0: 0, 2: 1, 3: 3}[word & 3]
    slots = []
    for i, size in enumerate(sizes):
        offset = draw(st.sampled_from([0, 0, 0, PAGE_SIZE - size]))
        said = NETTXF_more_data if i < len(sizes) - 1 else 0
        if not i:
            said |= flags | (NETTXF_extra_info if word > 3 else 0)
        slots.append(bytearray(RX_RESPONSE.pack(draw(st.integers(0, 255)), offset, said, size)))
        if not i and word > 3:
            slots.append(bytearray(EXTRA_GSO.pack(1, 0, word >> GSO_SIZE_SHIFT, word >> 8 & 255, 0, 0)))
    if draw(st.booleans()):
        draw(st.sampled_from(slots))[draw(st.integers(0, 7))] ^= 1 << draw(st.integers(0, 7))
    if draw(st.integers(0, 4)) == 0:
        slots = slots[: draw(st.integers(1, len(slots)))]
    return b"".join(slots)


@given(st.lists(responses(), max_size=5), st.integers(0, 255))
def test_frames_of_a_burst_are_those_that_the_rules_find(burst: list[bytes], first: int) -> None:
    data, base = b"".join(burst), 64 * PAGE_SIZE
    found = frames(data, first, base)
    wanted, bad = assemble(data, first, base)
    if found is not None:
        assert (list(found), 0) == (list(wanted), bad)


def test_the_usual_is_not_in_doubt() -> None:
    pytest.importorskip("xnet.netif._slots", reason="not compiled: always in doubt")
    burst = [(page * 20, word, 65226) for page, word in enumerate(WORDS)]
    slots = requests(burst, 1000)
    assert Gather(DOMID, True).burst(slots, 64, 1 << 24, 0, Frames(), [])[1] == len(slots) // TX_SLOT_SIZE
    assert TX_REQUEST.unpack_from(slots, 2 * 16 * TX_SLOT_SIZE)[2] == NETTXF_csum_blank | 2 | NETTXF_more_data
    whole = RX_RESPONSE.pack(3, 0, 3, 4096)
    gso = RX_RESPONSE.pack(0, 0, 15, 4096) + EXTRA_GSO.pack(1, 0, 1448, 1, 0, 0) + RX_RESPONSE.pack(2, 0, 0, 10)
    found = frames(whole + gso, 255, 0)
    assert found is not None
    word = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
    assert list(found) == [
        (3, 4096, ((255 * PAGE_SIZE, 4096, DOMID_SELF, 0),)),
        (word, 4106, ((0, 4096, DOMID_SELF, 0), (2 * PAGE_SIZE, 10, DOMID_SELF, 0))),
    ]
    assert len(whole + gso) == 4 * RX_SLOT_SIZE


def test_rubbish_is_refused() -> None:
    pytest.importorskip("xnet.netif._slots", reason="not compiled: Python says what it says")
    bad: list[Any] = [None, (0, 1), (0, "1", 60), (0, 1, 0), (0, 1, 70000)]
    for rubbish in bad:
        with pytest.raises((TypeError, ValueError)):
            requests([rubbish], 8)
        with pytest.raises((TypeError, ValueError)):
            answered([rubbish], bytes(120), 0)
    for at in (-1, 13):
        with pytest.raises(ValueError, match="not in the slots"):
            answered([], bytes(12), at)
    with pytest.raises(TypeError):
        Gather(DOMID, True).burst(b"", 64, 4096, 0, [], [])  # type: ignore[arg-type]
