"""Frames of a burst: what goes in comes out; the quick look at headers says what the thorough one does, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, Chain, Frame, Frames, own
from xnet.frame.ether import ETH_HLEN
from xnet.frame.offload import KIND, Accepts
from xnet.mac import Switch, Vnic
from xnet.testing.frames import mac, plain, tcp, udp

words = st.sampled_from(
    [0, CSUM_BLANK, DATA_VALIDATED, *[CSUM_BLANK | k | 1448 << GSO_SIZE_SHIFT for k in (GSO_TCPV4, GSO_TCPV6)], 0x300]
)
shapes = st.sampled_from(
    [plain(60), tcp(b"", blank=True), tcp(bytes(3000), blank=True), tcp(bytes(3000), v6=True), udp(b"x"), b"short", b""]
)


@st.composite
def mangled(draw: Any) -> bytes:
    """A frame, some of its header's bytes changed, cut anywhere."""
    data = bytearray(draw(shapes))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 53), st.integers(0, 255)), max_size=2)):
        if at < len(data):
            data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@given(st.lists(st.tuples(words, mangled()), min_size=1, max_size=4))
def test_frames_go_where_a_thorough_look_says_or_it_says_nothing(frames: list[tuple[int, bytes]]) -> None:
    memory = memoryview(b"".join(data.ljust(4096, b"\0") for _, data in frames))
    chain = [own(word, i * 4096, len(data)) for i, (word, data) in enumerate(frames)]
    to = Frames(chain).destination(memory, 1500 + ETH_HLEN)
    if to:
        switch = Switch("stub0", 1500)
        sender = Vnic("vnic1", switch, mac(1))
        for frame in chain:
            ethertype = int.from_bytes(memory[frame[2][0][0] + 12 : frame[2][0][0] + 14], "big")
            assert switch._objection(sender, Chain(memory, chain), frame, ethertype) == ""
            assert memory[frame[2][0][0] : frame[2][0][0] + 6] == to


def test_the_usual_is_not_in_doubt() -> None:
    pytest.importorskip("xnet.frame._frames", reason="not compiled: always in doubt")
    word = CSUM_BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
    data = [tcp(bytes(3000), blank=True), tcp(b"", blank=True), udp(b"x")]
    memory = memoryview(b"".join(each.ljust(4096, b"\0") for each in data))
    frames = [own(word if not i else 0, i * 4096, len(each)) for i, each in enumerate(data)]
    assert Frames(frames).destination(memory, 1514) == mac(2)
    assert Frames([own(0, 0, len(data[0]))]).destination(memory, 1514) == b"", "longer than the link, and not to be cut"
    assert Frames([own(0, 2 * 4096 + 9, 14)]).destination(memory, 1514) != mac(2)
    assert Frames([own(0, len(memory), 14)]).destination(memory, 1514) == b"", "not in memory"


numbers = st.integers(0, 2**32 - 1)
pieces = st.tuples(st.integers(0, 2**48), st.integers(0, 2**31 - 1), st.integers(0, 2**16 - 1), numbers)
tuples = st.tuples(numbers, st.integers(0, 2**31 - 1), st.lists(pieces, max_size=5).map(tuple))


@given(st.lists(tuples, max_size=12), st.data())
def test_what_goes_in_comes_out(frames: list[Frame], draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(frames)))
    held = Frames(frames[:cut])
    for frame in frames[cut:]:
        held.append(frame)
    assert list(held) == frames
    assert [held[i] for i in range(len(held))] == frames
    assert held.size() == sum(length for _, length, _ in frames)
    held.clear()
    assert (list(held), len(held), held.size()) == ([], 0, 0)


@given(st.integers(0, 2**20), st.lists(st.integers(1, 70000), max_size=20))
def test_a_run_lies_page_by_page(page: int, lengths: list[int]) -> None:
    held = Frames([own(1, 0, 60)])
    after = held.append_run(7, page * 4096, lengths)
    at = page * 4096
    for frame, length in zip(list(held)[1:], lengths, strict=True):
        assert frame == own(7, at, length)
        at += -(-length // 4096) * 4096
    assert after == at


@given(st.lists(st.tuples(words, st.integers(0, 70000)), max_size=4), st.booleans(), st.booleans(), st.booleans())
def test_frames_are_within_what_is_accepted(frames: list[tuple[int, int]], csum: bool, gso4: bool, gso6: bool) -> None:
    accepts = Accepts(csum4=csum, csum6=csum, gso4=gso4, gso6=gso6)
    wanted = all(word & KIND in accepts.kinds and length <= 0xFFFF for word, length in frames)
    assert Frames([own(word, 0, length) for word, length in frames]).within(accepts.bits, accepts.max_frame) == wanted


@pytest.mark.parametrize("rubbish", [None, (0, 1), (0, "1", ()), (0, 60, (1,)), (0, 60, ((1, 2, 3),)), (-1, 60, ())])
def test_what_is_no_frame_is_refused_and_nothing_is_added(rubbish: Any) -> None:
    pytest.importorskip("xnet.frame._frames", reason="a list takes anything")
    held = Frames([own(0, 0, 60)])
    with pytest.raises((TypeError, ValueError)):
        held.append(rubbish)
    with pytest.raises((TypeError, ValueError)):
        held.append_run(0, 0, [60, "x"])  # type: ignore[list-item]
    with pytest.raises(IndexError):
        held[1]
    assert list(held) == [own(0, 0, 60)]
