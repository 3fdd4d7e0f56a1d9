"""Framing: golden bytes, any way of cutting the stream, and what is not the protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.abi.xen import xs_wire as xs
from xnet.xenstore.wire import Message, Parser, WireError, encode, strings

GOLDEN = bytes.fromhex(
    "0b000000"  # type: XS_WRITE
    "2a000000"  # req_id 42
    "07000000"  # tx_id 7
    "06000000"  # len
    "2f612f6200"  # "/a/b" NUL
    "31"  # "1", without NUL
)


def test_a_message_is_these_bytes() -> None:
    assert encode(xs.XS_WRITE, 42, 7, b"/a/b\x001") == GOLDEN
    assert Parser().feed(GOLDEN) == [Message(xs.XS_WRITE, 42, 7, b"/a/b\x001")]


messages = st.lists(
    st.builds(
        Message,
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF_FFFF),
        st.integers(0, 0xFFFF_FFFF),
        st.binary(max_size=60),
    ),
    max_size=6,
)


@given(sent=messages, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_messages_survive_any_cutting(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encode(*message) for message in sent)
    parser, got, at = Parser(), [], 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        got += parser.feed(memoryview(stream)[at:cut])
        at = cut
    assert got == sent


def test_the_largest_payload_passes_and_one_byte_more_does_not() -> None:
    assert len(Parser().feed(encode(xs.XS_WRITE, 1, 0, bytes(4096)))[0].payload) == 4096
    with pytest.raises(WireError):
        Parser().feed(encode(xs.XS_WRITE, 1, 0, bytes(4097))[:16])


def test_what_came_before_an_oversize_message_is_still_heard() -> None:
    parser = Parser()
    assert parser.feed(GOLDEN + encode(xs.XS_READ, 1, 0, bytes(5000))) == [Message(11, 42, 7, b"/a/b\x001")]
    with pytest.raises(WireError):
        parser.feed(b"")


@pytest.mark.parametrize(
    ("payload", "fields"),
    [(b"", []), (b"\0", [b""]), (b"a\0b\0", [b"a", b"b"]), (b"a\0rest", [b"a"]), (b"rest", [])],
)
def test_only_terminated_strings_count(payload: bytes, fields: list[bytes]) -> None:
    assert strings(payload) == fields


def test_types_and_offsets_are_the_headers() -> None:
    assert (xs.XS_WATCH_EVENT, xs.XS_ERROR, xs.XS_RESET_WATCHES, xs.XS_DIRECTORY_PART) == (15, 16, 21, 22)
    assert (xs.REQ_CONS, xs.REQ_PROD, xs.RSP_CONS, xs.RSP_PROD) == (2048, 2052, 2056, 2060)
    assert (xs.SERVER_FEATURES, xs.CONNECTION, xs.ERROR) == (2064, 2068, 2072)
    assert len(xs.XSD_ERRORS) == 16
