"""Headers inside a view: total functions, which answer None to short or strange input and never raise.

A ``view`` begins at the frame's first byte and holds at least its headers (`HEAD_BYTES`, or the whole frame);
``length`` is the frame's own, which may be less than the view (a page) or more (only the head is there). Fragments
have no transport: their checksum is never blank. Source: IEEE 802.3, 802.1Q; RFC 791, 8200, 9293, 768.

=============  ==============================================
offset         Ethernet, then plain IPv4
=============  ==============================================
0, 6, 12       destination, source, type (0x8100: tag, then type)
14, 16, 20     version and header words, total length, flags and fragment offset
23, 26, 30     protocol, source, destination
=============  ==============================================
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from xnet.abi.linux.virtio_net import (
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VNET_HDR,
    VNET_HDR_SIZE,
)
from xnet.frame.chain import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_TYPE_MASK,
    Chain,
    Frame,
)

ETH_HLEN: Final = 14
VLAN_HLEN: Final = 4
ETH_P_IP: Final = 0x0800
ETH_P_8021Q: Final = 0x8100
ETH_P_8021AD: Final = 0x88A8
ETH_P_IPV6: Final = 0x86DD
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
BROADCAST: Final = b"\xff" * 6

HEAD_BYTES: Final = 256
"""Headers fit in this many bytes: Linux refuses to look further for a checksum."""

CHECKSUM_AT: Final = {IPPROTO_TCP: 16, IPPROTO_UDP: 6}
L4_HEADER: Final = {IPPROTO_TCP: 20, IPPROTO_UDP: 8}
IPV6_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
NESTING: Final = 8
"""Tags, or IPv6 extension headers, looked through; a frame made of nothing else costs no more."""

TCP_CWR: Final = 0x80
SHAPE: Final = 0xF000 | TCP_CWR
"""Bits of TCP's data offset and flags on which a header depends."""

Transport = tuple[int, int, int]
"""Byte offset of the L4 header, of its checksum relative to that, and the IP protocol."""

PLAIN_HEAD: Final = Struct("12x12s").unpack_from
"""From the type to the protocol of plain IPv4."""
PLAIN_TCP_HEAD: Final = Struct("12x36s").unpack_from
"""On to TCP's data offset and flags."""
SHAPED: Final = 128
"""Bytes that hold every header of plain IPv4."""

VNET_PLAIN: Final = bytes(VNET_HDR_SIZE)
VNET_VALID: Final = VNET_HDR.pack(VIRTIO_NET_HDR_F_DATA_VALID, 0, 0, 0, 0, 0)
VNET_TCP4: Final = VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 16)
VNET_UDP4: Final = VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 6)
GSO_WORD: Final = {VIRTIO_NET_HDR_GSO_TCPV4: GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6: GSO_TCPV6}
GSO_VNET: Final = {word: kind for kind, word in GSO_WORD.items()}
GSO_ETHERTYPE: Final = {GSO_TCPV4: ETH_P_IP, GSO_TCPV6: ETH_P_IPV6}
GSO_BY_FRAGS: Final = 0xFFFF  # a segment size that Linux keeps for itself

MAC_TEXT: Final = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")


def mac_bytes(text: str) -> bytes | None:
    """``00:16:3e:0:0:1`` to six bytes (zeros may be left out, as Solaris prints them); None if it is not an address."""
    return bytes(int(octet, 16) for octet in text.split(":")) if MAC_TEXT.fullmatch(text) else None


def mac_text(mac: bytes) -> str:
    """Six bytes to ``00:16:3e:00:00:01``."""
    return bytes(mac).hex(":")


def is_multicast(mac: bytes | memoryview) -> bool:
    """True for a group address, broadcast included; False for fewer than six bytes."""
    return len(mac) >= 6 and bool(mac[0] & 1)


def head(chain: Chain, frame: Frame) -> memoryview:
    """A view that holds the frame's headers, for the functions below: its first piece, or a copy if that is short."""
    addr, length, _, _ = frame[2][0]
    if length >= HEAD_BYTES or len(frame[2]) == 1:
        return chain.memory[addr : addr + length]
    gathered = bytearray()
    for view in chain.views(frame):
        gathered += view[:HEAD_BYTES]
        if len(gathered) >= HEAD_BYTES:
            break
    return memoryview(gathered)


def network(view: memoryview, length: int) -> tuple[int, int] | None:
    """Byte offset of the L3 header and its ethertype, past any VLAN tags."""
    size = min(length, len(view))
    for at in range(12, 13 + NESTING * VLAN_HLEN, VLAN_HLEN):
        if at + 2 > size:
            return None
        ethertype = view[at] << 8 | view[at + 1]
        if ethertype not in (ETH_P_8021Q, ETH_P_8021AD):
            return at + 2, ethertype
    return None


def plain4(view: memoryview, length: int) -> int:  # hot: 0.3 us
    """The protocol of whole TCP or UDP in plain IPv4 (no tags, options or fragments), whose header is at 34; else 0."""
    size = len(view)
    if size > length:
        size = length
    if size < 42:
        return 0
    head: bytes = PLAIN_HEAD(view)[0]
    protocol = plain_protocol(head)
    return protocol if protocol == IPPROTO_UDP or (protocol == IPPROTO_TCP and size >= 54) else 0


def plain_protocol(head: bytes) -> int:
    """The protocol in plain IPv4, 0 in anything else; `head` is what comes after the addresses of Ethernet."""
    if head[0] != 0x08 or head[1] or head[2] != 0x45 or head[8] & 0x3F or head[9]:
        return 0
    return head[11]


def transport(view: memoryview, length: int) -> Transport | None:
    """Where the outer TCP or UDP header is; None for anything else, fragments included."""
    protocol = plain4(view, length)
    if protocol:
        return 34, CHECKSUM_AT[protocol], protocol
    return _walk(view, min(len(view), length))


def _walk(view: memoryview, size: int) -> Transport | None:
    """`transport` for what is not plain IPv4."""
    found = network(view, size)
    if found is None:
        return None
    at, ethertype = found
    l4, protocol = -1, 0
    if ethertype == ETH_P_IP and at + 20 <= size and view[at] >> 4 == 4 and view[at] & 15 >= 5:
        if not (view[at + 6] & 0x3F or view[at + 7]):
            l4, protocol = at + (view[at] & 15) * 4, view[at + 9]
    elif ethertype == ETH_P_IPV6 and at + 40 <= size and view[at] >> 4 == 6:
        l4, protocol = at + 40, view[at + 6]
        for _ in range(NESTING):
            if protocol not in IPV6_EXTENSIONS or l4 + 8 > size:
                break
            protocol, l4 = view[l4], l4 + view[l4 + 1] * 8 + 8
    if l4 < 0 or protocol not in CHECKSUM_AT or l4 + L4_HEADER[protocol] > size:
        return None
    return l4, CHECKSUM_AT[protocol], protocol


def ip_end(view: memoryview, length: int) -> int:
    """Bytes up to the end of the IP packet: the frame less its Ethernet padding; `length` if IP does not say."""
    found = network(view, length)
    if found is None or found[0] + 6 > len(view):
        return length
    at, ethertype = found
    if ethertype == ETH_P_IP:
        header, end = 20, at + (view[at + 2] << 8 | view[at + 3])
    elif ethertype == ETH_P_IPV6:
        header, end = 40, at + 40 + (view[at + 4] << 8 | view[at + 5])
    else:
        return length
    return end if at + header < end <= length else length


def headers_length(view: memoryview, place: Transport) -> int:
    """Bytes of a frame up to its TCP or UDP payload."""
    l4, _, protocol = place
    if protocol == IPPROTO_UDP or l4 + 12 >= len(view):
        return l4 + L4_HEADER[protocol]
    return l4 + (view[l4 + 12] >> 4) * 4


def plain_tcp4(view: memoryview, length: int, at: int = 0) -> int:  # hot: 0.4 us
    """TCP's data offset and flags (16 bits) in IPv4 without tags and options, of which `SHAPED` bytes are there from
    `at` on; else -1: look closely."""
    if length < SHAPED or len(view) - at < SHAPED:
        return -1
    head: bytes = PLAIN_TCP_HEAD(view, at)[0]
    return head[34] << 8 | head[35] if plain_protocol(head) == IPPROTO_TCP else -1


def plain_tcp4_headers(offset: int) -> int:
    """Bytes of all headers, by what `plain_tcp4` found."""
    return 34 + (offset >> 12) * 4


def wire_length(word: int, view: memoryview, length: int) -> int:
    """Bytes of the largest frame this one becomes on a wire: itself, or one segment of it."""
    if word & GSO_TYPE_MASK:
        offset = plain_tcp4(view, length)
        if offset >= 0:
            segment = plain_tcp4_headers(offset) + (word >> GSO_SIZE_SHIFT)
            return segment if segment < length else length
        place = transport(view, length)
        if place is not None:
            return min(length, headers_length(view, place) + (word >> GSO_SIZE_SHIFT))
    return length


def plain_segment(chain: Chain, frame: Frame) -> int:  # hot: 0.4 us
    """`wire_length` of TCP that is to be segmented, in plain IPv4 and with `SHAPED` bytes in its first piece; 0 for
    anything else."""
    word, _, pieces = frame
    addr, size, _, _ = pieces[0]
    offset = plain_tcp4(chain.memory, size, addr) if word & GSO_TYPE_MASK else -1
    return plain_tcp4_headers(offset) + (word >> GSO_SIZE_SHIFT) if offset >= 0 else 0


def vnet_header(word: int, view: memoryview, length: int) -> bytes:  # hot: plain 0.1, blank IPv4 1 us
    """The virtio-net header that a TAP needs before this frame; the kernel never answers it with EINVAL.

    A GSO frame is blank whether or not it says so. Where the word promises what is not there (no outer TCP or UDP,
    the other family, no segment size), the frame goes as far as it can and its receiver refuses it.
    """
    shape = header_shape(word, view, length)
    if shape >= 0:
        return shaped_header(word, shape)
    place = transport(view, length)
    if place is None:
        return VNET_PLAIN
    l4, checksum, _ = place
    kind = _vnet_gso(word, view, length, place) if word & GSO_TYPE_MASK else 0
    if not kind:
        return VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, l4, checksum)
    headers = min(length, headers_length(view, place))
    return VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, headers, word >> GSO_SIZE_SHIFT, l4, checksum)


def header_shape(word: int, view: memoryview, length: int) -> int:  # hot
    """All that the virtio-net header depends on but the word, in plain IPv4: TCP's data offset, and CWR if set, where
    there are segments; the protocol where a checksum is blank; else 0. -1: it depends on more."""
    gso = word & GSO_TYPE_MASK
    if gso:
        offset = plain_tcp4(view, length) if gso == GSO_TCPV4 else -1
        return offset & SHAPE if offset >= 0 else -1
    if word & CSUM_BLANK:
        protocol = plain4(view, length)
        return protocol if protocol else -1
    return 0


def shaped_header(word: int, shape: int) -> bytes:
    """The virtio-net header of every frame of this word and shape."""
    size = word >> GSO_SIZE_SHIFT
    if word & GSO_TYPE_MASK and 0 < size < GSO_BY_FRAGS:
        kind = VIRTIO_NET_HDR_GSO_TCPV4 | (VIRTIO_NET_HDR_GSO_ECN if shape & TCP_CWR else 0)
        return VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, plain_tcp4_headers(shape), size, 34, 16)
    if word & (GSO_TYPE_MASK | CSUM_BLANK):
        return VNET_UDP4 if shape == IPPROTO_UDP else VNET_TCP4
    return VNET_VALID if word & DATA_VALIDATED else VNET_PLAIN


def _vnet_gso(word: int, view: memoryview, length: int, place: Transport) -> int:
    """virtio's gso type for a word that names one; 0 where the kernel would refuse the frame."""
    gso, size = word & GSO_TYPE_MASK, word >> GSO_SIZE_SHIFT
    found = network(view, length)
    if place[2] != IPPROTO_TCP or found is None or GSO_ETHERTYPE.get(gso) != found[1]:
        return 0
    if not 0 < size < GSO_BY_FRAGS:
        return 0
    return GSO_VNET[gso] | (VIRTIO_NET_HDR_GSO_ECN if view[place[0] + 13] & TCP_CWR else 0)


def header_word(hdr: bytes) -> int:
    """The offload word, if the virtio-net header `hdr` says it all; -1: look at the frame (`offload_word`).

    It does when no checksum is blank, and when one is at 34: that can only be TCP or UDP in plain IPv4, for the kernel
    leaves nothing else undone there.
    """
    if len(hdr) < VNET_HDR_SIZE:
        return -1
    flags, kind, _, size, start, offset = VNET_HDR.unpack_from(hdr)
    if not flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        if kind:
            return -1
        return DATA_VALIDATED if flags & VIRTIO_NET_HDR_F_DATA_VALID else 0
    if start != 34 or offset not in CHECKSUM_AT.values():
        return -1
    if not kind:
        return CSUM_BLANK | DATA_VALIDATED
    if kind & ~VIRTIO_NET_HDR_GSO_ECN != VIRTIO_NET_HDR_GSO_TCPV4 or offset != CHECKSUM_AT[IPPROTO_TCP] or not size:
        return -1
    return CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | int(size) << GSO_SIZE_SHIFT


def offload_word(hdr: bytes, view: memoryview, length: int) -> int | None:
    """The offload word for a frame read from a TAP behind the virtio-net header `hdr`.

    None where netif cannot say it: a blank checksum that is not the outer TCP or UDP one (finish it with
    `offload.finish_checksum` at the header's csum_start and csum_offset), or segmentation that is not TCP's.
    """
    word = header_word(hdr)
    if word >= 0:
        return word
    if len(hdr) < VNET_HDR_SIZE:
        return None
    flags, kind, _, size, start, offset = VNET_HDR.unpack_from(hdr)
    place = transport(view, length)
    if not flags & VIRTIO_NET_HDR_F_NEEDS_CSUM or place is None or place[0] != start or place[1] != offset:
        return None
    if not kind:
        return CSUM_BLANK | DATA_VALIDATED
    gso = GSO_WORD.get(kind & ~VIRTIO_NET_HDR_GSO_ECN)
    if gso is None or not size or place[2] != IPPROTO_TCP:
        return None
    return CSUM_BLANK | DATA_VALIDATED | gso | int(size) << GSO_SIZE_SHIFT
