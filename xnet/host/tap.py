"""A TAP: one Ethernet device of a namespace whose other end is a file descriptor in the engine.

Opened with a virtio-net header before each frame (10 bytes, `abi.linux.virtio_net`), non-blocking, closed on exec,
and not persistent: the device goes when the descriptor does, also after ``kill -9``. It is created in the namespace
where it will stay; a device that is moved exists for a moment where it does not belong.

Why IFF_TUN_EXCL: without it TUNSETIFF *attaches* to a persistent TAP of that name somebody else made. With it, a name
in use is EBUSY, always, and nothing foreign is touched.

Traps, all measured: until TUNSETIFF epoll reports EPOLLERR; a write while the device is down is EIO; TSO without CSUM
is EINVAL; one checksum bit serves v4 and v6.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Iterable
from functools import partial
from struct import Struct

from ..abi.linux import tun
from ..abi.linux.virtio_net import VNET_HDR_SIZE
from ..errors import HostError
from .netns import open_in_netns

DEVICE = "/dev/net/tun"
IFF_TUN_EXCL = 0x8000  # if_tun.h: TUNSETIFF fails with EBUSY rather than attach to what is there
IFREQ = Struct("=16sH22x")  # name flags, padded to sizeof(struct ifreq)

OPEN_HELP = {
    errno.ENOENT: "no such device; load the tun module (modprobe tun), or give the container --device /dev/net/tun",
    errno.ENODEV: "the kernel has no TAP driver; load it (modprobe tun)",
    errno.ENXIO: "the kernel has no TAP driver; load it (modprobe tun)",
    errno.EACCES: "permission denied; run as root or make the device readable and writable for you",
    errno.EPERM: "not permitted; run as root, or allow the device in the container",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}
CREATE_HELP = {
    errno.EBUSY: "an interface of that name exists already; choose another name or remove it",
    errno.EPERM: "not permitted; run as root or with CAP_NET_ADMIN",
    errno.EINVAL: "the kernel refuses the name or the flags",
}


class Tap:
    """One TAP. `name` is its Linux name, `fd` the engine's end: one read or write is one frame with its vnet header.

    With several queues, `fds` are the ends of all; `fd` is the first.
    """

    __slots__ = ("attached", "fds", "name")

    def __init__(self, name: str, netns_fd: int | None = None, queues: int = 1) -> None:
        """Create the device in the namespace (None: the caller's). Raises HostError that names the fix."""
        check_name(name)
        self.name = name
        self.attached = queues
        self.fds: list[int] = []
        more = tun.IFF_MULTI_QUEUE if queues > 1 else 0
        try:
            for index in range(queues):
                create = partial(_create, name, more if index else more | IFF_TUN_EXCL)
                self.fds.append(open_in_netns(netns_fd, create))
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The first queue's; -1 when it is closed."""
        return self.fds[0] if self.fds else -1

    def use_queues(self, count: int) -> None:
        """Let the kernel use the first `count` queues and no others."""
        for index in range(len(self.fds)):
            if (index < count) != (index < self.attached):
                way = tun.IFF_ATTACH_QUEUE if index < count else tun.IFF_DETACH_QUEUE
                self._ioctl("TUNSETQUEUE", tun.TUNSETQUEUE, IFREQ.pack(b"", way), self.fds[index])
        self.attached = min(count, len(self.fds))

    def __repr__(self) -> str:
        return f"<Tap {self.name} fd {self.fd}>"

    def set_offload(self, csum: bool, tso4: bool, tso6: bool) -> None:
        """What the *namespace's* kernel may leave undone in frames we read: checksums, TCP segmentation.

        `ethtool -k` inside shows it. TSO needs csum. Frames we write may use any of it whatever is set here.
        """
        if (tso4 or tso6) and not csum:
            raise HostError(f"{self.name}: TSO needs checksum offload", errno=errno.EINVAL, device=self.name)
        bits = tun.TUN_F_CSUM * csum | tun.TUN_F_TSO4 * tso4 | tun.TUN_F_TSO6 * tso6
        self._ioctl("TUNSETOFFLOAD", tun.TUNSETOFFLOAD, bits)

    def set_carrier(self, on: bool) -> None:
        """Plug the cable in or out: NO-CARRIER inside while off, and the namespace's kernel sends nothing."""
        self._ioctl("TUNSETCARRIER", tun.TUNSETCARRIER, int(on).to_bytes(4, "little"))

    def close(self) -> None:
        """Give the descriptors up, and with them the device; waits for the kernel, see `close_taps`. Twice is
        allowed."""
        fds, self.fds = self.fds, []
        for fd in fds:
            os.close(fd)

    def _ioctl(self, call: str, request: int, argument: int | bytes, fd: int = -1) -> None:
        try:
            fcntl.ioctl(self.fd if fd < 0 else fd, request, argument)
        except OSError as error:
            raise HostError(
                f"{self.name}: {call}: {error.strerror}",
                errno=error.errno or 0,
                call=call,
                device=self.name,
            ) from error


async def close_taps(taps: Iterable[Tap]) -> None:
    """Close many at once, in threads: each waits some 27 ms in the kernel (RCU), 50 in a row 1.4 s, like this 0.2 s."""
    await asyncio.gather(*(asyncio.to_thread(tap.close) for tap in taps))


def check_name(name: str) -> None:
    """Refuse what the kernel would: HostError naming the rule. `%` is refused as well, the kernel would number it."""
    usable = tun.IFNAMSIZ - 1
    if len(name.encode()) > usable:
        raise HostError(
            f"{name}: longer than the {usable} bytes the kernel allows; shorten it", errno=errno.EINVAL, device=name
        )
    if not name or name in (".", "..") or any(c in "/:%\0" or c.isspace() for c in name):
        raise HostError(
            f"{name!r}: not an interface name; use letters, digits, '.', '-', '_'", errno=errno.EINVAL, device=name
        )


def _create(name: str, more: int) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _host_error(error, DEVICE, "open", OPEN_HELP) from error
    flags = tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR | more
    try:
        fcntl.ioctl(fd, tun.TUNSETIFF, IFREQ.pack(name.encode(), flags))
        fcntl.ioctl(fd, tun.TUNSETVNETHDRSZ, VNET_HDR_SIZE.to_bytes(4, "little"))
    except OSError as error:
        os.close(fd)
        raise _host_error(error, name, "TUNSETIFF", CREATE_HELP) from error
    return fd


def _host_error(error: OSError, device: str, call: str, help_by_errno: dict[int, str]) -> HostError:
    number = error.errno or 0
    text = help_by_errno.get(number, f"{call}: {error.strerror}")
    return HostError(f"{device}: {text}", errno=number, call=call, device=device)
