"""The quick looks at headers say what the thorough ones do, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6, Chain, own, quick
from xnet.frame.ether import ETH_HLEN, header_shape
from xnet.frame.quick import destination
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


@given(words, mangled(), st.integers(-2, 2))
def test_a_shape_is_the_shape(word: int, data: bytes, more: int) -> None:
    length = max(0, len(data) + more)
    assert quick.header_shape(word, memoryview(data), length) == header_shape(word, memoryview(data), length)


@given(st.lists(st.tuples(words, mangled()), min_size=1, max_size=4))
def test_frames_go_where_a_thorough_look_says_or_it_says_nothing(frames: list[tuple[int, bytes]]) -> None:
    memory = memoryview(b"".join(data.ljust(4096, b"\0") for _, data in frames))
    chain = [own(word, i * 4096, len(data)) for i, (word, data) in enumerate(frames)]
    to = destination(memory, chain, 1500 + ETH_HLEN)
    if to:
        switch = Switch("stub0", 1500)
        sender = Vnic("vnic1", switch, mac(1))
        for frame in chain:
            ethertype = int.from_bytes(memory[frame[2][0][0] + 12 : frame[2][0][0] + 14], "big")
            assert switch._objection(sender, Chain(memory, chain), frame, ethertype) == ""
            assert memory[frame[2][0][0] : frame[2][0][0] + 6] == to


def test_the_usual_is_not_in_doubt() -> None:
    pytest.importorskip("xnet.frame._quick", reason="not compiled: always in doubt")
    word = CSUM_BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT
    data = [tcp(bytes(3000), blank=True), tcp(b"", blank=True), udp(b"x")]
    memory = memoryview(b"".join(each.ljust(4096, b"\0") for each in data))
    frames = [own(word if not i else 0, i * 4096, len(each)) for i, each in enumerate(data)]
    assert destination(memory, frames, 1514) == mac(2)
    assert destination(memory, [own(0, 0, len(data[0]))], 1514) == b"", "longer than the link, and not to be cut"
    assert destination(memory, [own(0, 2 * 4096 + 9, 14)], 1514) != mac(2)
    assert destination(memory, [own(0, len(memory), 14)], 1514) == b"", "not in memory"
