"""TAPs: made in their namespace, with offloads, gone with their descriptor."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from xnet.abi.linux.virtio_net import VNET_HDR, VNET_HDR_SIZE
from xnet.errors import HostError
from xnet.host import NamespaceFds, Netlink, Nursery, Tap, close_taps, open_in_netns

RunIn = Callable[[NamespaceFds, list[str]], tuple[int, str]]
LinksOf = Callable[[NamespaceFds], dict[str, dict[str, Any]]]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a" * 16, "longer than the 15 bytes"),
        ("ä" * 8, "longer than the 15 bytes"),
        ("", "not an interface name"),
        ("..", "not an interface name"),
        ("a/b", "not an interface name"),
        ("a b", "not an interface name"),
        ("a:1", "not an interface name"),
        ("tap%d", "not an interface name"),
    ],
)
def test_a_name_the_kernel_would_refuse_is_refused(name: str, says: str) -> None:
    with pytest.raises(HostError, match=says) as caught:
        Tap(name)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.privileged
class TestTap:
    async def test_it_is_born_in_its_namespace_and_nowhere_else(self, nursery: Nursery, links_of: LinksOf) -> None:
        guest = await nursery.create("a")
        before = socket.if_nameindex()
        tap = Tap("eth0", guest.net)
        assert set(links_of(guest)) == {"lo", "eth0"}
        assert socket.if_nameindex() == before
        tap.close()
        tap.close()
        assert set(links_of(guest)) == {"lo"}

    async def test_many_are_closed_together(self, nursery: Nursery, links_of: LinksOf) -> None:
        guest = await nursery.create("a")
        taps = [Tap(f"eth{number}", guest.net) for number in range(10)]
        taps[3].close()
        await close_taps(taps)
        assert set(links_of(guest)) == {"lo"}

    async def test_it_does_not_block_and_is_not_inherited(self, nursery: Nursery) -> None:
        tap = Tap("eth0", (await nursery.create("a")).net)
        assert not os.get_inheritable(tap.fd)
        with pytest.raises(BlockingIOError):
            os.read(tap.fd, 2048)
        tap.close()

    async def test_a_frame_of_the_guest_has_a_vnet_header_of_ten_bytes(self, nursery: Nursery) -> None:
        guest = await nursery.create("a", sysctls={"net.ipv6.conf.default.disable_ipv6": 1})
        tap = Tap("eth0", guest.net)
        async with Netlink(guest.net) as netlink:
            await netlink.set_link("eth0", address="00:16:3e:00:00:01", up=True)
            await netlink.add_address("eth0", "10.0.0.1/24")

        def say_something() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"who has 10.0.0.2", ("10.0.0.2", 9))

        open_in_netns(guest.net, say_something)
        frame = os.read(tap.fd, 2048)
        assert frame[:VNET_HDR_SIZE] == VNET_HDR.pack(0, 0, 0, 0, 0, 0)
        assert frame[VNET_HDR_SIZE : VNET_HDR_SIZE + 14] == b"\xff" * 6 + b"\x00\x16\x3e\x00\x00\x01" + b"\x08\x06"
        tap.close()

    @pytest.mark.parametrize("csum", [False, True])
    @pytest.mark.parametrize("tso4", [False, True])
    @pytest.mark.parametrize("tso6", [False, True])
    async def test_ethtool_shows_the_offloads(
        self, nursery: Nursery, run_in: RunIn, csum: bool, tso4: bool, tso6: bool
    ) -> None:
        guest = await nursery.create("a")
        tap = Tap("eth0", guest.net)
        try:
            if (tso4 or tso6) and not csum:
                with pytest.raises(HostError, match="TSO needs checksum"):
                    tap.set_offload(csum, tso4, tso6)
                return
            tap.set_offload(csum, tso4, tso6)
            status, text = run_in(guest, ["ethtool", "-k", "eth0"])
            assert status == 0
            features = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
            for feature, on in (
                ("tx-checksum-ip-generic", csum),
                ("tx-tcp-segmentation", tso4),
                ("tx-tcp6-segmentation", tso6),
            ):
                assert features[feature] == ("on" if on else "off")
        finally:
            tap.close()

    async def test_the_cable_can_be_pulled(self, nursery: Nursery, links_of: LinksOf) -> None:
        guest = await nursery.create("a")
        tap = Tap("eth0", guest.net)
        async with Netlink(guest.net) as netlink:
            await netlink.set_link("eth0", up=True)
            for on in (False, True):
                tap.set_carrier(on)
                assert ("LOWER_UP" in links_of(guest)["eth0"]["flags"]) is on
        tap.close()

    async def test_a_name_in_use_is_an_error_that_says_so(self, nursery: Nursery) -> None:
        guest = await nursery.create("a")
        tap = Tap("eth0", guest.net)
        with pytest.raises(HostError, match=r"^eth0: an interface of that name exists already") as caught:
            Tap("eth0", guest.net)
        assert caught.value.errno == errno.EBUSY
        tap.close()

    async def test_somebody_elses_persistent_tap_is_not_taken_over(self, nursery: Nursery, run_in: RunIn) -> None:
        guest = await nursery.create("a")
        assert run_in(guest, ["ip", "tuntap", "add", "eth0", "mode", "tap", "vnet_hdr"])[0] == 0
        with pytest.raises(HostError, match="exists already"):
            Tap("eth0", guest.net)

    async def test_a_bridges_name_is_taken_too(self, nursery: Nursery) -> None:
        guest = await nursery.create("a")
        async with Netlink(guest.net) as netlink:
            await netlink.add_bridge("xenbr0")
        with pytest.raises(HostError, match="exists already"):
            Tap("xenbr0", guest.net)

    def test_without_privilege_the_error_names_the_fix(self) -> None:
        pid = os.fork()
        if pid == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                Tap("xnettest0")
            except HostError as error:
                os._exit(error.errno if "root" in str(error) else 0)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (errno.EACCES, errno.EPERM)

    async def test_a_closed_tap_answers_with_an_error(self, nursery: Nursery) -> None:
        tap = Tap("eth0", (await nursery.create("a")).net)
        tap.close()
        with pytest.raises((HostError, ValueError)):
            tap.set_carrier(True)


@pytest.mark.privileged
def test_an_error_inside_the_namespace_comes_out_unchanged() -> None:
    def fail() -> None:
        raise KeyError("inside")

    with open("/proc/self/ns/net", "rb") as file, pytest.raises(KeyError, match="inside"):
        open_in_netns(file.fileno(), fail)


@pytest.mark.privileged
def test_what_is_no_network_namespace_cannot_be_entered() -> None:
    with open("/proc/self/ns/uts", "rb") as file, pytest.raises(HostError, match="cannot enter the network namespace"):
        open_in_netns(file.fileno(), lambda: None)


@pytest.mark.privileged
async def test_only_the_worker_thread_goes_inside(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    here = os.readlink("/proc/self/ns/net")
    there = open_in_netns(guest.net, lambda: os.readlink("/proc/thread-self/ns/net"))
    assert there == os.readlink(f"/proc/self/fd/{guest.net}") != here
    assert os.readlink("/proc/thread-self/ns/net") == here
    assert fcntl.fcntl(guest.net, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
