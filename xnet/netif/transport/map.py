"""Out of a guest by mapping: its pages appear in the backend's window, are read there, and are unmapped again."""

from __future__ import annotations

from xnet.abi.xen.netif import XEN_NETIF_RSP_ERROR, XEN_NETIF_RSP_OKAY
from xnet.frame import Frames
from xnet.frame.chain import Bring
from xnet.hv.api import Mapping, Xen
from xnet.netif.gather import Packet
from xnet.netif.transport.copy import GRANT_ERROR, Failure, singly


class MapFetch:
    """Guest pages, mapped read-only for as long as the chain is lent."""

    def __init__(self, xen: Xen, domid: int) -> None:
        self.xen = xen
        self.domid = domid
        self.handles: list[int] = []
        self.bring: Bring | None = None  # nothing is left behind
        self.packets: list[Packet] = []
        self.failures: dict[int, Failure] = {}
        """What failed, by its place among the packets."""

    def fetch_burst(self, data: bytes, most: int, room: int, frames: Frames) -> tuple[bytes, int]:
        """Nothing goes by without being read packet by packet."""
        return b"", 0

    def read(self) -> list[Packet]:
        """The packets of the burst."""
        return self.packets

    def fetch(self, packets: list[Packet], frames: Frames) -> None:
        """Map whole packets, adding them to `frames`; what failed is in `failures`."""
        self.packets, self.failures = packets, {}
        for index, packet in enumerate(packets):
            if not packet.error:
                statuses = self.fetch_one(packet, frames)
                if statuses:
                    self.failures[index] = (GRANT_ERROR, statuses)

    def fetch_one(self, packet: Packet, frames: Frames) -> list[int]:
        """Map one packet's pages. When one cannot be mapped, the packet is dropped: the status of each of its slots."""
        segments = singly(packet.segments)
        used = [segment for segment in segments if segment[2]]
        mapped = self.xen.map_grants(self.domid, [gref for gref, _, _ in used], readonly=True)
        results = iter(mapped)
        pieces, statuses = [], []
        for gref, offset, size in segments:
            status = XEN_NETIF_RSP_OKAY
            if size:
                result = next(results)
                if isinstance(result, Mapping):
                    self.handles.append(result.handle)
                    pieces.append((result.addr + offset, size, self.domid, gref))
                else:
                    status = XEN_NETIF_RSP_ERROR
            statuses.append(status)
        if any(statuses):
            return statuses
        frames.append((packet.word, packet.length, tuple(pieces)))
        return []

    def release(self) -> None:
        """The chain has been handed back: unmap all of it."""
        if self.handles:
            self.xen.unmap_grants(self.handles)
            self.handles = []
