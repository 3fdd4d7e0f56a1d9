"""Frames to send, and eyes to look at what arrived: written from the RFCs, sharing nothing with `xnet.frame`.

A *blank* frame has only its pseudo-header's sum in the TCP or UDP checksum field, as a kernel leaves it to a device.
Addresses are those of two imaginary hosts: host n has MAC 00:16:3e:00:00:0n, 10.0.0.n and fd00::n.
Source: RFC 791, 8200 (IP), 9293 (TCP), 768 (UDP), 1071 (the sum).
"""

from __future__ import annotations

from struct import Struct, pack, unpack, unpack_from
from typing import NamedTuple

ETHERNET = Struct("!6s6sH")
IPV4 = Struct("!BBHHHBBH4s4s")
IPV6 = Struct("!IHBB16s16s")
TCP = Struct("!HHIIBBHHH")
UDP = Struct("!HHHH")
ETH_IP, ETH_IPV6 = 0x0800, 0x86DD
PROTO_TCP, PROTO_UDP = 6, 17
ACK, PSH = 0x10, 0x08
TAGS = (0x8100, 0x88A8)
IPV6_OPTIONS = (0, 43, 60)
"""Hop-by-hop, routing, destination options: they say their length in 8 bytes, less one."""


def mac(host: int) -> bytes:
    return bytes((0, 0x16, 0x3E, 0, 0, host))


def ones(data: bytes) -> int:
    """The ones' complement sum of 16-bit big-endian words, an odd last byte padded with zero."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def addresses(v6: bool, src: int, dst: int) -> bytes:
    net = b"\xfd" + bytes(14) if v6 else b"\x0a\0\0"
    return net + bytes([src]) + net + bytes([dst])


def pseudo(v6: bool, hosts: bytes, protocol: int, length: int) -> bytes:
    return hosts + (pack("!I3xB", length, protocol) if v6 else pack("!xBH", protocol, length))


def packet(l4: bytes, checksum_at: int, protocol: int, *, v6: bool, src: int, dst: int, blank: bool) -> bytes:
    """Ethernet and IP around a TCP or UDP segment whose checksum field is zero."""
    hosts = addresses(v6, src, dst)
    head = pseudo(v6, hosts, protocol, len(l4))
    value = ones(head) if blank else (0xFFFF ^ ones(head + l4)) or (0xFFFF if protocol == PROTO_UDP else 0)
    l4 = l4[:checksum_at] + value.to_bytes(2, "big") + l4[checksum_at + 2 :]
    if v6:
        ip = IPV6.pack(6 << 28, len(l4), protocol, 64, hosts[:16], hosts[16:])
    else:
        ip = IPV4.pack(0x45, 0, 20 + len(l4), 7, 0x4000, 64, protocol, 0, hosts[:4], hosts[4:])
        ip = ip[:10] + (0xFFFF ^ ones(ip)).to_bytes(2, "big") + ip[12:]
    return ETHERNET.pack(mac(dst), mac(src), ETH_IPV6 if v6 else ETH_IP) + ip + l4


def tcp(
    payload: bytes,
    *,
    v6: bool = False,
    src: int = 1,
    dst: int = 2,
    seq: int = 1000,
    flags: int = ACK | PSH,
    options: bytes = b"",
    blank: bool = False,
) -> bytes:
    """A TCP segment; longer than the wire's MTU it is one for segmentation offload."""
    header = TCP.pack(33000, 5001, seq, 1, 5 + len(options) // 4 << 4, flags, 501, 0, 0) + options
    return packet(header + payload, 16, PROTO_TCP, v6=v6, src=src, dst=dst, blank=blank)


def udp(payload: bytes, *, v6: bool = False, src: int = 1, dst: int = 2, blank: bool = False) -> bytes:
    header = UDP.pack(33000, 5001, 8 + len(payload), 0)
    return packet(header + payload, 6, PROTO_UDP, v6=v6, src=src, dst=dst, blank=blank)


def plain(length: int, *, src: int = 1, dst: int = 2) -> bytes:
    """A frame of exactly `length` bytes (14 at least) of no protocol known, every page of it different."""
    body = b"".join([i.to_bytes(4, "big") for i in range(length // 4)])
    return (ETHERNET.pack(mac(dst), mac(src), 0x88B5) + body)[:length]


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """With VLAN tags (ethertype, TCI), the outer first."""
    return frame[:12] + b"".join(kind.to_bytes(2, "big") + tci.to_bytes(2, "big") for kind, tci in tags) + frame[12:]


def extended(frame: bytes, *headers: tuple[int, int]) -> bytes:
    """An IPv6 frame with extension headers (kind, bytes) in front of its payload."""
    after, chain = frame[20], b""
    for kind, length in reversed(headers):
        chain = bytes([after, length // 8 - 1]) + bytes(length - 2) + chain
        after = kind
    size = int.from_bytes(frame[18:20], "big") + len(chain)
    return frame[:18] + size.to_bytes(2, "big") + bytes([after]) + frame[21:54] + chain + frame[54:]


def changed(frame: bytes, at: int, data: bytes, options: bytes = b"") -> bytes:
    """An IPv4 frame without options, with other bytes at an offset of its header, and options; summed again."""
    head = bytearray(frame[14:34] + options)
    head[at : at + len(data)] = data
    head[0], head[2:4] = 0x40 | len(head) // 4, (len(frame) - 14 + len(options)).to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = (0xFFFF ^ ones(bytes(head))).to_bytes(2, "big")
    return frame[:14] + bytes(head) + frame[34:]


class Seen(NamedTuple):
    """What a frame says of itself."""

    l2: bytes

    v6: bool
    protocol: int
    seq: int
    payload: bytes
    l3: bytes
    hosts: bytes
    l4: bytes


def look(frame: bytes) -> Seen:
    """Take a TCP or UDP frame apart: tags, options and extension headers stay with their layer. AssertionError for
    lengths or a version that are not so."""
    at = 14
    while (ethertype := int.from_bytes(frame[at - 2 : at], "big")) in TAGS:
        at += 4
    v6 = ethertype == ETH_IPV6
    assert v6 or ethertype == ETH_IP, f"ethertype {ethertype:#x}"
    ip = frame[at:]
    if v6:
        version, size, protocol = ip[0] >> 4, 40, ip[6]
        total, hosts = 40 + int.from_bytes(ip[4:6], "big"), ip[8:40]
        while protocol in IPV6_OPTIONS:
            protocol, size = ip[size], size + 8 * ip[size + 1] + 8
    else:
        version, size, protocol = ip[0] >> 4, (ip[0] & 15) * 4, ip[9]
        total, hosts = int.from_bytes(ip[2:4], "big"), ip[12:20]
    assert version == (6 if v6 else 4), f"IP version {version}"
    assert total == len(ip), f"IP says {total} bytes, there are {len(ip)}"
    l4 = ip[size:]
    seq, header = (unpack_from("!I", l4, 4)[0], (l4[12] >> 4) * 4) if protocol == PROTO_TCP else (0, 8)
    assert protocol != PROTO_UDP or int.from_bytes(l4[4:6], "big") == len(l4), "UDP's length"
    return Seen(frame[:at], v6, protocol, seq, l4[header:], ip[:size], hosts, l4)


def flaw(frame: bytes) -> str:
    """What is wrong on the wire with a TCP or UDP frame; empty when its lengths and checksums are right."""
    try:
        seen = look(frame)
    except (AssertionError, IndexError) as error:
        return str(error)
    if not seen.v6 and ones(seen.l3) != 0xFFFF:
        return "IPv4 header checksum"
    if ones(pseudo(seen.v6, seen.hosts, seen.protocol, len(seen.l4)) + seen.l4) != 0xFFFF:
        return "TCP or UDP checksum"
    return ""


def stream(frames: list[bytes]) -> bytes:
    """The payload that TCP segments carry, put together by their sequence numbers. AssertionError when one lacks."""
    parts = sorted((seen.seq, seen.payload) for seen in map(look, frames))
    at, data = parts[0][0] if parts else 0, b""
    for seq, payload in parts:
        assert seq == at + len(data), f"segment {seq} does not follow {at + len(data)}"
        data += payload
    return data


def fragment(frame: bytes, word: int) -> bytes:
    """An IPv4 frame that says it is a fragment, its header's sum right."""
    return changed(frame, 6, word.to_bytes(2, "big"))


ARP = (
    mac(2)
    + mac(1)
    + bytes.fromhex("0806 0001 0800 0604 0001")
    + mac(1)
    + bytes.fromhex("0a000001 000000000000 0a000002")
)
SOME = bytes(range(256)) * 6
ODD = {
    "ARP": ARP,
    "ARP, padded": ARP + bytes(18),
    "a VLAN tag": tagged(tcp(b"tagged"), (0x8100, 0x2007)),
    "two VLAN tags": tagged(udp(b"QinQ"), (0x88A8, 100), (0x8100, 7)),
    "a priority tag": tagged(plain(60), (0x8100, 0xE000)),
    "LLC": mac(2) + mac(1) + (38).to_bytes(2, "big") + bytes.fromhex("424203") + bytes(35),
    "no payload at all": plain(14),
    "15 bytes": plain(15),
    "59 bytes": plain(59),
    "60 bytes": plain(60),
    "1514 bytes": plain(1514),
    "a first fragment": fragment(udp(SOME[:1472]), 0x2000),
    "a later fragment": fragment(udp(SOME[:1200]), 0x20B9),
    "the last fragment": fragment(udp(SOME[:33]), 0x0172),
    "an IPv6 fragment": extended(udp(SOME[:100], v6=True), (44, 8)),
    "IPv6 extension headers": extended(tcp(SOME[:100], v6=True), (0, 8), (43, 16), (60, 24)),
    "IPv4 options": tcp(b"x" * 40)[:14] + b"\x4f" + tcp(b"x" * 40)[15:],
    "IPv4 that says it is longer": udp(b"short")[:16] + b"\xff\xff" + udp(b"short")[18:],
    "IPv4 that says it is shorter": udp(b"trailer")[:16] + b"\0\x15" + udp(b"trailer")[18:],
    "an IPv4 header of no length": b"".join([tcp(b"x")[:14], b"\x40", tcp(b"x")[15:]]),
    "half an IPv4 header": tcp(b"x")[:24],
    "half a TCP header": tcp(b"x")[:40],
    "a checksum that is wrong": tcp(b"x" * 20)[:50] + b"\x55\xaa" + tcp(b"x" * 20)[52:],
    "UDP without a checksum": udp(b"none")[:40] + b"\0\0" + udp(b"none")[42:],
    "a broadcast": b"\xff" * 6 + plain(100)[6:],
    "a multicast": bytes.fromhex("01005e000001") + plain(100)[6:],
}
"""Frames that nobody on the way has anything to do with, from host 1 to host 2."""
