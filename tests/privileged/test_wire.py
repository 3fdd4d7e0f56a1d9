"""What real kernels send through us, and what they make of it, looked at on every device it passes."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from xnet.abi.linux.virtio_net import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HDR, VNET_HDR_SIZE
from xnet.testing.frames import ETH_IP, ETH_IPV6, ODD, PROTO_TCP, PROTO_UDP, flaw, look, ones, plain, pseudo

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])]

WIRETAP = (sys.executable, "-I", "-S", str(Path(__file__).with_name("wiretap.py")))
RECORD = Struct("<BHI")
SIZES = (
    0,
    1,
    2,
    17,
    1400,
    1447,
    1448,
    1449,
    1460,
    1472,
    1473,
    2896,
    4030,
    4042,
    4096,
    8192,
    32768,
    65493,
    65507,
    65535,
)
CSUM = {"csum-offload": False, "ipv6-csum-offload": False}
GSO = {"gso-tcpv4": False, "gso-tcpv6": False}
SG = {"sg": False}
FRAGMENT = 44


class Passed(NamedTuple):
    """A frame, as a packet socket had it."""

    sent: bool
    device: str
    header: bytes
    frame: bytes


def kept(path: Path) -> Iterator[Passed]:
    """What wiretap.py wrote down."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        sent, name, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        whole = data[at + name : at + name + length]
        yield Passed(bool(sent), data[at : at + name].decode(), whole[:VNET_HDR_SIZE], whole[VNET_HDR_SIZE:])
        at += name + length


@asynccontextmanager
async def tapped(running: Running, directory: Path, *domains: str) -> AsyncIterator[dict[str, list[Passed]]]:
    """All that passes any device of these domains; it is there at the end."""
    found: dict[str, list[Passed]] = {}
    async with AsyncExitStack() as stack:
        taps = {
            name: await stack.enter_async_context(
                running.background(name, *WIRETAP, "keep", str(directory / name), says="listening")
            )
            for name in domains
        }
        yield found
        for name, tap in taps.items():
            assert (await tap.end(signal.SIGTERM))[-1] == "lost 0"
            found[name] = list(kept(directory / name))


def wrong(passed: Passed) -> str:
    """What is wrong with an IP frame; what its header says is left to do must be left so that it can be done."""
    flags, gso, _, size, start, offset = VNET_HDR.unpack(passed.header)
    frame = passed.frame
    fragmented = frame[12:14] == ETH_IP.to_bytes(2, "big") and (frame[20] & 0x3F or frame[21])
    if fragmented:
        return "" if ones(frame[14:34]) == 0xFFFF else "IPv4 header checksum of a fragment"
    if frame[12:14] == ETH_IPV6.to_bytes(2, "big") and frame[20] == FRAGMENT:
        return "" if len(frame) == 54 + int.from_bytes(frame[18:20], "big") else "length of an IPv6 fragment"
    if not flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        return flaw(frame) or ("GSO without a blank checksum" if gso else "")
    seen = look(frame)
    if (start, offset) != (len(frame) - len(seen.l4), 16 if seen.protocol == PROTO_TCP else 6):
        return f"checksum at {start} + {offset}"
    if ones(pseudo(seen.v6, seen.hosts, seen.protocol, len(seen.l4))) != ones(seen.l4[offset : offset + 2]):
        return "the pseudo-header's sum"
    if gso and not 0 < size <= 1460:
        return f"segments of {size}"
    return "" if gso or len(frame) <= 1514 else "longer than the MTU"


def ours(passed: Passed) -> bool:
    """TCP or UDP of the test's, which no device but a guest's, dom0's vif or an uplink has a say in."""
    frame = passed.frame
    kind = frame[12:14]
    protocol = (
        frame[23] if kind == ETH_IP.to_bytes(2, "big") else frame[20] if kind == ETH_IPV6.to_bytes(2, "big") else 0
    )
    return protocol in (PROTO_TCP, PROTO_UDP, FRAGMENT)


@pytest.mark.parametrize("side", ["frontend", "backend"])
@pytest.mark.parametrize("lacking", [{}, CSUM, GSO, SG, CSUM | GSO | SG], ids=["all", "csum", "gso", "sg", "none"])
async def test_sockets_get_what_was_sent_in_frames_that_are_right_everywhere(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], tmp_path: Path, lacking: dict[str, bool], side: str
) -> None:
    """Guest b, or its backend, lacks something."""
    async with (
        boot(lab("a", "b", tx_mode="map" if side == "backend" else "copy", **{side: {"b": lacking}})) as running,
        tapped(running, tmp_path, "a", "b", "dom0") as found,
        running.background("b", *WIRETAP, "echo", says="listening"),
    ):
        for wire in wires:
            for family in (4, 6):
                await running.run("a", *WIRETAP, "ask", wire.at(family, 2), *map(str, SIZES))
    for domain, all_passed in found.items():
        passed = [each for each in all_passed if ours(each)]
        assert len(passed) > 1000, domain
        for each in passed:
            assert wrong(each) == "", (domain, each.device, each.sent, each.header.hex(), each.frame[:80].hex())
        if domain != "b":
            continue
        headers = [VNET_HDR.unpack(each.header) for each in passed if each.sent == (side == "backend")]
        blank = any(flags & VIRTIO_NET_HDR_F_NEEDS_CSUM for flags, *_ in headers)
        assert blank == ("csum-offload" not in lacking), "blank checksums, where both know them"
        assert any(gso for _, gso, *_ in headers) == (not lacking), "segments are left to do, where both can"


async def test_what_is_nobodys_business_arrives_as_it_is(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...], tmp_path: Path
) -> None:
    """Of raw frames between real kernels, each is behind us what it was before. A vnic sends no tagged ones (Crossbow),
    and what dom0's bridge does not forward is its own business."""
    odd = {**ODD, "jumbo": plain(9014)}
    async with boot(lab("a", "b", mtu=9000)) as running, tapped(running, tmp_path, "a", "dom0", "b") as found:
        for wire in wires:
            data = [bytes(VNET_HDR_SIZE) + moved(frame, wire.handle) for frame in odd.values()]
            path = tmp_path / wire.name
            path.write_bytes(b"".join(RECORD.pack(0, 0, len(each)) + each for each in data))
            await running.run("a", *WIRETAP, "send", wire.device, str(path))
            await running.run("a", "ping", "-c", "1", "-W", "5", wire.at(4, 2))  # behind them all

    def at(domain: str, device: str, sent: bool) -> list[bytes]:
        return [each.frame for each in found[domain] if (each.sent, each.device) == (sent, device)]

    for wire in wires:
        before, after = at("a", wire.device, True), at("b", wire.device, False)
        hops = [(before, after)]
        if wire.name == "xnbu":
            hops = [(before, at("dom0", "vif1.0", False)), (at("dom0", "vif2.0", True), after)]
        forwarded = 0
        for name, frame in odd.items():
            frame = moved(frame, wire.handle)
            vid = int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == b"\x81\x00" else 0
            assert before.count(frame) == 1, (wire.name, name)
            for one, other in hops:
                assert other.count(frame) == (0 if vid and wire.name != "xnbu" else one.count(frame)), (wire.name, name)
            forwarded += after.count(frame)
        assert forwarded >= len(odd) - 6, wire.name


def moved(frame: bytes, handle: int) -> bytes:
    """Between the same hosts on another of their devices."""
    dst = frame[:4] + bytes([handle]) + frame[5:6] if frame[:1] == b"\0" else frame[:6]
    return dst + frame[6:10] + bytes([handle]) + frame[11:]
