"""Floor 1: what travels. A chain is a burst of frames; a Link is the door it goes through.

Frames are never objects of their own: `chain` says how a burst is laid out, `frames` holds it, `link` who takes it,
`ether` looks at headers inside a view, `offload` finishes checksums and segments in software when
the far side did not negotiate it, in staging pages from an `arena`; `gro` makes one frame of segments that go on.
A chain is lent for the call; who needs a frame longer copies it. Large frames keep their offload word from the guest
that sent them to the place that must resolve it: the largest lever on speed there is.
"""

from xnet.frame.arena import Arena
from xnet.frame.chain import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_TYPE_MASK,
    GSO_TYPE_SHIFT,
    Chain,
    Frame,
    Piece,
    own,
)
from xnet.frame.ether import (
    ETH_HLEN,
    head,
    is_multicast,
    mac_bytes,
    mac_text,
    network,
    offload_word,
    transport,
    vnet_header,
    wire_length,
)
from xnet.frame.frames import Frames
from xnet.frame.link import FRAME_MAX, MOST_PAGES, Client, Link, Sink, bytes_for, pages_of
from xnet.frame.offload import Accepts, finish_checksum, fit, segment

__all__ = [
    "CSUM_BLANK",
    "DATA_VALIDATED",
    "ETH_HLEN",
    "FRAME_MAX",
    "GSO_SIZE_SHIFT",
    "GSO_TCPV4",
    "GSO_TCPV6",
    "GSO_TYPE_MASK",
    "GSO_TYPE_SHIFT",
    "MOST_PAGES",
    "Accepts",
    "Arena",
    "Chain",
    "Client",
    "Frame",
    "Frames",
    "Link",
    "Piece",
    "Sink",
    "bytes_for",
    "finish_checksum",
    "fit",
    "head",
    "is_multicast",
    "mac_bytes",
    "mac_text",
    "network",
    "offload_word",
    "own",
    "pages_of",
    "segment",
    "transport",
    "vnet_header",
    "wire_length",
]
