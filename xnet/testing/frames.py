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


def tcp(payload: bytes, *, v6: bool = False, src: int = 1, dst: int = 2, seq: int = 1000, blank: bool = False) -> bytes:
    """A TCP segment with ACK and PSH; longer than the wire's MTU it is one for segmentation offload."""
    header = TCP.pack(33000, 5001, seq, 1, 5 << 4, ACK | PSH, 501, 0, 0)
    return packet(header + payload, 16, PROTO_TCP, v6=v6, src=src, dst=dst, blank=blank)


def udp(payload: bytes, *, v6: bool = False, src: int = 1, dst: int = 2, blank: bool = False) -> bytes:
    header = UDP.pack(33000, 5001, 8 + len(payload), 0)
    return packet(header + payload, 6, PROTO_UDP, v6=v6, src=src, dst=dst, blank=blank)


def plain(length: int, *, src: int = 1, dst: int = 2) -> bytes:
    """A frame of exactly `length` bytes (14 at least) of no protocol known, every page of it different."""
    body = b"".join([i.to_bytes(4, "big") for i in range(length // 4)])
    return (ETHERNET.pack(mac(dst), mac(src), 0x88B5) + body)[:length]


class Seen(NamedTuple):
    """What a frame says of itself."""

    v6: bool
    protocol: int
    seq: int
    payload: bytes
    l3: bytes
    hosts: bytes
    l4: bytes


def look(frame: bytes) -> Seen:
    """Take a TCP or UDP frame apart. AssertionError for lengths or a version that are not so."""
    _, _, ethertype = ETHERNET.unpack_from(frame)
    v6 = ethertype == ETH_IPV6
    assert v6 or ethertype == ETH_IP, f"ethertype {ethertype:#x}"
    ip = frame[14:]
    if v6:
        version, size, protocol = ip[0] >> 4, 40, ip[6]
        total, hosts = 40 + int.from_bytes(ip[4:6], "big"), ip[8:40]
    else:
        version, size, protocol = ip[0] >> 4, (ip[0] & 15) * 4, ip[9]
        total, hosts = int.from_bytes(ip[2:4], "big"), ip[12:20]
    assert version == (6 if v6 else 4), f"IP version {version}"
    assert total == len(ip), f"IP says {total} bytes, there are {len(ip)}"
    l4 = ip[size:]
    seq, header = (unpack_from("!I", l4, 4)[0], (l4[12] >> 4) * 4) if protocol == PROTO_TCP else (0, 8)
    return Seen(v6, protocol, seq, l4[header:], ip[:size], hosts, l4)


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
