"""Lower links whose wire is an interface there is, or one end of a pair: what real kernels send over them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import pytest

from xnet.abi.linux.virtio_net import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HDR, VNET_HDR_SIZE
from xnet.engine.lab import DomainSpec, Lab, LinkSpec, VifSpec
from xnet.engine.machine import Machine
from xnet.errors import HostError
from xnet.frame.ether import BROADCAST
from xnet.host.netns import pinned_netns
from xnet.host.packet_socket import PacketSocket
from xnet.testing.frames import flaw, mac, plain, tagged, tcp, udp

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, Running

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

MIB = 1 << 20
VID = 5
FAR = ("10.9.0.254/24", "fd09::fe/64")
WIRETAP = (sys.executable, "-I", "-S", str(Path(__file__).with_name("wiretap.py")))
RECORD = Struct("<BHI")
"""As wiretap.py writes it: sent from there, bytes of the device's name, bytes of header and frame."""


@dataclass(slots=True, frozen=True)
class Cable:
    """An interface of this machine, and the far end of its cable in a namespace of ``ip netns``."""

    nic: str
    far: str
    netns: str


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    name = f"xt{uuid.uuid4().hex[:8]}"
    found = Cable(name, f"{name}f", name)
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "mtu", "9000", "type", "veth", "peer", "name", found.far, "netns", name)
        ip("link", "set", name, "up")
        ip("-n", name, "link", "set", found.far, "up", "mtu", "9000")
        for address in FAR:
            ip("-n", name, "addr", "add", address, "dev", found.far, *(["nodad"] if ":" in address else []))
        yield found
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)
        ip("netns", "del", name)


def lab_of(link: LinkSpec, *, vids: tuple[int, ...] = (0, 0)) -> Lab:
    """A guest for each of `vids`, all on this link."""
    vifs = [
        VifSpec(
            mac=mac(host).hex(":"), ip=(f"10.9.0.{host}/24", f"fd09::{host}/64"), link=link.name, mtu=link.mtu, vlan=vid
        )
        for host, vid in enumerate(vids, 1)
    ]
    guests = [DomainSpec(name, vifs=(vif,)) for name, vif in zip("abc", vifs, strict=False)]
    return Lab("uplinks", domains=tuple(guests), links=(link,))


def link_of(cable: Cable, how: str, mtu: int = 1500) -> tuple[LinkSpec, tuple[str, ...]]:
    """A link on the cable, and what goes before a command at its far end."""
    outside = ("", "ip", "netns", "exec", cable.netns)
    if how == "veth in dom0":
        return LinkSpec("net0", veth="wire0", ip=FAR, mtu=mtu), ("dom0",)
    if how == "veth":
        ip("-n", cable.netns, "addr", "flush", "dev", cable.far)
        return LinkSpec("net0", veth="wire0", zone=cable.netns, ip=FAR, mtu=mtu), outside
    return LinkSpec("net0", nic=cable.nic, via="macvtap" if how == "macvtap" else "packet", mtu=mtu), outside


async def iperf3(running: Running, server: tuple[str, ...], client: tuple[str, ...], address: str) -> float:
    """Bytes that arrived of 24 MB; either end is a domain and what goes before the command there."""
    async with running.background(*server, "iperf3", "-s", "-1", "--forceflush", says="listening"):
        said = await running.run(*client, "iperf3", "-J", "-c", address, "-n", "24M")
    received: float = json.loads(said)["end"]["sum_received"]["bytes"]
    return received


async def echoes(running: Running, *argv: str, count: int = 2) -> None:
    """They all come back."""
    *where, address = argv
    asked = ("ping", "-n", "-q", "-c", str(count), "-i", "0.1", "-W", "5", address)
    assert f"{count} received" in await running.run(*where, *asked)


def uplink(running: Running) -> Any:
    return running.machine.drivers.uplinks["net0"]


@pytest.mark.parametrize("how", ["packet", "macvtap", "veth", "veth in dom0"])
async def test_guests_and_the_far_end_exchange_bulk(boot: Boot, cable: Cable, peer: tuple[str, ...], how: str) -> None:
    link, far = link_of(cable, how)
    async with boot(lab_of(link)) as running:
        assert uplink(running).is_up()
        for address in ("10.9.0.254", "fd09::fe", "10.9.0.2", "fd09::2"):
            await echoes(running, "a", address)
        await echoes(running, *far, "fd09::2")
        before = uplink(running).link.counters()
        for address in ("10.9.0.254", "fd09::fe"):
            assert await iperf3(running, far, ("a",), address) > 20 * MIB
        assert await iperf3(running, ("b",), far, "10.9.0.2") > 20 * MIB
        after = uplink(running).link.counters()
        for way in ("read_frames", "written_frames"):
            assert after[way] - before[way] < 48 * MIB / 1448 / 2, "segments stay undone on the wire"
        assert after.get("read_lost", 0) == 0
        async with running.background(*far, *peer, "serve", str(8 * MIB), says="listening") as server:
            _, sent, _, took = (await running.run("a", *peer, "swap", "10.9.0.254", str(8 * MIB))).split()
            await server.says("sent")
        assert server.lines[-1] == f"sent {took} took {sent}"


@pytest.mark.parametrize("how", ["packet", "macvtap", "veth"])
async def test_packets_as_long_as_the_mtu_pass(boot: Boot, cable: Cable, how: str) -> None:
    link, _ = link_of(cable, how, mtu=9000)
    async with boot(lab_of(link)) as running:
        for host in (254, 2):
            await running.run("a", "ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", "8972", f"10.9.0.{host}")


@asynccontextmanager
async def on_the_wire(running: Running, path: Path, *where: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """(vnet header, frame) of all that comes to a place, there at the end."""
    found: list[tuple[bytes, bytes]] = []
    async with running.background(*where, *WIRETAP, "keep", str(path), says="listening") as tap:
        yield found
        pid = tap.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or [str(pid)]:
            os.kill(int(child), signal.SIGTERM)
        await tap.says("lost 0")
        await tap.process.wait()  # it writes the last of them as it ends
    data, at = path.read_bytes(), 0
    while at < len(data):
        sent, name, length = RECORD.unpack_from(data, at)
        at += RECORD.size + name
        if not sent:
            found.append((data[at : at + VNET_HDR_SIZE], data[at + VNET_HDR_SIZE : at + length]))
        at += length


@asynccontextmanager
async def far_end(cable: Cable) -> AsyncIterator[PacketSocket]:
    """To send frames from, each behind its vnet header."""
    fd = pinned_netns(cable.netns)
    try:
        sock = PacketSocket(cable.far, fd)
    finally:
        os.close(fd)
    yield sock
    sock.close()


async def taken(running: Running, guest: str, count: int) -> None:
    """So many more frames came to a guest than before."""
    tap = running.machine.guests[guest].vifs[0].nic.pumps[0]
    async with asyncio.timeout(10):
        while tap.written_frames < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["packet", "macvtap"])
async def test_a_vlans_frames_are_tagged_on_the_wire_and_plain_in_the_guest(
    boot: Boot, cable: Cable, tmp_path: Path, how: str
) -> None:
    """What leaves carries its tag, undone checksums and segments too; what comes loses it."""
    link, far = link_of(cable, how)
    blank = VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 38, 6)
    large = VNET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 1, 58, 1000, 38, 16)
    into = {"blank": udp(b"abc" * 100, src=9, dst=1, blank=True), "large": tcp(bytes(9000), src=9, dst=1, blank=True)}
    async with boot(lab_of(link, vids=(VID, 0, VID))) as running:
        async with on_the_wire(running, tmp_path / "far", *far) as found:
            await echoes(running, "a", "10.9.0.3")
            await running.run("a", "ping", "-n", "-c", "1", "-W", "0.2", "10.9.0.2", status=1)
            await running.run("a", "ping", "-n", "-c", "1", "-W", "0.2", "10.9.0.254", status=1)
        asked = [frame for _, frame in found if frame[6:12] == mac(1) and frame[:6] == BROADCAST]
        assert asked
        assert all(frame[12:16] == bytes((0x81, 0, 0, VID)) for frame in asked)
        async with (
            on_the_wire(running, tmp_path / "a", "a") as in_a,
            on_the_wire(running, tmp_path / "b", "b") as in_b,
            far_end(cable) as sock,
        ):
            before = running.machine.guests["a"].vifs[0].nic.pumps[0].written_frames
            for header, frame in ((blank, into["blank"]), (large, into["large"]), (bytes(10), plain(70, src=9, dst=1))):
                os.writev(sock.fd, [header, tagged(frame, (0x8100, VID))])
                os.writev(sock.fd, [header, tagged(frame, (0x8100, VID + 1))])
            os.writev(sock.fd, [bytes(10), plain(71, src=9, dst=1)])
            os.writev(sock.fd, [bytes(10), plain(72, src=9, dst=2)])
            await taken(running, "a", before + 3)
            await echoes(running, *far, "10.9.0.2")
        from_far = [frame for _, frame in in_a if frame[6:12] == mac(9)]
        assert [len(frame) for frame in from_far] == [len(into["blank"]), len(into["large"]), 70]
        assert [frame[12:14] for frame in from_far] == [b"\x08\0", b"\x08\0", b"\x88\xb5"]
        headers = [VNET_HDR.unpack(header) for header, frame in in_a if frame[6:12] == mac(9)]
        assert [header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM for header in headers] == [1, 1, 0]
        assert [header[1:] for header in headers[:2]] == [(0, 0, 0, 34, 6), (1, 54, 1000, 34, 16)]
        assert from_far[0] == into["blank"]
        assert flaw(udp(b"abc" * 100, src=9, dst=1)) == ""
        assert [len(frame) for _, frame in in_b if frame[6:12] == mac(9)] == [72]


async def test_what_nobody_here_has_reaches_the_wire_only(boot: Boot, cable: Cable, tmp_path: Path) -> None:
    link, far = link_of(cable, "packet")
    stranger, other = plain(80, src=1, dst=77), plain(81, src=9, dst=78)
    path = tmp_path / "frames"
    path.write_bytes(RECORD.pack(1, 0, VNET_HDR_SIZE + len(stranger)) + bytes(VNET_HDR_SIZE) + stranger)
    async with boot(lab_of(link)) as running:
        switch = running.machine.datalinks.registry.links["net0"].switch
        assert switch is not None
        async with (
            on_the_wire(running, tmp_path / "far", *far) as on_far,
            on_the_wire(running, tmp_path / "b", "b") as in_b,
            far_end(cable) as sock,
        ):
            await running.run("a", *WIRETAP, "send", "eth0", str(path))
            unknown = switch.statistics()["unknown"]
            os.writev(sock.fd, [bytes(10), other])
            await echoes(running, "a", "10.9.0.254")
            await echoes(running, "b", "10.9.0.254")
            assert switch.statistics()["unknown"] > unknown, "it came, and was nobody's"
        assert stranger in [frame for _, frame in on_far]
        assert not {stranger, other} & {frame for _, frame in in_b}


def asked_of(cable: Cable) -> tuple[int, set[str]]:
    """How often the interface was told to be promiscuous, and the addresses it was told to hear."""
    (shown,) = json.loads(subprocess.check_output(["ip", "-d", "-j", "link", "show", cable.nic]))
    lines = subprocess.check_output(["bridge", "fdb", "show", "dev", cable.nic], text=True).splitlines()
    unicast = {line.split()[0] for line in lines if not int(line[:2], 16) & 1}
    return shown["promiscuity"], unicast


async def test_the_interface_is_told_whom_to_hear(boot: Boot, cable: Cable) -> None:
    """A veth cannot choose, so the kernel makes it promiscuous once for that; a second time is what was asked for."""
    macs = {mac(1).hex(":"), mac(2).hex(":")}
    assert asked_of(cable) == (0, set())
    for promiscuous in (False, True):
        link = LinkSpec("net0", nic=cable.nic, promiscuous=promiscuous)
        async with boot(lab_of(link)) as running:
            assert asked_of(cable) == (1 + promiscuous, macs)
            do = running.machine.datalinks.do
            third = {"type": "fixed", "address": "2:8:20:1:2:3"}
            await do({"do": "create-vnic", "name": "vnic0", "over": "net0", "mac": third, "temporary": True})
            assert asked_of(cable) == (1 + promiscuous, macs | {"02:08:20:01:02:03"})
            await do({"do": "delete-vnic", "name": "vnic0"})
            assert asked_of(cable) == (1 + promiscuous, macs)
        assert asked_of(cable) == (0, set())


async def test_a_guest_that_has_the_interface_to_itself_hears_all_of_it(
    boot: Boot, cable: Cable, tmp_path: Path
) -> None:
    vif = VifSpec(mac=mac(1).hex(":"), ip=("10.9.0.1/24",), link="net0", script="vif-dedicated")
    lab = Lab("uplinks", domains=(DomainSpec("a", vifs=(vif,)),), links=(LinkSpec("net0", nic=cable.nic),))
    async with boot(lab) as running:
        assert asked_of(cable) == (1, set())
        async with on_the_wire(running, tmp_path / "a", "a") as in_a, far_end(cable) as sock:
            await echoes(running, "a", "10.9.0.254")
            os.writev(sock.fd, [bytes(10), plain(81, src=9, dst=78)])
            await echoes(running, "a", "10.9.0.254")
        assert plain(81, src=9, dst=78) in [frame for _, frame in in_a]


@pytest.mark.parametrize("how", ["packet", "macvtap"])
async def test_vnics_talk_on_while_their_wire_is_down_or_gone(boot: Boot, cable: Cable, how: str) -> None:
    link, _ = link_of(cable, how)
    async with boot(lab_of(link)) as running:
        await echoes(running, "a", "10.9.0.254")
        links = running.machine.datalinks

        def state() -> tuple[bool, str]:
            return uplink(running).is_up(), next(
                each["state"] for each in links.show()["links"] if each["name"] == "net0"
            )

        for end in (cable.nic, cable.far):
            where = ["-n", cable.netns] if end == cable.far else []
            assert state() == (True, "up")
            ip(*where, "link", "set", end, "down")
            await running.run("a", "ping", "-n", "-c", "1", "-W", "0.2", "10.9.0.254", status=1)
            assert state() == (False, "down")
            await echoes(running, "a", "10.9.0.2")
            ip(*where, "link", "set", end, "up")
            async with asyncio.timeout(10):
                while not uplink(running).is_up():
                    await asyncio.sleep(0.01)
            await echoes(running, "a", "10.9.0.254")
        if how == "packet":
            counters = uplink(running).link.counters()
            assert counters["write_device_down"] > 0
            assert counters["read_device_down"] == 1
        ip("link", "del", cable.nic)
        await echoes(running, "a", "10.9.0.2")
        await running.run("a", "ping", "-n", "-c", "1", "-W", "0.2", "10.9.0.254", status=1)
        assert state() == (False, "down")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (LinkSpec("net0", nic="nosuch0"), r"^nosuch0: no such interface in dom0 or on this machine"),
        (LinkSpec("net0", nic="nosuch0", via="macvtap"), r"^nosuch0: no such interface in dom0 or on this machine"),
        (LinkSpec("net0", nic="lo"), r"^lo: not an Ethernet interface"),
        (
            LinkSpec("net0", nic="NIC", mtu=9001),
            r": link net0 has an MTU of 9001, more than its 9000: write mtu = 9000",
        ),
        (
            LinkSpec("net0", nic="NIC", via="macvtap", mtu=9001),
            r"more than its 9000: write mtu = 9000 in its \[\[link\]\]",
        ),
        (
            LinkSpec("net0", veth="wire0", zone="nowhere"),
            r"^nowhere: no such network namespace; make it \(ip netns add",
        ),
        (LinkSpec("net0", veth="lo"), r"^lo: veth: exists already"),
        (LinkSpec("net0", veth="a_name_of_16chars"), r"longer than the 15 bytes the kernel allows"),
        (LinkSpec("net0", veth="wire0", ip=("10.9.0.999/24",)), r"wire0: 10.9.0.999/24: not an address"),
    ],
)
async def test_a_wire_that_cannot_be_is_named_and_leaves_nothing(cable: Cable, spec: LinkSpec, says: str) -> None:
    if spec.nic == "NIC":
        spec = LinkSpec("net0", nic=cable.nic, via=spec.via, mtu=spec.mtu)
    with pytest.raises(HostError, match=says):
        async with Machine(lab_of(spec)):
            pytest.fail("it boots")
    assert asked_of(cable) == (0, set())


async def test_two_macvtaps_do_not_share_an_interface(cable: Cable) -> None:
    links = tuple(LinkSpec(name, nic=cable.nic, via="macvtap") for name in ("net0", "net1"))
    with pytest.raises(HostError, match=rf"^{cable.nic}: macvtap: "):
        async with Machine(Lab("uplinks", links=links)):
            pytest.fail("it boots")
