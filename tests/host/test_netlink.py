"""Links, addresses and routes, on both event loops: pyroute2's private seam is what these tests watch."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from xnet.errors import HostError
from xnet.host import NamespaceFds, Netlink, Nursery, Tap, close_taps

RunIn = Callable[[NamespaceFds, list[str]], tuple[int, str]]
LinksOf = Callable[[NamespaceFds], dict[str, dict[str, Any]]]

pytestmark = pytest.mark.privileged


@pytest.fixture
async def guest(nursery: Nursery) -> NamespaceFds:
    return await nursery.create("a")


@pytest.fixture
async def netlink(guest: NamespaceFds) -> AsyncIterator[Netlink]:
    tap = Tap("eth0", guest.net)
    async with Netlink(guest.net) as netlink:
        yield netlink
    tap.close()


async def test_a_link_is_set_in_one_request(netlink: Netlink, guest: NamespaceFds, links_of: LinksOf) -> None:
    await netlink.set_link(
        "eth0",
        up=True,
        mtu=9000,
        address="00:16:3e:00:00:01",
        alias="vif of a",
        gso_max_size=40000,
    )
    seen = links_of(guest)["eth0"]
    wanted = {
        "ifindex": netlink.link_index("eth0"),
        "mtu": 9000,
        "address": "00:16:3e:00:00:01",
        "ifalias": "vif of a",
        "gso_max_size": 40000,
    }
    assert wanted.items() <= seen.items()
    assert {"UP", "LOWER_UP"} <= set(seen["flags"])
    await netlink.set_link("eth0", up=False)
    assert "UP" not in links_of(guest)["eth0"]["flags"]


async def test_a_bridge_forwards_at_once(
    netlink: Netlink, guest: NamespaceFds, run_in: RunIn, links_of: LinksOf
) -> None:
    index = await netlink.add_bridge("xenbr0", mtu=9000, address="02:00:00:00:00:fe", alias="xnet", index=1234567)
    await netlink.set_link("eth0", master="xenbr0", up=True)
    assert index == 1234567
    links = links_of(guest)
    assert links["eth0"]["master"] == "xenbr0"
    bridge = links["xenbr0"]
    wanted = {"ifindex": index, "mtu": 9000, "address": "02:00:00:00:00:fe", "ifalias": "xnet"}
    assert wanted.items() <= bridge.items()
    assert "UP" in bridge["flags"]
    assert bridge["linkinfo"]["info_kind"] == "bridge"
    assert {"stp_state": 0, "forward_delay": 0, "mcast_snooping": 0}.items() <= bridge["linkinfo"]["info_data"].items()
    assert "state forwarding" in run_in(guest, ["bridge", "link"])[1]
    await netlink.set_link("eth0", master="")
    assert "master" not in links_of(guest)["eth0"]
    await netlink.delete_link("xenbr0")
    assert set(links_of(guest)) == {"lo", "eth0"}


async def test_addresses_and_routes_are_usable_at_once(netlink: Netlink, guest: NamespaceFds, run_in: RunIn) -> None:
    await netlink.set_link("eth0", up=True)
    await netlink.add_address("eth0", "10.0.0.1/24")
    await netlink.add_address("eth0", "10.9.9.9/32")
    await netlink.add_address("eth0", "fd00::1/64")
    await netlink.add_route("10.0.0.254")
    await netlink.add_route("fd00::fe")
    show = ["ip", "-o", "addr", "show", "dev", "eth0"]
    addresses = run_in(guest, show)[1]
    assert "inet 10.0.0.1/24 brd 10.0.0.255" in addresses
    assert "inet 10.9.9.9/32 scope" in addresses
    assert "inet6 fd00::1/64 scope global nodad" in addresses
    assert all("tentative" not in line for line in addresses.splitlines() if "fd00::1" in line)
    while "inet6 fe80::" not in addresses or "tentative" in addresses:  # the kernel's own, made in its own time
        await asyncio.sleep(0.01)
        addresses = run_in(guest, show)[1]
    routes = run_in(guest, ["sh", "-c", "ip route; ip -6 route"])[1]
    assert "default via 10.0.0.254 dev eth0" in routes
    assert "default via fd00::fe dev eth0" in routes


async def test_an_index_is_never_stale(netlink: Netlink, guest: NamespaceFds, links_of: LinksOf) -> None:
    first = Tap("vif1.0", guest.net)
    old = netlink.link_index("vif1.0")
    first.close()
    second = Tap("vif1.0", guest.net)
    assert netlink.link_index("vif1.0") > old
    await netlink.set_link("vif1.0", up=True)
    assert "UP" in links_of(guest)["vif1.0"]["flags"]
    second.close()


Ask = Callable[[Netlink], Awaitable[object]]


@pytest.mark.parametrize(
    ("ask", "message", "code"),
    [
        (lambda n: n.set_link("no-such", up=True), "no-such: no such interface", errno.ENODEV),
        (lambda n: n.set_link("eth0", master="no-such"), "no-such: no such interface", errno.ENODEV),
        (lambda n: n.delete_link("no-such"), "no-such: no such interface", errno.ENODEV),
        (lambda n: n.add_bridge("eth0"), "eth0: bridge: exists already", errno.EEXIST),
        (lambda n: n.add_bridge("a" * 16), "longer than the 15 bytes", errno.EINVAL),
        (lambda n: n.add_bridge("br0", mtu=100_000), "br0: set mtu 100000", errno.EINVAL),
        (lambda n: n.set_link("eth0", mtu=10), "eth0: set mtu 10", errno.EINVAL),
        (lambda n: n.add_address("lo", "127.0.0.1/8"), "lo: 127.0.0.1/8: exists already", errno.EEXIST),
        (lambda n: n.add_address("lo", "10.0.0.300/8"), "lo: 10.0.0.300/8: not an address", errno.EINVAL),
        (lambda n: n.add_route("192.0.2.1"), "route via 192.0.2.1: no address of this", errno.ENETUNREACH),
        (lambda n: n.add_route("nowhere"), "route via nowhere: not an IP address", errno.EINVAL),
    ],
)
async def test_what_is_refused_is_named(
    netlink: Netlink, guest: NamespaceFds, links_of: LinksOf, ask: Ask, message: str, code: int
) -> None:
    with pytest.raises(HostError, match=message) as caught:
        await ask(netlink)
    assert caught.value.errno == code
    assert set(links_of(guest)) == {"lo", "eth0"}


async def test_requests_of_many_tasks_get_their_own_answers(
    netlink: Netlink, guest: NamespaceFds, links_of: LinksOf
) -> None:
    names = [f"br{number}" for number in range(20)]
    indices = await asyncio.gather(*(netlink.add_bridge(name) for name in names))
    assert len(set(indices)) == 20
    found = links_of(guest)
    assert [found[name]["ifindex"] for name in names] == list(indices)


async def test_the_socket_is_closed_with_it(guest: NamespaceFds) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with Netlink(guest.net) as netlink:
            await netlink.set_link("lo", up=True)
        netlink.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_fifty_guests_are_configured_quickly(nursery: Nursery) -> None:
    guests = await asyncio.gather(*(nursery.create(f"g{number}") for number in range(50)))
    taps = [Tap("eth0", guest.net) for guest in guests]
    start = time.process_time()
    for guest in guests:
        async with Netlink(guest.net) as netlink:
            await netlink.set_link("eth0", up=True, mtu=1400, address="00:16:3e:00:00:01")
            await netlink.add_address("eth0", "10.0.0.1/24")
            await netlink.add_address("eth0", "fd00::1/64")
            await netlink.add_route("10.0.0.254")
    assert time.process_time() - start < 1.0  # of the processor: it is shared, and netlink makes nobody wait
    await close_taps(taps)


async def test_pyroute2_still_has_the_seam_that_is_replaced() -> None:
    """Should this fail, `iproute_on_reader` must follow pyroute2's `AsyncNetlinkSocket.setup_endpoint`."""
    from pyroute2.iproute.linux import AsyncIPRoute

    source = inspect.getsource(AsyncIPRoute.setup_endpoint)
    assert "self.local.transport, self.local.protocol" in source
    assert "create_datagram_endpoint" in source
    assert list(inspect.signature(AsyncIPRoute.enqueue).parameters) == ["self", "data", "addr"]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        assert AsyncIPRoute(use_socket=sock).socket is sock
