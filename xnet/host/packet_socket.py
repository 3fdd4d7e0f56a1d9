"""A packet socket on an Ethernet device that is not ours: a real NIC, or our end of a veth pair.

It reads and writes what a TAP's descriptor does: a virtio-net header (10 bytes), then the frame, so that checksums and
segments stay undone in both directions. The device keeps its place, its address and its own stack in its namespace.

- What that stack sends is not read (PACKET_IGNORE_OUTGOING), and what is written goes out of the device: host and vnics
  do not meet here. As with macvlan, the host has a vnic of its own for that.
- A NIC takes frames for its own address only. Others are asked for (`hear`), or all (`promiscuous`); the kernel makes a
  device that cannot choose promiscuous by itself. All multicast is taken.
- The kernel takes VLAN tags out of frames, and tells them beside (PACKET_AUXDATA).
- The device may go down and up again, or go away: reads then say ENETDOWN once, writes ENETDOWN or ENXIO. The first is
  an error to epoll, too, and libuv never looks again at what has had one. So a loop is to watch `bell`, a descriptor
  that is readable whenever there is anything to read, an error included.

Nothing of it outlives the descriptor. Source: packet(7), netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
from collections.abc import Iterable
from struct import Struct

from ..abi.linux.if_packet import (
    PACKET_ADD_MEMBERSHIP,
    PACKET_AUXDATA,
    PACKET_DROP_MEMBERSHIP,
    PACKET_IGNORE_OUTGOING,
    PACKET_MR_ALLMULTI,
    PACKET_MR_PROMISC,
    PACKET_MR_UNICAST,
    PACKET_MREQ,
    PACKET_STATISTICS,
    PACKET_VNET_HDR,
    TPACKET_STATS,
)
from ..errors import HostError
from .netns import open_in_netns

SOL_PACKET = 263
ETH_P_ALL = 3
ARPHRD_ETHER = 1
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BUFFER = 8 << 20
"""Bytes of frames the kernel keeps for us, each way."""
IFREQ_INT = Struct("=16si20x")  # name number, padded to sizeof(struct ifreq)
IFREQ_FLAGS = Struct("=16sH22x")
SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFINDEX = 0x8913, 0x8921, 0x8933
RUNNING = 0x41  # IFF_UP, IFF_RUNNING

HELP = {
    errno.EPERM: "not permitted; run as root or with CAP_NET_RAW",
    errno.ENODEV: "no such interface",
    errno.EAFNOSUPPORT: "the kernel has no packet sockets; load them (modprobe af_packet)",
    errno.EPROTONOSUPPORT: "the kernel has no packet sockets; load them (modprobe af_packet)",
}


class PacketSocket:
    """One device's frames; `mac` is its own address. HostError names what cannot be, and the fix."""

    def __init__(self, device: str, netns_fd: int | None = None) -> None:
        """`netns_fd`: the device's namespace; None: the caller's."""
        self.device = device
        self.lost = 0
        self.heard: set[bytes] = set()
        self.all = False
        self._epoll = select.epoll()
        try:
            self._socket = open_in_netns(
                netns_fd, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            )
        except OSError as error:
            self._epoll.close()
            raise refused(device, "socket", error) from error
        try:
            self._prepare()
            self._epoll.register(self._socket, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        sock, level = self._socket, SOL_PACKET
        try:
            sock.setsockopt(level, PACKET_VNET_HDR, 1)
            sock.setsockopt(level, PACKET_AUXDATA, 1)
            sock.setsockopt(level, PACKET_IGNORE_OUTGOING, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
            sock.bind((self.device, ETH_P_ALL))  # no frame came before this
        except OSError as error:
            raise refused(self.device, "bind", error) from error
        _, _, _, kind, self.mac = sock.getsockname()
        if kind != ARPHRD_ETHER:
            raise HostError(f"{self.device}: not an Ethernet interface", errno=errno.EINVAL, device=self.device)
        self._member(PACKET_ADD_MEMBERSHIP, PACKET_MR_ALLMULTI)

    @property
    def fd(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._socket.fileno()

    @property
    def bell(self) -> int:
        """What a loop watches."""
        return self._epoll.fileno()

    def hear(self, macs: Iterable[bytes]) -> None:
        """Take frames for these addresses besides the device's own, and for no others any more. HostError for one that
        the device does not take; the others are heard all the same."""
        wanted, failed = set(macs) - {self.mac}, None
        for mac in sorted(self.heard ^ wanted):
            order = PACKET_ADD_MEMBERSHIP if mac in wanted else PACKET_DROP_MEMBERSHIP
            try:
                self._member(order, PACKET_MR_UNICAST, mac)
            except HostError as error:
                failed = error
            else:
                self.heard ^= {mac}
        if failed is not None:
            raise failed

    def promiscuous(self, on: bool) -> None:
        """Take all frames, whoever they are for, or not any more. HostError."""
        if on != self.all:
            self._member(PACKET_ADD_MEMBERSHIP if on else PACKET_DROP_MEMBERSHIP, PACKET_MR_PROMISC)
            self.all = on

    def is_up(self) -> bool:
        """The device is there and up, with a carrier."""
        return self._ask(SIOCGIFFLAGS, IFREQ_FLAGS) & RUNNING == RUNNING

    def mtu(self) -> int:
        """The device's; 0 when it is gone."""
        return self._ask(SIOCGIFMTU, IFREQ_INT)

    def drops(self) -> int:
        """Frames that came while nobody read for so long that there was no room."""
        if self.fd >= 0:
            statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, TPACKET_STATS.size)
            self.lost += TPACKET_STATS.unpack(statistics)[1]
        return self.lost

    def close(self) -> None:
        """Give the descriptor up, and all that was asked of the device. Twice is allowed."""
        self._epoll.close()
        self._socket.close()

    def _member(self, order: int, kind: int, mac: bytes = b"") -> None:
        """Ask for frames, or no longer. What is gone with its device needs no more asking."""
        try:
            index = self._ask(SIOCGIFINDEX, IFREQ_INT)
            if index:
                request = PACKET_MREQ.pack(index, kind, len(mac), int.from_bytes(mac, "little"))
                self._socket.setsockopt(SOL_PACKET, order, request)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EADDRNOTAVAIL):
                raise refused(self.device, mac.hex(":"), error) from error

    def _ask(self, request: int, layout: Struct) -> int:
        """A number by ioctl, by the name the device has now; 0 when it is gone."""
        try:
            name: str = self._socket.getsockname()[0]
            said: int = layout.unpack(fcntl.ioctl(self._socket, request, layout.pack(name.encode(), 0)))[1]
        except OSError:
            return 0
        return said


def refused(device: str, what: str, error: OSError) -> HostError:
    """What the kernel would not do, named."""
    number = error.errno or 0
    text = HELP.get(number, f"{what}: {error.strerror}")
    return HostError(f"{device}: {text}", errno=number, call="packet socket", device=device)
