"""Protection against crafted frames, mode by mode, and with real tools: a DHCP lease, a router's prefix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.privileged]

LAB = """
[[etherstub]]
name = "stub0"
mtu = 1500
[[domain]]
name = "a"
sysctl = { "net.ipv6.conf.all.disable_ipv6" = 1 }
vif = [{ link = "stub0", ip = "10.1.0.1/24", mac = "00:16:3e:00:00:01" }]
[[domain]]
name = "b"
vif = [{ link = "stub0", ip = ["10.1.0.2/24", "fd01::2/64"], mac = "00:16:3e:00:00:02" }]
[[domain]]
name = "c"
vif = [{ link = "stub0", mac = "00:16:3e:00:00:03" }]
"""
CRAFT = """
import sys
from scapy.all import *
from scapy.layers.dhcp6 import *
conf.verb = 0
sendp(eval(sys.argv[1]), iface="eth0", count=int(sys.argv[2]))
"""
COUNTERS = ("macspoofed", "restricted", "ipspoofed", "dhcpspoofed")


class Command:
    """The command, with a lab that runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "XNET_RUN": str(home / "run")}

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "xnet", *words]

    def __call__(self, *words: str, status: int | None = 0) -> str:
        done = subprocess.run(
            self.line(*words), cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert status is None or done.returncode == status, done
        return done.stdout + done.stderr

    def craft(self, guest: str, frame: str, count: int = 5) -> None:
        """Frames that a guest sends as they are."""
        self("exec", guest, "--", sys.executable, "-c", CRAFT, frame, str(count))

    def protect(self, *properties: str) -> None:
        """Just these properties of a's and c's vnics."""
        for vnic in ("xvm1_0", "xvm3_0"):
            self("dladm", "reset-linkprop", "-t", "-p", "protection,allowed-ips,allowed-dhcp-cids", vnic)
            for each in properties:
                self("dladm", "set-linkprop", "-t", "-p", each, vnic)

    def counted(self, vnic: str) -> dict[str, int]:
        """What its protection dropped."""
        rows = (line.split() for line in self("dlstat", "-A", vnic).splitlines())
        return {row[0]: int(row[1]) for row in rows if row[0] in COUNTERS}

    def arrived(self) -> int:
        """At b."""
        return int(self("dladm", "show-link", "-s", "-p", "-o", "ipackets", "xvm2_0"))

    def echoes(self, guest: str, *words: str) -> bool:
        return " 1 received" in self("exec", guest, "--", "ping", "-c", "1", "-W", "1", *words, status=None)


@pytest.fixture(scope="module")
def xnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    home = tmp_path_factory.mktemp("protection")
    (home / "guarded.toml").write_text(LAB)
    command = Command(home)
    command("up", "guarded.toml")
    try:
        yield command
    finally:
        command("down", "--lab", "guarded")
    assert not any((home / "run").iterdir())


ETHER = 'Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02")'
ALLOWED = ("protection=ip-nospoof", "allowed-ips=10.1.0.1,fd01::1")
MINE, OTHERS = 'b"\\x00\\x16>\\x00\\x00\\x01"', 'b"\\x00\\x16>\\x00\\x00\\x02"'
BOOTP = 'IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / BOOTP(chaddr={}, xid=7)'
SOLICIT = (
    'IPv6(src="fe80::216:3eff:fe00:1", dst="ff02::1:2") / UDP(sport=546, dport=547)'
    ' / DHCP6_Solicit(trid=7) / DHCP6OptClientId(duid=DUID_LL(lladdr="{}"))'
)
FRAMES = [
    (("protection=mac-nospoof",), ETHER + ' / IP(src="10.9.9.9", dst="10.1.0.2") / ICMP()', ""),
    (
        ("protection=mac-nospoof",),
        'Ether(src="00:16:3e:00:00:99", dst="00:16:3e:00:00:02") / IP(src="10.1.0.1", dst="10.1.0.2") / ICMP()',
        "macspoofed",
    ),
    (("protection=restricted",), ETHER + ' / IP(src="10.9.9.9", dst="10.1.0.2") / ICMP()', ""),
    (("protection=restricted",), ETHER + ' / ARP(psrc="10.9.9.9", pdst="10.1.0.2")', ""),
    (("protection=restricted",), ETHER.replace(")", ", type=0x88cc)") + ' / b"x"', "restricted"),
    (ALLOWED, ETHER + ' / IP(src="10.1.0.1", dst="10.1.0.2") / ICMP()', ""),
    (ALLOWED, ETHER + ' / IP(src="10.1.0.9", dst="10.1.0.2") / ICMP()', "ipspoofed"),
    (ALLOWED, ETHER + ' / ARP(hwsrc="00:16:3e:00:00:01", psrc="10.1.0.1", pdst="10.1.0.2")', ""),
    (ALLOWED, ETHER + ' / ARP(hwsrc="00:16:3e:00:00:01", psrc="10.1.0.9", pdst="10.1.0.2")', "ipspoofed"),
    (ALLOWED, ETHER + ' / ARP(hwsrc="00:16:3e:00:00:99", psrc="10.1.0.1", pdst="10.1.0.2")', "ipspoofed"),
    (ALLOWED, ETHER + ' / IPv6(src="fd01::1", dst="fd01::2") / ICMPv6EchoRequest()', ""),
    (ALLOWED, ETHER + ' / IPv6(src="fd01::9", dst="fd01::2") / ICMPv6EchoRequest()', "ipspoofed"),
    (ALLOWED, ETHER + ' / IPv6(src="fd01::1", dst="fd01::2") / ICMPv6ND_NA(tgt="fd01::1")', ""),
    (ALLOWED, ETHER + ' / IPv6(src="fd01::1", dst="fd01::2") / ICMPv6ND_NA(tgt="fd01::9")', "ipspoofed"),
    (("protection=dhcp-nospoof",), ETHER + " / " + BOOTP.format(MINE) + ' / DHCP(options=["end"])', ""),
    (("protection=dhcp-nospoof",), ETHER + " / " + BOOTP.format(OTHERS) + ' / DHCP(options=["end"])', "dhcpspoofed"),
    (
        ("protection=dhcp-nospoof",),
        ETHER + " / " + BOOTP.format(MINE) + ' / DHCP(options=[("client_id", b"\\x00other"), "end"])',
        "dhcpspoofed",
    ),
    (
        ("protection=dhcp-nospoof", "allowed-dhcp-cids=other"),
        ETHER + " / " + BOOTP.format(MINE) + ' / DHCP(options=[("client_id", b"\\x00other"), "end"])',
        "",
    ),
    (("protection=dhcp-nospoof",), ETHER + " / " + SOLICIT.format("00:16:3e:00:00:01"), ""),
    (("protection=dhcp-nospoof",), ETHER + " / " + SOLICIT.format("00:16:3e:00:00:02"), "dhcpspoofed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "frame", "counter"), FRAMES, ids=[f"{i}-{row[2]}" for i, row in enumerate(FRAMES)]
)
def test_a_crafted_frame_passes_or_is_counted(
    xnet: Command, properties: tuple[str, ...], frame: str, counter: str
) -> None:
    xnet.protect(*properties)
    before, there = xnet.counted("xvm1_0"), xnet.arrived()
    xnet.craft("a", frame)
    after = xnet.counted("xvm1_0")
    dropped = {name: after[name] - before.get(name, 0) for name in COUNTERS}
    assert dropped == dict.fromkeys(COUNTERS, 0) | ({counter: 5} if counter else {})
    if counter:
        assert xnet.arrived() < there + 5
    else:
        assert xnet.arrived() >= there + 5


def test_a_real_dhcp_lease_may_be_used_and_nothing_else(xnet: Command, tmp_path: Path) -> None:
    xnet.protect("protection=mac-nospoof,ip-nospoof,dhcp-nospoof")
    script = tmp_path / "bound"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && ip address add "$ip/24" dev "$interface"\nexit 0\n')
    script.chmod(0o755)
    xnet("exec", "c", "--", "ip", "address", "add", "10.1.0.99/24", "dev", "eth0")
    assert not xnet.echoes("c", "-I", "10.1.0.99", "10.1.0.2")
    server = subprocess.Popen(
        xnet.line(
            *("exec", "b", "--", "dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--user=root"),
            *("--dhcp-range=10.1.0.50,10.1.0.50,1h", "--interface=eth0", "--leasefile-ro", "--pid-file"),
        ),
        env=xnet.environment,
        cwd=xnet.home,
    )
    try:
        said = xnet("exec", "c", "--", "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "20", "-s", str(script))
        assert "10.1.0.50" in said
    finally:
        server.terminate()
        server.wait(10)
    assert xnet.echoes("c", "-I", "10.1.0.50", "10.1.0.2")
    assert not xnet.echoes("c", "-I", "10.1.0.99", "10.1.0.2")
    assert xnet.counted("xvm3_0")["ipspoofed"] > 0


def test_an_advertised_prefix_may_be_used_with_the_own_identifier_and_a_dhcpv6_lease(xnet: Command) -> None:
    xnet.protect("protection=mac-nospoof,ip-nospoof,dhcp-nospoof")
    router = (
        'Ether(src="00:16:3e:00:00:02", dst="33:33:00:00:00:01") / IPv6(src="fe80::216:3eff:fe00:2", dst="ff02::1")'
    )
    prefix = ' / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="fd01::", prefixlen=64, validlifetime=900)'
    for address in ("fd01::216:3eff:fe00:3", "fd01::99", "fd01::77"):
        xnet("exec", "c", "--", "ip", "address", "replace", f"{address}/64", "dev", "eth0", "nodad")
        assert not xnet.echoes("c", "-I", address, "fd01::2")
    xnet.craft("b", router + prefix, 1)
    assert xnet.echoes("c", "-I", "fd01::216:3eff:fe00:3", "fd01::2")
    assert not xnet.echoes("c", "-I", "fd01::99", "fd01::2")
    name = 'DHCP6OptClientId(duid=DUID_LL(lladdr="00:16:3e:00:00:03"))'
    lease = 'DHCP6OptIA_NA(iaid=1, ianaopts=[DHCP6OptIAAddress(addr="fd01::77", preflft=900, validlft=900)])'
    asks = 'Ether(src="00:16:3e:00:00:03", dst="33:33:00:01:00:02") / IPv6(src="{}", dst="ff02::1:2")'
    says = 'Ether(src="00:16:3e:00:00:02", dst="00:16:3e:00:00:03") / IPv6(src="fe80::216:3eff:fe00:2", dst="{}")'
    asks, says = (each.format("fe80::216:3eff:fe00:3") for each in (asks, says))
    xnet.craft("c", f"{asks} / UDP(sport=546, dport=547) / DHCP6_Request(trid=5) / {name} / {lease}", 1)
    xnet.craft("b", f"{says} / UDP(sport=547, dport=546) / DHCP6_Reply(trid=6) / {name} / {lease}", 1)
    assert not xnet.echoes("c", "-I", "fd01::77", "fd01::2"), "an answer to somebody else"
    xnet.craft("b", f"{says} / UDP(sport=547, dport=546) / DHCP6_Reply(trid=5) / {name} / {lease}", 1)
    assert xnet.echoes("c", "-I", "fd01::77", "fd01::2")
