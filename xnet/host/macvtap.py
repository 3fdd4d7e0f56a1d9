"""A macvtap: a descriptor that has a NIC to itself, with a TAP's manners.

Mode passthru: whatever comes to the NIC comes here, whatever is written leaves by it, and the NIC's own stack hears
nothing but group frames as long as it is there. The device (rtnetlink, kind macvtap) is made in a namespace of ours
that nobody else enters and that goes with the engine, however that ends; the NIC stays where it is.

The kernel shows the descriptor as a character device, ``/dev/tapN``, N being an index within the device's namespace, so
two of one name are possible. Its number is in that namespace's sysfs: both are looked at in a mount namespace that ends
with the thread which looks, through a node made there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable

from ..abi.linux import tun
from ..abi.linux.virtio_net import VNET_HDR_SIZE
from ..errors import HostError
from .libc import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
from .netns import open_in_netns
from .tap import IFREQ

SYS = "/sys"
"""Mounted over in the mount namespace; nothing else of it is touched."""

HELP = {
    errno.ENOENT: "no character device; load the macvtap module (modprobe macvtap)",
    errno.EPERM: 'not permitted; run as root, or use a packet socket (via = "packet")',
    errno.ENXIO: "no character device; load the macvtap module (modprobe macvtap)",
}


class Macvtap:
    """The descriptor of a macvtap that is there: one read or write is one frame with its vnet header."""

    def __init__(self, name: str, netns_fd: int) -> None:
        """`netns_fd`: where the device is. HostError."""
        self.name = name
        try:
            self.fd = open_in_netns(netns_fd, opener(name))
        except OSError as error:
            text = HELP.get(error.errno or 0, error.strerror)
            raise HostError(f"{name}: macvtap: {text}", errno=error.errno or 0, call="open", device=name) from error

    def close(self) -> None:
        """Give the descriptor up. Twice is allowed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def opener(name: str) -> Callable[[], int]:
    """What opens the device `name`; for a thread that ends with it."""

    def inside() -> int:
        unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("sysfs", SYS, "sysfs", 0)
        home = f"{SYS}/class/net/{name}/macvtap"
        (entry,) = os.listdir(home)
        with open(f"{home}/{entry}/dev", encoding="ascii") as file:
            major, minor = map(int, file.read().split(":"))
        mount("tmpfs", SYS, "tmpfs", 0)
        node = f"{SYS}/{entry}"
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(major, minor))
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            prepare(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    return inside


def prepare(fd: int) -> None:
    """A vnet header before each frame, and everything left undone in those that are read."""
    flags = tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR
    fcntl.ioctl(fd, tun.TUNSETIFF, IFREQ.pack(b"", flags))
    fcntl.ioctl(fd, tun.TUNSETVNETHDRSZ, VNET_HDR_SIZE.to_bytes(4, "little"))
    fcntl.ioctl(fd, tun.TUNSETOFFLOAD, tun.TUN_F_CSUM | tun.TUN_F_TSO4 | tun.TUN_F_TSO6)
