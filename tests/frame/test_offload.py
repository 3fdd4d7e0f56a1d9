"""Checksums and segmentation in software, with scapy as the judge of what is right on the wire."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xnet.abi.xen import DOMID_SELF
from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    Accepts,
    Arena,
    Chain,
    Frame,
    finish_checksum,
    fit,
    own,
    segment,
    transport,
)

PAGE = 4096
BLANK = CSUM_BLANK | DATA_VALIDATED
FIN, SYN, PSH, ACK, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x40, 0x80
ORACLE = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def place_of(frame: bytes | bytearray) -> tuple[int, int, int]:
    place = transport(memoryview(frame), len(frame))
    assert place is not None
    return place


def blanked(scapy: SimpleNamespace, packet: Any) -> bytes:
    """The packet as a stack with checksum offload sends it: only the pseudo-header's sum in the field.

    Worked back from scapy's own checksum, so that nothing here knows what a pseudo-header is.
    """
    frame = bytearray(bytes(packet))
    l4, offset, _ = place_of(frame)
    full = int.from_bytes(frame[l4 + offset : l4 + offset + 2], "big")
    frame[l4 + offset : l4 + offset + 2] = b"\0\0"
    pseudo = (0xFFFF - full + scapy.checksum(bytes(frame[l4:]))) % 0xFFFF
    frame[l4 + offset : l4 + offset + 2] = pseudo.to_bytes(2, "big")
    return bytes(frame)


def right(scapy: SimpleNamespace, frame: bytes | bytearray) -> bytes:
    """The frame with every length and checksum as scapy computes them."""
    packet = scapy.Dissect(bytes(frame))
    for layer, names in {
        "IP": ("len", "chksum"),
        "IPv6": ("plen",),
        "TCP": ("chksum",),
        "UDP": ("chksum", "len"),
    }.items():
        if layer in packet:
            for name in names:
                delattr(packet[layer], name)
    return bytes(packet)


def v4(s: SimpleNamespace, **fields: object) -> Any:
    return s.Ether() / s.IP(src="10.0.0.1", dst="10.0.0.2", **fields)


def v6(s: SimpleNamespace) -> Any:
    return s.Ether() / s.IPv6(src="fd00::1", dst="fd00::2")


def in_vlan(packet: Any, s: SimpleNamespace) -> Any:
    inner = packet.payload
    return s.Ether() / s.Dot1Q(vlan=7) / inner


PACKETS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "tcp4": lambda s: v4(s) / s.TCP(sport=1, dport=2) / b"payload!",
    "tcp4, odd": lambda s: v4(s) / s.TCP(sport=1, dport=2) / b"payload",
    "tcp4, one byte": lambda s: v4(s) / s.TCP(sport=1, dport=2) / b"p",
    "tcp4, header only": lambda s: v4(s) / s.TCP(sport=1, dport=2),
    "tcp4, ip options": lambda s: v4(s, options=b"\x01" * 4) / s.TCP() / b"abc",
    "tcp4, tcp options": lambda s: v4(s) / s.TCP(options=[("Timestamp", (1, 2)), ("NOP", None)]) / b"abc",
    "tcp4, jumbo": lambda s: v4(s) / s.TCP() / (bytes(range(256)) + bytes(8000)),
    "tcp4, vlan": lambda s: in_vlan(v4(s) / s.TCP() / b"abc", s),
    "udp4": lambda s: v4(s) / s.UDP(sport=1, dport=2) / b"payload!",
    "udp4, odd": lambda s: v4(s) / s.UDP(sport=1, dport=2) / b"payload",
    "udp4, header only": lambda s: v4(s) / s.UDP(sport=1, dport=2),
    "udp6": lambda s: v6(s) / s.UDP(sport=1, dport=2) / b"payload",
    "tcp6": lambda s: v6(s) / s.TCP(sport=1, dport=2) / b"payload!",
    "tcp6, extensions": lambda s: v6(s) / s.IPv6ExtHdrHopByHop() / s.IPv6ExtHdrDestOpt() / s.TCP() / b"abc",
    "tcp6, routed": lambda s: v6(s) / s.IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=1) / s.TCP() / b"abc",
    "udp6, vlan": lambda s: in_vlan(v6(s) / s.UDP() / b"abc", s),
}


# --- checksums


@pytest.mark.parametrize("name", PACKETS)
def test_a_finished_checksum_is_scapys(scapy: SimpleNamespace, name: str) -> None:
    packet = PACKETS[name](scapy)
    buf = bytearray(blanked(scapy, packet))
    assert bytes(buf) != bytes(packet)
    l4, offset, _ = place_of(buf)
    finish_checksum(memoryview(buf), len(buf), l4, offset)
    assert bytes(buf) == bytes(packet)


@pytest.mark.parametrize(("layer", "zero"), [("TCP", b"\0\0"), ("UDP", b"\xff\xff")])
def test_a_sum_of_zero_is_sent_as_such_but_not_for_udp(scapy: SimpleNamespace, layer: str, zero: bytes) -> None:
    packet = v4(scapy) / getattr(scapy, layer)() / b"\0\0"
    l4, offset, _ = place_of(bytes(packet))
    buf = bytearray(blanked(scapy, packet))
    buf[-2:] = bytes(packet)[l4 + offset : l4 + offset + 2]  # one's complement: the sum becomes all ones
    finish_checksum(buf, len(buf), l4, offset)
    assert bytes(buf[l4 + offset : l4 + offset + 2]) == zero


@given(data=st.binary(min_size=2, max_size=300), at=st.integers(0, 7))
def test_a_finished_run_and_what_stood_in_its_field_sum_to_all_ones(data: bytes, at: int) -> None:
    buf = memoryview(bytearray(bytes(at) + data))
    finish_checksum(buf, len(buf), at, 0)
    words = [int.from_bytes(buf[i : i + 2].tobytes().ljust(2, b"\0"), "big") for i in range(at, len(buf), 2)]
    assert (sum(words) + int.from_bytes(data[:2], "big")) % 0xFFFF == 0
    assert bytes(buf[at + 2 :]) == data[2:]


# --- segmentation


def word_for(frame: bytes | bytearray, size: int) -> int:
    plain = frame[12:14] if frame[12:14] != b"\x81\x00" else frame[16:18]
    return BLANK | (GSO_TCPV4 if plain == b"\x08\x00" else GSO_TCPV6) | size << GSO_SIZE_SHIFT


def segments(scapy: SimpleNamespace, packet: Any, size: int, *, finish: bool = True) -> list[Any]:
    frame = blanked(scapy, packet)
    made = segment(memoryview(frame), len(frame), word_for(frame, size), finish=finish)
    assert made is not None
    return [scapy.Dissect(bytes(each)) for each in made]


@ORACLE
@given(
    six=st.booleans(),
    tagged=st.booleans(),
    options=st.integers(0, 10),
    payload=st.binary(max_size=400),
    size=st.integers(1, 500),
    seq=st.integers(0, 0xFFFFFFFF),
    ident=st.integers(0, 0xFFFF),
)
def test_segments_make_the_payload_and_are_right_on_the_wire(
    scapy: SimpleNamespace, six: bool, tagged: bool, options: int, payload: bytes, size: int, seq: int, ident: int
) -> None:
    size = max(size, len(payload) // 20 + 1)
    packet = (v6(scapy) if six else v4(scapy, id=ident)) / scapy.TCP(seq=seq, options=[("NOP", None)] * options * 4)
    packet /= scapy.Raw(payload) if payload else b""
    packet = in_vlan(packet, scapy) if tagged else packet
    frame = blanked(scapy, packet)
    before = bytes(frame)
    made = segment(memoryview(frame), len(frame), word_for(frame, size))
    assert made is not None
    assert frame == before
    data = len(frame) - len(payload)
    assert b"".join(each[data:] for each in made) == payload
    assert [len(each) - data for each in made[:-1]] == [size] * (len(made) - 1)
    for i, each in enumerate(made):
        assert bytes(each) == right(scapy, each)
        dissected = scapy.Dissect(bytes(each))
        assert dissected[scapy.TCP].seq == (seq + i * size) % (1 << 32)
        if not six:
            assert dissected[scapy.IP].id == (ident + i) % (1 << 16)


@pytest.mark.parametrize("name", [name for name in PACKETS if name.startswith("tcp")])
def test_tags_options_and_extensions_are_on_every_segment(scapy: SimpleNamespace, name: str) -> None:
    packet = PACKETS[name](scapy)
    made = segments(scapy, packet, 2000 if "jumbo" in name else 3)
    payload = bytes(packet[scapy.TCP].payload)
    assert b"".join(bytes(each[scapy.TCP].payload) for each in made) == payload
    for each in made:
        assert [layer.__name__ for layer in each.layers()][:4] == [layer.__name__ for layer in packet.layers()][:4]
        assert each[scapy.TCP].options == scapy.Dissect(bytes(packet))[scapy.TCP].options
        assert bytes(each) == right(scapy, bytes(each))


def test_flags_stay_where_they_mean_something(scapy: SimpleNamespace) -> None:
    flags = FIN | PSH | ACK | ECE | CWR
    made = segments(scapy, v4(scapy) / scapy.TCP(flags=flags) / b"123456789", 3)
    assert [int(each[scapy.TCP].flags) for each in made] == [ACK | ECE | CWR, ACK | ECE, FIN | PSH | ACK | ECE]
    alone = segments(scapy, v4(scapy) / scapy.TCP(flags=flags) / b"123", 3)
    assert [int(each[scapy.TCP].flags) for each in alone] == [flags]


def test_a_segment_left_blank_is_finished_to_the_same(scapy: SimpleNamespace) -> None:
    packet = PACKETS["tcp6, routed"](scapy)
    finished, blank = segments(scapy, packet, 2), segments(scapy, packet, 2, finish=False)
    for whole, unfinished in zip(finished, blank, strict=True):
        buf = bytearray(bytes(unfinished))
        assert bytes(buf) != bytes(whole)
        finish_checksum(buf, len(buf), *place_of(buf)[:2])
        assert bytes(buf) == bytes(whole)


@pytest.mark.parametrize("name", ["tcp4", "tcp6", "tcp4, vlan"])
def test_gso_without_a_blank_checksum_is_summed_afresh(scapy: SimpleNamespace, name: str) -> None:
    frame = bytearray(bytes(PACKETS[name](scapy)))
    l4 = place_of(frame)[0]
    frame[l4 + 16 : l4 + 18] = b"\xde\xad"
    made = segment(bytes(frame), len(frame), word_for(frame, 2) & ~CSUM_BLANK)
    assert made is not None
    assert [bytes(each) for each in made] == [right(scapy, each) for each in made]


def test_ethernet_padding_is_not_payload(scapy: SimpleNamespace) -> None:
    frame = blanked(scapy, PACKETS["tcp4, one byte"](scapy)) + b"\x5a" * 5
    made = segment(frame, len(frame), word_for(frame, 1000))
    assert made is not None
    assert [len(each) for each in made] == [55]
    assert bytes(made[0]) == right(scapy, made[0])


@pytest.mark.parametrize(
    ("name", "size", "header_words"), [("udp4", 100, 0), ("tcp4", 0, 5), ("tcp4", 100, 4), ("tcp4", 100, 15)]
)
def test_what_is_not_whole_tcp_is_not_segmented(
    scapy: SimpleNamespace, name: str, size: int, header_words: int
) -> None:
    frame = bytearray(bytes(PACKETS[name](scapy)))
    frame[46] = header_words << 4  # TCP's data offset
    assert segment(frame, len(frame), word_for(frame, size)) is None
    assert segment(frame, 0, word_for(frame, size)) is None


def test_a_lie_about_the_segment_size_costs_nothing(scapy: SimpleNamespace) -> None:
    frame = bytes(v4(scapy) / scapy.TCP() / bytes(8193))
    assert segment(frame, len(frame), word_for(frame, 1)) is None
    assert len(segment(frame, len(frame), word_for(frame, 2)) or ()) == 4097


# --- what the far side accepts


class Bench:
    """Memory with frames at its start and an arena behind them."""

    def __init__(self, staging: int = 64) -> None:
        self.memory = memoryview(bytearray(b"\xa5" * ((64 + staging) * PAGE)))
        self.arena = Arena(self.memory, 64 * PAGE, staging * PAGE)
        self.counters: dict[str, int] = {}
        self.top = 0

    def put(self, data: bytes, word: int = 0, *, pieces: int = 1, at: int = 0) -> Frame:
        """A frame at offset `at` of a fresh page, or in that many pieces apart from each other."""
        size, run, parts = -(-len(data) // pieces), -(-(at + len(data)) // PAGE) * PAGE, []
        for start in range(0, len(data), size):
            part = data[start : start + size]
            self.memory[self.top + at : self.top + at + len(part)] = part
            parts.append((self.top + at, len(part), DOMID_SELF, 0))
            self.top += run
        return (word, len(data), tuple(parts))

    def fit(self, accepts: Accepts, *frames: Frame) -> Chain:
        self.chain = Chain(self.memory, list(frames))
        return fit(self.chain, accepts, self.arena, self.counters)

    def read(self, chain: Chain) -> list[bytes]:
        return [chain.tobytes(frame) for frame in chain.frames]


ACCEPTABLE: list[tuple[Accepts, str, int, bool]] = [
    (Accepts(), "tcp4", 0, True),
    (Accepts(), "tcp4", DATA_VALIDATED, True),
    (Accepts(), "tcp6", BLANK, True),
    (Accepts(), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, True),
    (Accepts(csum4=False, csum6=False), "tcp4", 0, True),
    (Accepts(csum4=False, csum6=False), "tcp4", BLANK, False),
    (Accepts(csum6=False), "tcp4", BLANK, True),
    (Accepts(csum6=False), "tcp6", BLANK, False),
    (Accepts(csum6=False), "udp6, vlan", BLANK, False),
    (Accepts(csum4=False), "tcp4, vlan", BLANK, False),
    (Accepts(csum4=False), "udp6", BLANK, True),
    (Accepts(gso4=False), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, False),
    (Accepts(sg=False), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, False),
    (Accepts(csum4=False), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, False),
    (Accepts(gso6=False), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, True),
    (Accepts(max_frame=1514), "tcp4, jumbo", BLANK | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, True),
    (Accepts(), "tcp4, jumbo", DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, False),
]


@pytest.mark.parametrize(("accepts", "name", "word", "fits"), ACCEPTABLE)
def test_only_what_is_not_accepted_is_changed(
    scapy: SimpleNamespace, accepts: Accepts, name: str, word: int, fits: bool
) -> None:
    bench, packet = Bench(), PACKETS[name](scapy)
    data = blanked(scapy, packet) if word & CSUM_BLANK else bytes(packet)
    before = bench.put(data, word)
    out = bench.fit(accepts, before)
    assert bench.chain.tobytes(before) == data  # lent: never changed in place
    if fits:
        assert bench.read(out) == [data]
        assert list(out.frames) == [before]
        assert not bench.counters
        return
    assert out is not bench.chain
    assert bench.counters == ({"gso_software": 1} if word >> GSO_SIZE_SHIFT else {"csum_software": 1})
    for frame in out.frames:
        (addr, _, domid, _), *rest = frame[2]
        assert (rest, domid, addr % PAGE) == ([], DOMID_SELF, 0)
        if not frame[0] & CSUM_BLANK:
            assert frame[0] == DATA_VALIDATED
            assert out.tobytes(frame) == right(scapy, out.tobytes(frame))


@pytest.mark.parametrize("accepts", [Accepts(), Accepts(False, False, False, False, False, 1514)])
def test_nothing_to_do_returns_the_very_chain(scapy: SimpleNamespace, accepts: Accepts) -> None:
    bench = Bench()
    out = bench.fit(accepts, *(bench.put(bytes(PACKETS[name](scapy))) for name in ("tcp4", "udp6", "tcp6, routed")))
    assert out is bench.chain
    assert fit(Chain(bench.memory), accepts, bench.arena).frames.size() == 0


def test_without_gso_but_with_checksums_segments_stay_blank(scapy: SimpleNamespace) -> None:
    bench, frame = Bench(), blanked(scapy, PACKETS["tcp4, jumbo"](scapy))
    out = bench.fit(Accepts(gso4=False), bench.put(frame, word_for(frame, 4000)))
    expected = segment(frame, len(frame), word_for(frame, 4000), finish=False)
    assert expected is not None
    assert bench.read(out) == [bytes(each) for each in expected]
    assert [each[0] for each in out.frames] == [BLANK] * 3


def test_frames_keep_their_order_around_what_was_segmented(scapy: SimpleNamespace) -> None:
    bench = Bench()
    first, last = bytes(PACKETS["udp4"](scapy)), bytes(PACKETS["udp6"](scapy))
    large = blanked(scapy, PACKETS["tcp4, jumbo"](scapy))
    out = bench.fit(
        Accepts(False, False, False, False), bench.put(first), bench.put(large, word_for(large, 4000)), bench.put(last)
    )
    made = segment(large, len(large), word_for(large, 4000))
    assert made is not None
    assert bench.read(out) == [first, *map(bytes, made), last]


@pytest.mark.parametrize("pieces", [2, 3, 7, 60])
@pytest.mark.parametrize("name", ["tcp4, odd", "tcp6, extensions", "udp6, vlan"])
def test_a_frame_in_pieces_is_gathered_before_it_is_finished(scapy: SimpleNamespace, name: str, pieces: int) -> None:
    bench, packet = Bench(), PACKETS[name](scapy)
    out = bench.fit(Accepts(csum4=False, csum6=False), bench.put(blanked(scapy, packet), BLANK, pieces=pieces))
    assert bench.read(out) == [bytes(packet)]


def test_a_large_frame_in_pieces_is_segmented(scapy: SimpleNamespace) -> None:
    bench, frame = Bench(), blanked(scapy, PACKETS["tcp4, jumbo"](scapy))
    out = bench.fit(Accepts(gso4=False, csum4=False), bench.put(frame, word_for(frame, 1000), pieces=5))
    expected = segment(frame, len(frame), word_for(frame, 1000))
    assert expected is not None
    assert bench.read(out) == [bytes(each) for each in expected]


def test_padding_is_kept_but_not_summed(scapy: SimpleNamespace) -> None:
    bench, packet = Bench(), PACKETS["tcp4, one byte"](scapy)
    out = bench.fit(Accepts(csum4=False), bench.put(blanked(scapy, packet) + b"\x5a" * 5, BLANK))
    assert bench.read(out) == [bytes(packet) + b"\x5a" * 5]


@pytest.mark.parametrize(
    ("pieces", "at", "same"), [(1, 0, True), (1, PAGE - 1000, True), (1, PAGE - 999, False), (2, 0, False)]
)
def test_without_sg_a_frame_lies_in_one_page(pieces: int, at: int, same: bool) -> None:
    bench, data = Bench(), bytes(range(250)) * 4
    frame = bench.put(data, DATA_VALIDATED, pieces=pieces, at=at)
    out = bench.fit(Accepts(sg=False), frame)
    assert bench.read(out) == [data]
    assert (out is bench.chain) == same
    assert out.frames[0][0] == DATA_VALIDATED
    assert len(out.frames[0][2]) == 1
    assert out.frames[0][2][0][0] % PAGE + len(data) <= PAGE


@pytest.mark.parametrize(
    ("accepts", "size", "word", "count"),
    [
        (Accepts(max_frame=1514), 1515, 0, {"oversize": 1}),
        (Accepts(max_frame=1514), 1514, 0, {}),
        (Accepts(sg=False), PAGE + 1, 0, {"oversize": 1}),
        (Accepts(sg=False), PAGE, 0, {}),
        (Accepts(csum4=False), 60, BLANK, {"malformed": 1}),
        (Accepts(gso4=False), 60, BLANK | GSO_TCPV4 | 10 << GSO_SIZE_SHIFT, {"malformed": 1}),
    ],
)
def test_what_cannot_be_made_to_fit_is_lost_and_counted(
    accepts: Accepts, size: int, word: int, count: dict[str, int]
) -> None:
    bench = Bench()
    out = bench.fit(accepts, bench.put(bytes(size), word), bench.put(bytes(60)))
    assert len(out) == 2 - sum(count.values())
    assert bench.counters == count


@pytest.mark.parametrize(("size", "counted"), [(1461, "oversize"), (1460, "gso_software")])
def test_segments_too_large_for_the_far_side_are_lost(scapy: SimpleNamespace, size: int, counted: str) -> None:
    bench, frame = Bench(), blanked(scapy, PACKETS["tcp4, jumbo"](scapy))
    bench.fit(Accepts(gso4=False, max_frame=1514), bench.put(frame, word_for(frame, size)))
    assert bench.counters == {counted: 1}


def test_a_full_scratch_loses_what_did_not_fit(scapy: SimpleNamespace) -> None:
    bench, packet = Bench(staging=2), PACKETS["tcp4"](scapy)
    frames = [bench.put(blanked(scapy, packet), BLANK) for _ in range(5)]
    out = bench.fit(Accepts(csum4=False), *frames)
    assert bench.read(out) == [bytes(packet)] * 2
    assert bench.counters == {"csum_software": 2, "scratch_full": 3}


def test_a_plain_frame_passes_with_a_full_scratch(scapy: SimpleNamespace) -> None:
    bench = Bench(staging=0)
    plain = own(0, bench.put(bytes(60))[2][0][0], 60)
    out = bench.fit(Accepts(csum4=False), bench.put(blanked(scapy, PACKETS["tcp4"](scapy)), BLANK), plain)
    assert list(out.frames) == [plain]
