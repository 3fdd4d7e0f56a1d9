"""A packet socket on an interface of somebody else's: what comes, what is lost, and what it says of the interface."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import AsyncIterator

import pytest

from xnet.abi.linux.virtio_net import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HDR
from xnet.abi.xen import PAGE_SIZE
from xnet.engine.packet import receive
from xnet.errors import HostError
from xnet.frame import FRAME_MAX
from xnet.host import Netlink, open_in_netns
from xnet.host.netns import new_netns, pinned_netns
from xnet.host.packet_socket import PacketSocket
from xnet.testing.frames import mac, plain, tagged, tcp, udp

pytestmark = pytest.mark.privileged

PLAIN = bytes(10)


@pytest.fixture
async def netns() -> AsyncIterator[int]:
    """A namespace with a pair in it, one and other, both up; their own stacks say nothing."""
    fd = new_netns()
    async with Netlink(fd) as netlink:
        await netlink.add_veth("one", "other", fd)
        for name in ("one", "other"):
            open_in_netns(fd, lambda name=name: quiet(name))
            await netlink.set_link(name, mtu=9000, up=True)
    yield fd
    os.close(fd)


def quiet(name: str) -> None:
    with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")


def got(sock: PacketSocket, most: int = 64, last: bytes = PLAIN) -> tuple[list[bytes], int, bytes]:
    """Read frames into fresh memory: the frames, why there are no more, and the last header."""
    memory, header = memoryview(bytearray(8 * FRAME_MAX)), bytearray(10)
    lengths, result = receive(sock.fd, memory, PAGE_SIZE, 7 * FRAME_MAX, most, header, last)
    assert not any(memory[:PAGE_SIZE]), "nothing is written before the place"
    found, at = [], PAGE_SIZE
    for length in lengths:
        found.append(bytes(memory[at : at + length]))
        at += -(-length // PAGE_SIZE) * PAGE_SIZE
    return found, -result if result < 0 else 0, bytes(header)


async def test_frames_come_as_they_were_with_their_tags_and_headers(netns: int) -> None:
    one, other = PacketSocket("one", netns), PacketSocket("other", netns)
    blank, large = udp(b"abc", blank=True), tcp(bytes(9000), blank=True)
    blank_header = VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 6)
    cases = [
        (PLAIN, plain(60)),
        (PLAIN, plain(9014)),
        (blank_header, blank),
        (VNET_HDR.pack(1, 1, 54, 1000, 34, 16), large),
        (PLAIN, tagged(plain(60), (0x8100, 0xE005))),
        (PLAIN, tagged(plain(60), (0x88A8, 7), (0x8100, 5))),
        (VNET_HDR.pack(1, 0, 0, 0, 38, 6), tagged(blank, (0x8100, 5))),
        (VNET_HDR.pack(1, 1, 58, 1000, 38, 16), tagged(large, (0x8100, 5))),
    ]
    for header, frame in cases:
        os.writev(one.fd, [header, frame])
        frames, _, seen = got(other, most=1)
        assert (frames, seen) == ([frame], header)
    for frame in (plain(60), plain(61), tagged(plain(62), (0x8100, 5))):
        os.writev(one.fd, [PLAIN, frame])
    assert got(other)[0] == [plain(60), plain(61), tagged(plain(62), (0x8100, 5))]
    assert got(one) == ([], errno.EAGAIN, bytes(10)), "what is sent is not read"
    one.close()
    other.close()
    other.close()
    assert (other.fd, other.is_up(), other.mtu()) == (-1, False, 0)


async def test_what_there_is_no_room_for_is_counted(netns: int) -> None:
    one, other = PacketSocket("one", netns), PacketSocket("other", netns)
    for _ in range(2500):
        os.writev(one.fd, [PLAIN, plain(9014)])
    lost = other.drops()
    assert 0 < lost < 2500
    assert other.drops() == lost, "once"
    read = 0
    while frames := got(other)[0]:
        read += len(frames)
    assert read + lost == 2500
    one.close()
    other.close()


async def test_down_and_gone_are_told_once_and_a_loop_hears_of_it(netns: int) -> None:
    sock, far = PacketSocket("one", netns), PacketSocket("other", netns)
    async with Netlink(netns) as netlink:
        assert (sock.is_up(), sock.mtu(), sock.mac) == (True, 9000, netlink.address("one"))
        await netlink.set_link("one", up=False)
        assert not sock.is_up()
        assert select.select([sock.bell], [], [], 5)[0]
        assert got(sock)[1] == errno.ENETDOWN
        assert got(sock)[1] == errno.EAGAIN
        await netlink.set_link("one", up=True)
        while not sock.is_up():
            pass
        os.writev(far.fd, [PLAIN, plain(60)])
        assert select.select([sock.bell], [], [], 5)[0]
        assert got(sock)[0] == [plain(60)]
        await netlink.delete_link("one")
        assert (sock.is_up(), sock.mtu()) == (False, 0)
        sock.hear([mac(1)])
        sock.promiscuous(True)
    sock.close()
    far.close()


async def test_an_interface_that_is_renamed_is_still_the_one(netns: int) -> None:
    sock = PacketSocket("one", netns)
    open_in_netns(netns, lambda: os.spawnlp(os.P_WAIT, "ip", "ip", "link", "set", "one", "down"))
    open_in_netns(netns, lambda: os.spawnlp(os.P_WAIT, "ip", "ip", "link", "set", "one", "name", "two", "up"))
    assert sock.mtu() == 9000
    assert sock.is_up()
    sock.hear([mac(1)])
    assert sock.heard == {mac(1)}
    sock.close()


async def test_what_cannot_be_is_named(netns: int) -> None:
    with pytest.raises(HostError, match=r"^nosuch0: no such interface"):
        PacketSocket("nosuch0", netns)
    with pytest.raises(HostError, match=r"^lo: not an Ethernet interface"):
        PacketSocket("lo", netns)
    with pytest.raises(HostError, match=r"^nowhere: no such network namespace; make it \(ip netns add nowhere\)"):
        pinned_netns("nowhere")
    with pytest.raises(HostError, match=r"^/dev/null: not a network namespace"):
        pinned_netns("/dev/null")
    with pytest.raises(HostError, match=r"^/proc/self/ns/uts: not a network namespace"):
        pinned_netns("/proc/self/ns/uts")
