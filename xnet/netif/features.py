"""Features: what each end says in xenstore, and what follows for each direction.

A key of the backend says what it takes from the guest, a key of the frontend what it takes from the backend. So a
direction's features are what the receiver's keys say, less what the sender does not care to use. Absent keys have the
defaults of the public header: everything off, but a blank IPv4 checksum, which is refused only by
``feature-no-csum-offload``. Values are decimal; whatever is not a number is 0. Source: public/io/netif.h.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import XEN_NETIF_MAX_TX_SIZE, XEN_NETIF_NR_SLOTS_MIN
from xnet.errors import XnetError
from xnet.frame.offload import Accepts

ADDRESS: Final = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
"""A MAC address in xenstore."""
HEADROOM_MAX: Final = PAGE_SIZE - (XEN_NETIF_MAX_TX_SIZE + XEN_NETIF_NR_SLOTS_MIN - 1) // XEN_NETIF_NR_SLOTS_MIN
"""With more headroom the largest frame would not fit in as many slots as every frontend takes."""
MTU_WITHOUT_SG = 1500
MTU_MAX = 65517


@dataclass(slots=True, frozen=True)
class Features:
    """What one end is willing to do, by the key's name without ``feature-``, dashes as underscores."""

    sg: bool = True
    gso_tcpv4: bool = True
    gso_tcpv6: bool = True
    csum_offload: bool = True
    ipv6_csum_offload: bool = True
    split_event_channels: bool = True
    rx_notify: bool = True
    xdp_headroom: bool = True
    """A backend leaves room in front of the data in every page it fills, if asked to; a frontend says how much."""
    multicast_control: bool = True
    """A backend offers to filter multicast for the guest; a frontend asks for it (`request-multicast-control`)."""
    dynamic_multicast_control: bool = True
    """It may be asked for at any time."""
    ctrl_ring: bool = True
    """A backend offers to hash flows as the guest wants it; a frontend asks for it (`ctrl-ring-ref`)."""
    rx_copy: bool = True
    """Frames are copied into the guest's pages (HVcopy)."""
    rx_flip: bool = False
    """The guest gets the pages that frames are in: what was done before."""

    @classmethod
    def of(cls, wanted: Mapping[str, bool]) -> Features:
        """From a lab file's table: names with dashes; absent ones are on."""
        return cls(**{name.replace("-", "_"): on for name, on in wanted.items()})

    def offload_keys(self) -> dict[str, str]:
        """The keys both ends write alike, in Linux's order."""
        keys = {
            "feature-sg": flag(self.sg),
            "feature-gso-tcpv4": flag(self.gso_tcpv4),
            "feature-gso-tcpv6": flag(self.gso_tcpv6),
            "feature-ipv6-csum-offload": flag(self.ipv6_csum_offload),
        }
        if not self.csum_offload:
            keys["feature-no-csum-offload"] = "1"
        return keys

    def backend_keys(self) -> dict[str, str]:
        """Those a backend writes at once, in Linux's order."""
        return self.offload_keys() | {
            "feature-rx-copy": flag(self.rx_copy),
            "feature-xdp-headroom": flag(self.xdp_headroom),
            "feature-rx-flip": flag(self.rx_flip),
            "feature-multicast-control": flag(self.multicast_control),
            "feature-dynamic-multicast-control": flag(self.multicast_control and self.dynamic_multicast_control),
        }

    def backend_keys_singly(self, max_queues: int) -> dict[str, str]:
        """And those it writes after them, one by one."""
        return {
            "feature-split-event-channels": flag(self.split_event_channels),
            "multi-queue-max-queues": str(max_queues),
            "feature-ctrl-ring": flag(self.ctrl_ring),
        }


FEATURE_NAMES = tuple(field.name.replace("_", "-") for field in fields(Features))
OFFLOAD_KEYS = (
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-no-csum-offload",
    "feature-ipv6-csum-offload",
)


HEADROOM: Final = "xdp-headroom"


def flag(on: bool) -> str:
    """A flag as every frontend reads it: exactly ``1`` or ``0`` (Windows parses in base 2, Mirage compares text)."""
    return "1" if on else "0"


def number(text: str | None, default: int = 0) -> int:
    """An unsigned decimal of the peer's; absent: `default`; rubbish: 0."""
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0


def agree(receiver: Mapping[str, str | None], sender: Features) -> Accepts:
    """One direction: what the receiver's keys take, less what the sender does not use. GSO needs sg and checksums."""
    sg = bool(number(receiver.get("feature-sg"))) and sender.sg
    csum4 = not number(receiver.get("feature-no-csum-offload")) and sender.csum_offload
    csum6 = bool(number(receiver.get("feature-ipv6-csum-offload"))) and sender.ipv6_csum_offload
    return Accepts(
        csum4=csum4,
        csum6=csum6,
        gso4=sg and csum4 and bool(number(receiver.get("feature-gso-tcpv4"))) and sender.gso_tcpv4,
        gso6=sg and csum6 and bool(number(receiver.get("feature-gso-tcpv6"))) and sender.gso_tcpv6,
        sg=sg,
        max_frame=XEN_NETIF_MAX_TX_SIZE if sg else PAGE_SIZE,
    )


def rx_mode(offers: Mapping[str, str | None], wanted: Features) -> str:
    """How frames get into the guest, "copy" or "flip", by the backend's keys and what the frontend is willing to do;
    XnetError says what is missing. Without keys a backend flips: those of before knew nothing else."""
    copy = bool(number(offers["feature-rx-copy"]))
    flip = bool(number(offers["feature-rx-flip"], 1))
    if wanted.rx_copy and copy:
        return "copy"
    if wanted.rx_flip and flip:
        return "flip"
    missing = {
        (True, False): "copying receive path (feature-rx-copy)",
        (False, True): "page flipping (feature-rx-flip)",
    }.get(
        (wanted.rx_copy, wanted.rx_flip), "copying receive path (feature-rx-copy), nor page flipping (feature-rx-flip)"
    )
    raise XnetError(f"backend does not support {missing}")


def flips(request: str | None, offered: Features) -> bool:
    """Whether a backend flips pages for a frontend, by its request-rx-copy; XnetError says what does not fit. Without
    the key a frontend means flipping, but one whose backend does not is taken for forgetful, as Linux' netback does it.
    """
    if number(request):
        if not offered.rx_copy:
            raise XnetError("frontend asks for copying (request-rx-copy=1), only page flipping is offered")
        return False
    if request is not None and not offered.rx_flip:
        raise XnetError("frontend asks for page flipping (request-rx-copy=0), only copying is offered")
    return offered.rx_flip


def headroom(request: str | None, offered: Features, *, flips: bool) -> int:
    """What a frontend gets that asks for so much (`xdp-headroom`); flipped pages have none."""
    return min(number(request), HEADROOM_MAX) if offered.xdp_headroom and not flips else 0


def usable_mtu(mtu: int, accepts: Accepts) -> int:
    """What a device may send: without sg one slot of 1500 bytes, whatever was configured (Linux's netfront)."""
    return min(mtu, MTU_MAX if accepts.sg else MTU_WITHOUT_SG)


def describe(accepts: Accepts) -> dict[str, bool]:
    """For people and JSON, by the keys' names."""
    return {
        "sg": accepts.sg,
        "gso-tcpv4": accepts.gso4,
        "gso-tcpv6": accepts.gso6,
        "csum-offload": accepts.csum4,
        "ipv6-csum-offload": accepts.csum6,
    }
