"""GRO: TCP segments that come in one burst and go on where the one before them ends are one frame to the kernel.

A guest with little room to send, because it is one of many, sends small segments. Each then costs its receiver as much
as a large one, and an answer, which costs as much again: the machine is slow, and so the segments stay small. Joined,
32 pairs of guests are two to three times as fast (xnbu), and the acknowledgements fewer. It is what Linux' netfront
does by NAPI; the kernel does not do it for a TAP whose frames are to be segmented already.

What may be joined: TCP in plain IPv4 (no options, never to be fragmented), data and nothing else (flags ACK and PSH),
with checksums known to be right, the same headers but for sequence number, IP's number and PSH, each but the last of
whole segments of one size, and 65535 bytes at most. The first is to be segmented (GSO) itself: who is given no such
frames, because an end did not negotiate them, gets none by this. Unlike in Linux, a frame with PSH is joined as well,
as the kernel marks every frame for segmentation so: what has come waits for nothing. The frame made of them can be
segmented again into what was sent, but for PSH and IP's number. Source: Linux, net/ipv4/tcp_offload.c.

`iov.send` does it, in C where that was compiled; this is the same in Python.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from xnet.frame.chain import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TYPE_MASK, Chain, Frame
from xnet.frame.ether import ETH_HLEN, IPPROTO_TCP, plain_protocol, plain_tcp4_headers
from xnet.frame.offload import blank_checksum, finish_checksum

TYPE, TOTAL, FRAGMENT, IP_SUM, SOURCE, TCP = 12, 16, 20, 24, 26, 34
SEQ, ACKED, OFFSET, FLAGS, WINDOW, TCP_SUM, URGENT = 38, 42, 46, 47, 48, 50, 52
"""Where they are in plain IPv4."""
SAME: Final = ((0, TOTAL), (FRAGMENT, IP_SUM), (SOURCE, SEQ), (ACKED, FLAGS), (WINDOW, TCP_SUM))
"""What does not change from one segment to the next, and options."""
DONT_FRAGMENT, TCP_PSH, TCP_ACK = 0x40, 0x08, 0x10
PACKET_MAX = 65535
PIECES_MAX = 259


class Joined(NamedTuple):
    """Frames as one."""

    others: int
    """How many, less the first."""
    headers: bytes
    """Those of the frame; its virtio-net header is the first one's."""
    data: list[memoryview]


def joined(chain: Chain, at: int) -> Joined | None:
    """What goes on where the frame of this number ends, joined to it, or None."""
    frame = chain.frames[at]
    head = headers_of(chain, frame)
    payload = frame[1] - len(head)
    segment = segment_of(frame[0], payload) if head and frame[0] & GSO_TYPE_MASK else 0
    if not segment or payload % segment:
        return None
    others, flags, length, pieces, data = 0, head[FLAGS], frame[1], len(frame[2]), body(chain, frame, len(head))
    seq = int.from_bytes(head[SEQ:ACKED]) + payload
    for number in range(at + 1, len(chain.frames)):
        each = chain.frames[number]
        theirs = headers_of(chain, each)
        payload, pieces = each[1] - len(theirs), pieces + len(each[2])
        if pieces > PIECES_MAX or not goes_on(head, theirs, seq) or length + payload > PACKET_MAX + ETH_HLEN:
            break
        size = segment_of(each[0], payload)
        if size != segment and (each[0] & GSO_TYPE_MASK or not 0 < size <= segment):
            break
        others, flags, length = others + 1, flags | theirs[FLAGS], length + payload
        data += body(chain, each, len(head))
        seq += payload
        if payload % segment:
            break
    return Joined(others, _headers(head, flags, length), data) if others else None


def headers_of(chain: Chain, frame: Frame) -> bytes:
    """The headers of a frame that is data of a stream, all of them in its first piece; nothing for other frames."""
    addr, size = frame[2][0][:2] if frame[2] else (0, 0)
    head = bytes(chain.memory[addr : addr + min(size, TCP + 60)])
    if len(head) < TCP + 20 or plain_protocol(head[TYPE:]) != IPPROTO_TCP or not head[FRAGMENT] & DONT_FRAGMENT:
        return b""
    offset = int.from_bytes(head[OFFSET:WINDOW])
    length = plain_tcp4_headers(offset)
    if not TCP + 20 <= length <= len(head) or length >= frame[1]:
        return b""
    if int.from_bytes(head[TOTAL : TOTAL + 2]) + ETH_HLEN != frame[1] or offset & 0xFFF & ~TCP_PSH != TCP_ACK:
        return b""
    return head[:length]


def segment_of(word: int, payload: int) -> int:
    """Payload bytes a segment, of `payload` in all; 0 if the checksum is not known to be right, or the word is odd."""
    if word & GSO_TYPE_MASK:
        return word >> GSO_SIZE_SHIFT if word & GSO_TYPE_MASK == GSO_TCPV4 else 0
    return payload if word & (CSUM_BLANK | DATA_VALIDATED) else 0


def goes_on(head: bytes, theirs: bytes, seq: int) -> bool:
    """Whether these headers are those of what comes behind, with this sequence number."""
    return (
        len(head) == len(theirs)
        and int.from_bytes(theirs[SEQ:ACKED]) == seq & 0xFFFFFFFF
        and all(head[start:end] == theirs[start:end] for start, end in (*SAME, (URGENT, len(head))))
    )


def body(chain: Chain, frame: Frame, headers: int) -> list[memoryview]:
    """What a frame has behind its headers."""
    first, *others = chain.views(frame)
    return [first[headers:], *others]


def _headers(head: bytes, flags: int, length: int) -> bytes:
    """Those of a frame of `length` bytes with a blank checksum."""
    frame = bytearray(head)
    frame[FLAGS] = flags
    frame[TOTAL : TOTAL + 2] = (length - ETH_HLEN).to_bytes(2)
    frame[IP_SUM:SOURCE] = bytes(2)
    finish_checksum(frame, TCP, ETH_HLEN, IP_SUM - ETH_HLEN)
    blank_checksum(memoryview(frame), length)
    return bytes(frame)
