"""Segments of one stream as one frame: what is joined, what is not, and what comes of it."""

from __future__ import annotations

from struct import unpack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    Chain,
    Frame,
    Frames,
    head,
    vnet_header,
)
from xnet.frame.gro import joined
from xnet.testing.frames import ACK, PSH, changed, tagged, tcp, udp

Sent = tuple[int, bytes]
"""An offload word and the frame."""
BLANK = CSUM_BLANK | DATA_VALIDATED
VNET = 10
MSS = 1448
FIN, CWR = 0x01, 0x80
STAMP = b"\1\1\x08\x0a" + bytes(8)


def chain_of(*sent: Sent, cuts: int = 1) -> Chain:
    """The frames in memory, each in `cuts` + 1 pieces, all headers in the first."""
    memory, frames = bytearray(), list[Frame]()
    for word, data in sent:
        ends = sorted({len(data), *(min(len(data), 100 + 7 * i) for i in range(cuts))})
        pieces = tuple(
            (len(memory) + start, end - start, 1, 2)
            for start, end in zip([0, *ends], ends, strict=False)
            if end > start
        )
        frames.append((word, len(data), pieces))
        memory += data
    return Chain(memoryview(memory), Frames(frames))


def whole(payload: int, mss: int = MSS) -> int:
    """The word of a frame of that much payload."""
    return BLANK | (GSO_TCPV4 | mss << GSO_SIZE_SHIFT if payload > mss else 0)


def stream(*payloads: int, seq: int = 1000, mss: int = MSS, **more: Any) -> list[Sent]:
    """Frames one behind the other, each byte of their data another than its neighbours."""
    found = []
    for size in payloads:
        data = bytes((seq + i) % 251 for i in range(size))
        found.append((whole(size, mss), tcp(data, seq=seq & 0xFFFFFFFF, blank=True, **more)))
        seq += size
    return found


def all_of(chain: Chain, at: int = 0) -> tuple[int, bytes]:
    """How many were joined to one, and the frame behind the virtio-net header that the first would have alone."""
    word, length, _ = frame = chain.frames[at]
    vnet, found = vnet_header(word, head(chain, frame), length), joined(chain, at)
    return (found.others, b"".join((vnet, found.headers, *found.data))) if found else (0, b"")


@pytest.mark.parametrize(
    "payloads",
    [
        (2 * MSS, MSS),
        (2 * MSS, 2 * MSS, 1),
        (2 * MSS, 100),
        (44 * MSS, MSS),
        (14, 7, 7, 3),
        (2, 1, 1),
        (20 * MSS, 20 * MSS, 5 * MSS),
    ],
)
@pytest.mark.parametrize("cuts", [1, 4])
def test_what_goes_on_is_one_frame(payloads: tuple[int, ...], cuts: int) -> None:
    """As one that the sender would have made of it; the virtio-net header says how to segment it."""
    mss = min(payloads[0] // 2, MSS)
    for seq in (1000, 0xFFFFFFFF):
        count, frame = all_of(chain_of(*stream(*payloads, seq=seq, mss=mss), cuts=cuts))
        assert count == len(payloads) - 1
        data = bytes((seq + i) % 251 for i in range(sum(payloads)))
        assert frame[VNET:] == tcp(data, seq=seq, blank=True)
        assert unpack("<BBHHHH", frame[:VNET]) == (1, 1, 54, mss, 34, 16)


def test_options_stay() -> None:
    count, frame = all_of(chain_of(*stream(2 * MSS, MSS, options=STAMP)))
    assert count == 1
    assert frame[VNET + 54 : VNET + 66] == STAMP
    assert frame[2:4] == bytes((66, 0))


def test_push_is_everybodys_and_ends_nothing() -> None:
    first, second, third = (
        stream(2 * MSS, seq=1000 + i * 2 * MSS, flags=ACK | (PSH if i == 1 else 0))[0] for i in range(3)
    )
    count, frame = all_of(chain_of(first, second, third))
    assert (count, frame[VNET + 47]) == (2, ACK | PSH)
    assert all_of(chain_of(first, third))[0] == 0, "what lies between is missing"


def test_a_part_of_a_segment_is_the_last() -> None:
    assert all_of(chain_of(*stream(2 * MSS, 100, 100)))[0] == 1
    assert all_of(chain_of(*stream(MSS + 100, MSS)))[0] == 0
    assert all_of(chain_of(*stream(2 * MSS, MSS + 100, 5)))[0] == 1
    (first,) = stream(2 * 100, mss=100)
    assert all_of(chain_of(first, (BLANK, tcp(bytes(101), seq=1200, blank=True))))[0] == 0, "more than a segment"


def test_who_is_given_nothing_to_segment_gets_none_by_this() -> None:
    assert all_of(chain_of(*stream(MSS, MSS)))[0] == 0
    assert all_of(chain_of(*stream(MSS, 2 * MSS)))[0] == 0


def test_no_packet_is_longer_than_ip_says_it_can_be() -> None:
    assert all_of(chain_of(*stream(44 * MSS, MSS, MSS)))[0] == 1
    assert all_of(chain_of(*stream(44 * MSS, 2 * MSS)))[0] == 0
    last = 65535 - 40 - 45 * MSS
    assert all_of(chain_of(*stream(44 * MSS, MSS, last)))[0] == 2
    assert all_of(chain_of(*stream(44 * MSS, MSS, last + 1)))[0] == 1


def test_no_more_pieces_than_a_write_takes() -> None:
    assert all_of(chain_of(*stream(16, *[8] * 200, mss=8), cuts=0))[0] == 200
    assert all_of(chain_of(*stream(16, *[8] * 400, mss=8), cuts=0))[0] == 258


def test_where_the_checksum_is_not_known_to_be_right_nothing_is_joined() -> None:
    first, (_, second) = stream(2 * MSS, MSS)
    for word in (0, BLANK, DATA_VALIDATED, CSUM_BLANK):
        assert all_of(chain_of(first, (word, second)))[0] == int(bool(word))


def test_words_that_say_something_else() -> None:
    (_, first), (_, second) = stream(2 * MSS, 2 * MSS)
    good = whole(2 * MSS)
    for odd in (
        BLANK | GSO_TCPV6 | MSS << GSO_SIZE_SHIFT,
        BLANK | GSO_TCPV4,
        BLANK | GSO_TCPV4 | (MSS - 1) << GSO_SIZE_SHIFT,
        BLANK | 0x300 | MSS << GSO_SIZE_SHIFT,
    ):
        assert all_of(chain_of((odd, first), (good, second)))[0] == 0
        assert all_of(chain_of((good, first), (odd, second)))[0] == 0


def others() -> list[bytes]:
    """What does not go on behind `stream(2 * MSS)`."""
    (_, right) = stream(2 * MSS, MSS)[1]
    data = right[54:]
    seq = 1000 + 2 * MSS
    odd = [
        tcp(data, seq=seq + 1, blank=True),
        tcp(data, seq=1000, blank=True),
        tcp(data, seq=seq, blank=True, src=3),
        tcp(data, seq=seq, blank=True, dst=3),
        tcp(data, seq=seq, blank=True, options=STAMP),
        tcp(data, seq=seq, blank=True, flags=ACK | FIN),
        tcp(data, seq=seq, blank=True, flags=ACK | CWR),
        tcp(data, seq=seq, blank=True, flags=0),
        tcp(b"", seq=seq, blank=True),
        tcp(data, seq=seq, blank=True, v6=True),
        udp(data, blank=True),
        tagged(right, (0x8100, 5)),
        changed(right, 1, b"\1"),  # type of service
        changed(right, 6, b"\0\0"),  # may be fragmented
        changed(right, 6, b"\x60\0"),  # is
        changed(right, 8, b"\7"),  # time to live
        changed(right, 0, b"", b"\1\1\1\0"),  # IP options
        right + b"\0",
        right[:40],
        right[:53],
    ]
    for at in (34, 36, 42, 46, 48, 52):  # ports, what is acknowledged, data offset, window, urgent pointer
        spoiled = bytearray(right)
        spoiled[at] ^= 0x10
        odd.append(bytes(spoiled))
    return odd


@pytest.mark.parametrize("other", others())
def test_what_does_not_go_on_stays_alone(other: bytes) -> None:
    (first,) = stream(2 * MSS)
    assert all_of(chain_of(first, (BLANK, other)))[0] == 0


def test_headers_in_two_pieces_are_not_looked_for() -> None:
    chain = chain_of(*stream(2 * MSS, 2 * MSS))
    first, second = chain.frames
    split = (second[0], second[1], ((second[2][0][0], 50, 1, 2), (second[2][0][0] + 50, second[1] - 50, 1, 2)))
    assert all_of(Chain(chain.memory, [first, second]))[0] == 1
    assert all_of(Chain(chain.memory, [first, split]))[0] == 0
    assert all_of(Chain(chain.memory, [split, first]))[0] == 0
    assert all_of(Chain(chain.memory, [first]))[0] == 0


@given(st.lists(st.sampled_from([1, 8, 16, 24]), min_size=1, max_size=6), st.integers(0, 60), st.integers(1, 255))
def test_a_bit_that_differs_is_kept_or_the_frame_is(payloads: list[int], at: int, bits: int) -> None:
    """Whatever byte of a header is another: joined or not, all data is there in order, and no flag but PSH is lost."""
    sent = stream(*payloads, mss=8)
    word, data = sent[-1]
    spoiled = bytearray(data)
    if at < len(spoiled):
        spoiled[at] ^= bits
    chain = chain_of(*sent[:-1], (word, bytes(spoiled)))
    done, found = 0, b""
    while done < len(chain.frames):
        count, frame = all_of(chain, done)
        found += frame[VNET + 54 :] if count else chain.tobytes(chain.frames[done])[54:]
        done += 1 + count
    assert found == b"".join(data[54:] for _, data in sent[:-1]) + bytes(spoiled)[54:]
