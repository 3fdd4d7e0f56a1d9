"""Links, addresses and routes of one network namespace: a thin layer over pyroute2, the only module that knows it.

Under uvloop pyroute2's `AsyncIPRoute` fails: it asks the loop for a datagram endpoint, which uvloop has not for
netlink. So one method of it is replaced, `setup_endpoint`, by a transport of ten lines on ``loop.add_reader``; that
method, its ``local`` and its ``enqueue`` are private names, hence the pinned version and a test that fails when they
change.

The socket is made inside the namespace (`open_in_netns`) and stays there. pyroute2 is imported when the first
`Netlink` is made: 0.2 s and 13 MB. A request costs about a millisecond, nearly all of it pyroute2's encoding.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import socket
from struct import Struct
from types import TracebackType
from typing import Any, Self

from ..errors import HostError
from .netns import open_in_netns
from .tap import check_name

NETLINK_ROUTE = 0
IFREQ_INDEX = Struct("=16si20x")  # name index, padded to sizeof(struct ifreq)
IFREQ_FLAGS = Struct("=16sH22x")  # name flags, likewise
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGIFMTU = 0x8921
SIOCGIFHWADDR = 0x8927
SIOCGIFINDEX = 0x8933
IFF_RUNNING, IFF_PROMISC, IFF_ALLMULTI = 0x40, 0x100, 0x200
IFA_F_NODAD = 0x02

HELP = {
    errno.EPERM: "not permitted; run as root or with CAP_NET_ADMIN",
    errno.EEXIST: "exists already",
    errno.ENODEV: "no such interface",
    errno.EBUSY: "somebody has it to himself, or stands on it already",
    errno.EOPNOTSUPP: "this kernel has no such kind of interface",
    errno.ENETUNREACH: "no address of this namespace reaches it; give one in its network first",
    errno.EHOSTUNREACH: "no address of this namespace reaches it; give one in its network first",
}


def open_socket() -> socket.socket:
    """A netlink socket of the calling thread's namespace, bound, non-blocking."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
    sock.bind((0, 0))
    return sock


def iproute_on_reader(sock: socket.socket) -> Any:
    """pyroute2's AsyncIPRoute over `sock`, read by ``add_reader``: works on asyncio and on uvloop alike."""
    from pyroute2.iproute.linux import AsyncIPRoute

    class ReaderTransport:
        """What `AsyncCoreSocket` needs of a transport: it hears, and can be told to stop."""

        def __init__(self, loop: asyncio.AbstractEventLoop, owner: AsyncIPRoute) -> None:
            self.loop = loop
            self.owner = owner
            loop.add_reader(sock.fileno(), self.read)

        def read(self) -> None:
            try:
                data = sock.recv(1 << 16)
            except BlockingIOError:
                return
            self.owner.enqueue(data, None)

        def abort(self) -> None:
            self.loop.remove_reader(sock.fileno())

        def close(self) -> None:
            """`abort` was called just before."""

    class ReaderIPRoute(AsyncIPRoute):  # type: ignore[misc]
        async def setup_endpoint(self) -> None:
            if getattr(self.local, "transport", None) is None:
                assert self.socket is sock, "asking for it also makes the queue of answers"
                self.local.transport = ReaderTransport(self.event_loop, self)
                self.local.protocol = None

    return ReaderIPRoute(use_socket=sock)


class Netlink:
    """One namespace's links (None: the caller's namespace). ``async with``; use it from one loop.

    Every method raises HostError that names the interface and, where there is one, the fix.
    """

    def __init__(self, netns_fd: int | None = None) -> None:
        """Open the socket inside the namespace; pyroute2 is loaded here the first time."""
        self._socket = open_in_netns(netns_fd, open_socket)
        self._iproute = iproute_on_reader(self._socket)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Twice is allowed."""
        if self._socket.fileno() >= 0:
            self._iproute.close()
            self._socket.close()

    def link_index(self, name: str) -> int:
        """The interface's index now. By ioctl, 2 µs, so it is never remembered: TAPs come and go behind our back."""
        index: int = IFREQ_INDEX.unpack(self._ioctl(name, SIOCGIFINDEX))[1]
        return index

    def has(self, name: str) -> bool:
        """There is an interface of that name."""
        try:
            return self.link_index(name) > 0
        except HostError:
            return False

    def mtu(self, name: str) -> int:
        """The interface's, by ioctl."""
        size: int = IFREQ_INDEX.unpack(self._ioctl(name, SIOCGIFMTU))[1]
        return size

    def address(self, name: str) -> bytes:
        """The interface's own MAC address, by ioctl."""
        return self._ioctl(name, SIOCGIFHWADDR)[18:24]

    def is_running(self, name: str) -> bool:
        """Up, with the carrier seen by the kernel (IFF_RUNNING): what is sent now leaves. By ioctl, 2 µs."""
        return self._flags(name) & IFF_RUNNING != 0

    def hears_all(self, name: str) -> bool:
        """It was set to take all multicast, or everything (``ip link set NAME allmulticast on``, ``promisc on``)."""
        return self._flags(name) & (IFF_PROMISC | IFF_ALLMULTI) != 0

    def hear_all_multicast(self, name: str) -> None:
        """Set it to take all multicast, by ioctl."""
        self._ioctl(name, SIOCSIFFLAGS, self._flags(name) | IFF_ALLMULTI)

    def _flags(self, name: str) -> int:
        flags: int = IFREQ_FLAGS.unpack(self._ioctl(name, SIOCGIFFLAGS))[1]
        return flags

    def _ioctl(self, name: str, request: int, number: int = 0) -> bytes:
        try:
            return fcntl.ioctl(self._socket, request, IFREQ_INDEX.pack(name.encode(), number))
        except OSError as error:
            raise _refused(name, name, error.errno or 0) from error

    async def links(self) -> dict[str, str]:
        """The namespace's interfaces, each with the bridge it is in, or ""."""
        found = {link["index"]: link async for link in await self._ask("", "links", self._iproute.link("dump"))}
        names = {index: link.get_attr("IFLA_IFNAME") for index, link in found.items()}
        return {names[index]: names.get(link.get_attr("IFLA_MASTER"), "") for index, link in found.items()}

    async def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        address: str | None = None,
        master: str | None = None,
        alias: str | None = None,
        gso_max_size: int | None = None,
    ) -> None:
        """Change what is given, in one request. `master` is a bridge's name, or "" to leave the one it is in."""
        wanted: dict[str, object] = {
            "mtu": mtu,
            "address": address,
            "ifalias": alias,
            "gso_max_size": gso_max_size,
        }
        given = {key: value for key, value in wanted.items() if value is not None}
        if up is not None:
            given["state"] = "up" if up else "down"
        if master is not None:
            given["master"] = self.link_index(master) if master else 0
        what = f"{name}: set " + ", ".join(f"{key} {value}" for key, value in given.items())
        await self._ask(name, what, self._iproute.link("set", index=self.link_index(name), **given))

    async def add_bridge(
        self,
        name: str,
        *,
        mtu: int | None = None,
        address: str | None = None,
        alias: str | None = None,
        index: int | None = None,
    ) -> int:
        """A Linux bridge as Xen's scripts make them: no spanning tree, no forwarding delay, so ports forward at once.

        Multicast snooping is off: without a querier it would stop IPv6's neighbour discovery after some minutes. With
        an `address` it keeps that one; without, it takes over the lowest of its ports. `index` is one to have (see
        `Watcher.reserve`). The bridge is up; returns its index.
        """
        options = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
        if index is not None:
            options["index"] = index
        check_name(name)
        await self._ask(name, f"{name}: bridge", self._iproute.link("add", ifname=name, kind="bridge", **options))
        try:
            await self.set_link(name, mtu=mtu, address=address, alias=alias, up=True)
        except HostError:
            await self.delete_link(name)
            raise
        return self.link_index(name)

    async def add_veth(self, name: str, peer: str, peer_netns_fd: int) -> None:
        """A pair of devices, both down: this namespace's, and the other namespace's, where it is born."""
        check_name(name)
        check_name(peer)
        request = self._iproute.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": peer_netns_fd})
        await self._ask(peer, f"{peer}: veth", request)

    async def add_macvtap(self, lower: str, name: str, netns_fd: int) -> None:
        """A macvtap in mode passthru on an interface of this namespace, born down in the other one."""
        check_name(name)
        request = self._iproute.link(
            "add", ifname=name, kind="macvtap", link=self.link_index(lower), macvtap_mode="passthru", net_ns_fd=netns_fd
        )
        await self._ask(lower, f"{lower}: macvtap", request)

    async def delete_link(self, name: str) -> None:
        """Remove the interface."""
        await self._ask(name, f"{name}: remove", self._iproute.link("del", index=self.link_index(name)))

    async def add_address(self, name: str, cidr: str) -> None:
        """Give the interface an address with its prefix length, ``10.0.0.1/24`` or ``fd00::1/64``.

        An IPv6 address is usable at once (nodad): duplicate detection would take a second.
        """
        interface = _interface(name, cidr)
        index = self.link_index(name)
        extra = {"broadcast": str(interface.network.broadcast_address)} if _has_broadcast(interface) else {}
        if interface.version == 6:
            extra["flags"] = IFA_F_NODAD  # type: ignore[assignment]
        request = self._iproute.addr(
            "add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **extra
        )
        await self._ask(name, f"{name}: {cidr}", request)

    async def add_route(self, via: str, to: str = "default") -> None:
        """A route to a network (or the default route) through the router `via`, IPv4 or IPv6."""
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(via).version == 6 else socket.AF_INET
        except ValueError as error:
            raise HostError(f"route via {via}: not an IP address", errno=errno.EINVAL, device=via) from error
        request = self._iproute.route("add", family=family, dst=to, gateway=via)
        await self._ask(via, f"route to {to} via {via}" if to != "default" else f"route via {via}", request)

    async def _ask(self, device: str, what: str, request: Any) -> Any:
        """Await a request of pyroute2's; `what` was asked of `device`, should it be refused."""
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            return await request
        except NetlinkError as error:
            raise _refused(device, what, error.code) from error
        except OSError as error:
            raise _refused(device, what, error.errno or 0) from error


def _refused(device: str, what: str, code: int) -> HostError:
    return HostError(f"{what}: {HELP.get(code) or os.strerror(code)}", errno=code, call="netlink", device=device)


Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _interface(name: str, cidr: str) -> Interface:
    try:
        return ipaddress.ip_interface(cidr)
    except ValueError as error:
        text = f"{name}: {cidr}: not an address with a prefix length, such as 10.0.0.1/24"
        raise HostError(text, errno=errno.EINVAL, device=name) from error


def _has_broadcast(interface: Interface) -> bool:
    return interface.version == 4 and interface.network.prefixlen < 31
