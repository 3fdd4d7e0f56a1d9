from __future__ import annotations

from pathlib import Path

import pytest

from xnet.control.config import load_lab, memory_available, parse_lab
from xnet.control.reader import LabError
from xnet.control.vifspec import default_mac, vif_of_words
from xnet.engine.lab import MIB, Lab
from xnet.errors import ConfigError

ROOT = Path(__file__).parents[2]

GOOD = """
[[bridge]]
name = "xenbr0"
address = "10.0.0.254/24"
[[etherstub]]
name = "stub0"
"""


def parse(text: str) -> Lab:
    return parse_lab(GOOD + text, "pair.toml")


def problems(text: str) -> list[str]:
    with pytest.raises(LabError) as caught:
        parse_lab(text, "pair.toml")
    return str(caught.value).splitlines()


def domain(vif: str = "", **keys: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'\n[[domain]]\nname = "a"\n{lines}vif = [{vif}]\n'


def on_bridge(rest: str) -> str:
    return domain('{ bridge = "xenbr0", ' + rest + " }")


BAD = {
    "broken TOML": ("[lab\n", 'line 1, column 5: not TOML: expected "]"'.replace('"]"', "']'")),
    "TOML that ends too soon": ('[lab]\nname = "', "not TOML"),
    "unknown key of the file": ("[[domains]]\n", 'domains: unknown key; did you mean "domain"?'),
    "unknown key of a bridge": (
        '[[bridge]]\nname = "br0"\nadress = "10.0.0.1/24"\n',
        'bridge[0].adress: unknown key; did you mean "address"?',
    ),
    "unknown key of a vif": (
        GOOD + on_bridge("brigde = 1"),
        'domain[0].vif[0].brigde: unknown key; did you mean "bridge"?',
    ),
    "unknown key far from any": (
        '[lab]\nxyzzy = "10.0.0.1/24"\n',
        "lab.xyzzy: unknown key; known here: name",
    ),
    "unknown feature": (GOOD + on_bridge("features = { gso = true }"), 'vif[0].features: unknown feature "gso"'),
    "a crash that ends in nothing known": (
        '[[domain]]\nname = "a"\non_crash = "coredump-destroy"\n',
        'domain[0].on_crash: "coredump-destroy" is not one of "destroy", "restart", "preserve"',
    ),
    "a number for a name": ("[lab]\nname = 3\n", "lab.name: must be a string in quotes, not a number"),
    "a string for a flag": ('[[bridge]]\nname = "b"\nexisting = "no"\n', "must be true or false, not a string"),
    "true for an mtu": ('[[etherstub]]\nname = "s0"\nmtu = true\n', "etherstub[0].mtu: must be a whole number"),
    "one table for a list": (
        '[bridge]\nname = "br0"\n',
        "bridge: must be a list of tables: write [[bridge]] above each",
    ),
    "a list for one table": ('[[machine]]\nmemory = "1G"\n', "machine: must be one table, not a list: write [machine]"),
    "a vif that is no list": ('[[domain]]\nname = "a"\nvif = "bridge=b"\n', "domain[0].vif: must be a list"),
    "a vif that is a number": (domain("3"), "domain[0].vif[0]: must be a table"),
    "no name": ("[[domain]]\nmemory = 32\n", "domain[0]: name is missing"),
    "two domains of a name": (domain() + domain(), 'domain[1].name: "a" is used twice: domain[0].name has it too'),
    "a bridge and a stub of a name": (
        '[[bridge]]\nname = "x0"\n[[etherstub]]\nname = "x0"\n',
        'etherstub[0].name: "x0" is used twice: bridge[0].name has it too',
    ),
    "bridge that is not": (
        GOOD + domain('{ bridge = "xenbr1" }'),
        'there is no bridge "xenbr1"; did you mean "xenbr0"?',
    ),
    "link that is not": (
        GOOD + domain('{ link = "stub1" }'),
        'vif[0].link: there is no link "stub1"; did you mean "stub0"?',
    ),
    "link that is a bridge": (GOOD + domain('{ link = "xenbr0" }'), '"xenbr0" is a bridge: write bridge = "xenbr0"'),
    "bridge that is a stub": (GOOD + domain('{ bridge = "stub0" }'), '"stub0" is a link: write link = "stub0"'),
    "bridge of a link that is not": (
        '[[link]]\nname = "l0"\nbridge = "br"\n',
        'link[0].bridge: there is no bridge "br"',
    ),
    "a link with two wires": (
        GOOD + '[[link]]\nname = "l0"\nbridge = "xenbr0"\nnic = "eth1"\n',
        "link[0].nic: the link has a wire already, bridge: a link has one",
    ),
    "a way to no interface": (
        '[[link]]\nname = "l0"\nvia = "macvtap"\n',
        'link[0].via: is about the interface that is the wire: name it, nic = "eth1"',
    ),
    "a way that is none": ('[[link]]\nname = "l0"\nnic = "eth1"\nvia = "dpdk"\n', 'link[0].via: "dpdk" is not one of'),
    "addresses of no pair": (
        '[[link]]\nname = "l0"\nnic = "eth1"\nip = "10.0.0.1/24"\n',
        'link[0].ip: is about the other end of a pair: name it, veth = "name"',
    ),
    "a pair's end in a guest": (
        GOOD + '[[link]]\nname = "l0"\nveth = "w0"\nzone = "a"\n' + domain(),
        "link[0].zone: is a guest, and links come before guests",
    ),
    "a pair's end named as a bridge": (
        GOOD + '[[link]]\nname = "l0"\nveth = "xenbr0"\n',
        'link[0].veth: "xenbr0" is used twice: bridge[0].name has it too',
    ),
    "both bridge and link": (GOOD + on_bridge('link = "stub0"'), "domain[0].vif[0]: has both bridge and link"),
    "neither bridge nor link": (GOOD + domain("{ }"), 'vif[0]: is plugged into nothing: add bridge = "…" or link'),
    "name too long for the kernel": (
        '[[bridge]]\nname = "a-bridge-too-far"\n',
        'bridge[0].name: "a-bridge-too-far" is 16 characters long: the kernel takes 15',
    ),
    "name with a slash": ('[[bridge]]\nname = "br/0"\n', '"br/0" cannot name an interface'),
    "name of the loopback": ('[[bridge]]\nname = "lo"\n', '"lo" is taken'),
    "name of a backend": ('[[bridge]]\nname = "vif1.0"\n', '"vif1.0" is taken'),
    "domain named as dom0": ('[[domain]]\nname = "Domain-0"\n', '"Domain-0" is the control domain'),
    "domain named by a number": ('[[domain]]\nname = "7"\n', '"7" would read as a domain id'),
    "domain with a space": ('[[domain]]\nname = "a b"\n', '"a b" cannot name a domain'),
    "lab named as a path": ('[lab]\nname = "../x"\n', 'lab.name: "../x" cannot name a lab'),
    "address twice on a switch": (
        GOOD + on_bridge('ip = "10.0.0.254/24"'),
        'domain[0].vif[0].ip: "10.0.0.254" is used twice: bridge[0].address has it too',
    ),
    "address twice in a domain": (
        GOOD + domain('{ bridge = "xenbr0", ip = "10.0.0.1/24" }, { link = "stub0", ip = "10.0.0.1/8" }'),
        'domain[0].vif[1].ip: "10.0.0.1" is used twice: domain[0].vif[0].ip has it too',
    ),
    "address twice through an uplink": (
        GOOD + '[[link]]\nname = "l0"\nbridge = "xenbr0"\n' + domain('{ link = "l0", ip = "10.0.0.254/24" }'),
        '"10.0.0.254" is used twice: bridge[0].address has it too',
    ),
    "address twice in two spellings": (
        GOOD + domain('{ link = "stub0", ip = ["fd00::1/64", "FD00:0:0::1/64"] }'),
        '"fd00::1" is used twice',
    ),
    "MAC twice on a switch": (
        GOOD + domain('"mac=00:16:3e:00:00:0a", { bridge = "xenbr0", mac = "00:16:3E:00:00:0A" }'),
        'domain[0].vif[1].mac: "00:16:3e:00:00:0a" is used twice: domain[0].vif[0].mac has it too',
    ),
    "MAC with a pair missing": (GOOD + on_bridge('mac = "00:16:3e:00:00"'), "is not a MAC: write six pairs"),
    "MAC of a group": (GOOD + on_bridge('mac = "01:00:5e:00:00:01"'), "is a multicast MAC"),
    "MAC of nobody": (GOOD + on_bridge('mac = "00:00:00:00:00:00"'), "is nobody's MAC"),
    "mtu too small": (GOOD + on_bridge("mtu = 67"), "domain[0].vif[0].mtu: 67 is out of range: an mtu is 68 to 65517"),
    "mtu too large": ('[[etherstub]]\nname = "s"\nmtu = 65518\n', "65518 is out of range: an mtu is 68 to 65517"),
    "mtu above the bridge's": (GOOD + on_bridge("mtu = 1501"), 'mtu: 1501 is more than the 1500 of "xenbr0"'),
    "mtu of a link above its bridge's": (
        GOOD + '[[link]]\nname = "l0"\nbridge = "xenbr0"\nmtu = 9000\n',
        'link[0].mtu: 9000 is more than the 1500 of "xenbr0"',
    ),
    "address that is none": (GOOD + on_bridge('ip = "10.0.0.256/24"'), '"10.0.0.256/24" is not an IP address'),
    "address without prefix": (GOOD + on_bridge('ip = "10.0.0.1"'), "has no prefix length: write 10.0.0.1/24"),
    "address with too long a prefix": (GOOD + on_bridge('ip = "10.0.0.1/33"'), "the prefix length must be 0 to 32"),
    "address of the network": (GOOD + on_bridge('ip = "10.0.0.0/24"'), "is the network address of its subnet"),
    "address of all": (GOOD + on_bridge('ip = "10.0.0.255/24"'), "is the broadcast address of its subnet"),
    "address of a group": (GOOD + on_bridge('ip = "ff02::1/64"'), "is no address an interface can have"),
    "gateway out of reach": (
        GOOD + domain('{ bridge = "xenbr0", ip = "10.0.0.1/24" }', gateway='"10.9.0.1"'),
        'domain[0].gateway: "10.9.0.1" is on no subnet of this domain (IPv4: 10.0.0.0/24)',
    ),
    "gateway of a family without address": (
        GOOD + domain('{ bridge = "xenbr0", ip = "10.0.0.1/24" }', gateway='"fd00::1"'),
        "is on no subnet of this domain (IPv6: none)",
    ),
    "gateway that is oneself": (
        GOOD + domain('{ bridge = "xenbr0", ip = "10.0.0.1/24" }', gateway='"10.0.0.1"'),
        "is the domain's own address",
    ),
    "a route out of reach": (
        GOOD + domain('{ bridge = "xenbr0", ip = "10.0.0.1/24" }', route='"10.2.0.0/24 via 10.9.0.1"'),
        'domain[0].route: "10.9.0.1" is on no subnet of this domain',
    ),
    "a route that is none": (
        domain(route='"10.2.0.0/24"'),
        '"10.2.0.0/24" is no route: write it like',
    ),
    "a route to a host in a network": (domain(route='"10.2.0.1/24 via 10.9.0.1"'), "is no route"),
    "a route from one family to the other": (
        domain(route='"fd00::/64 via 10.9.0.1"'),
        "an IPv6 network is not reached through IPv4",
    ),
    "two gateways of a family": (domain(gateway='["10.0.0.1", "10.0.0.2"]'), "only one for IPv4"),
    "memory in no unit": (domain(memory='"32 cats"'), 'domain[0].memory: "32 cats" is not a size'),
    "no memory": (domain(memory="0"), "must be more than nothing"),
    "too little memory": (domain(memory="1"), "1 MiB is too little: a guest needs 4 MiB"),
    "memory larger than the machine": (
        '[machine]\nmemory = "128M"\n' + domain(memory='"64M"'),
        "domain[0].memory: 64 MiB do not fit: 48 MiB of the machine's 128 MiB are left",
    ),
    "machine smaller than dom0": ('[machine]\nmemory = "64M"\n', "machine.memory: 64 MiB are too little"),
    "vlan out of range": (GOOD + domain('{ link = "stub0", vlan = 4095 }'), "a vlan is 1 to 4094, 0 for none"),
    "vlan on a bridge": (GOOD + on_bridge("vlan = 5"), "domain[0].vif[0].vlan: unknown key"),
    "no rate": (GOOD + on_bridge('rate = "10Mbit"'), 'vif[0].rate: "10Mbit" is no rate: write it as "10Mb/s"'),
    "a rate of nothing": (GOOD + on_bridge('rate = "1b/s@1us"'), "not one byte in an interval of 1 us"),
    "a rate that is a number": (GOOD + on_bridge("rate = 10"), '"10" is no rate'),
    "a time without a unit": (
        GOOD + on_bridge('rx_drain_timeout = "10"'),
        'vif[0].rx_drain_timeout: "10" is no time: write it as "10s" or "200ms"',
    ),
    "a time that is a number": (GOOD + on_bridge("rx_stall_timeout = 60"), 'rx_stall_timeout: "60" is no time'),
    "too much headroom": (
        GOOD + on_bridge("xdp_headroom = 500"),
        "vif[0].xdp_headroom: 500 is out of range: headroom is 0 to 455 bytes (Linux's XDP wants 256)",
    ),
    "headroom for windows": (
        GOOD + on_bridge('xdp_headroom = 256, frontend_profile = "windows"'),
        'vif[0].xdp_headroom: "windows" does not ask for headroom, only "linux" does: take it out',
    ),
    "headroom in flipped pages": (
        GOOD + on_bridge('xdp_headroom = 256, rx_mode = "flip"'),
        "vif[0].xdp_headroom: pages that are flipped have none",
    ),
    "no time to wait": (
        GOOD + on_bridge('rx_drain_timeout = "0s"'),
        'rx_drain_timeout: "0s": a frame must wait for some time: write "10ms" or more',
    ),
    "a lab's time": ('[lab]\nrx_stall_timeout = "1h"\n', 'lab.rx_stall_timeout: "1h" is no time'),
    "rx mode": (GOOD + on_bridge('rx_mode = "flop"'), 'rx_mode: "flop" is not one of "copy", "flip"'),
    "too many queues": (GOOD + on_bridge("queues = 17"), "17 is no number of queues: write 1 to 16"),
    "no queue offered": (GOOD + on_bridge("max_queues = 0"), "max_queues: 0 is no number of queues"),
    "no queue": (GOOD + on_bridge("queues = 0"), "0 is no number of queues"),
    "a frontend of nobody's": (
        GOOD + on_bridge('frontend_profile = "solaris"'),
        'frontend_profile: "solaris" is not one of "linux", "freebsd", "mirage", "windows", "illumos"',
    ),
    "a backend of nobody's": (
        GOOD + on_bridge('backend_profile = "xvm-2010"'),
        'backend_profile: "xvm-2010" is not one of "linux", "xvm-2007", "xvm-2008", "xvm-2009"',
    ),
    "a frontend that cannot flip": (
        GOOD + on_bridge('frontend_profile = "windows", rx_mode = "flip"'),
        'vif[0].frontend_profile: "windows" takes frames by copy only: write rx_mode = "copy"',
    ),
    "a guest that flips and trusts nobody": (
        GOOD + on_bridge('rx_mode = "flip", trusted = false'),
        "vif[0].trusted: a frontend that flips pages hides none",
    ),
    "a backend that does not copy out": (
        GOOD + on_bridge('backend_profile = "xvm-2008", tx_mode = "copy"'),
        'vif[0].tx_mode: "xvm-2008" takes frames by map only: take tx_mode out',
    ),
    "a driver domain": (GOOD + on_bridge('backend = "net"'), "driver domains are not supported yet"),
    "HVM": (domain(type='"hvm"'), 'domain[0].type: "hvm" is not supported yet: write "pv"'),
    "no type of Xen's": (domain(type='"qemu"'), '"qemu" is not one of "pv", "pvh", "hvm"'),
    "a script of one's own": (GOOD + on_bridge('script = "vif-route"'), "scripts of your own are not supported yet"),
    "an xl key of later": (
        GOOD + domain('"bridge=xenbr0,model=e1000"'),
        "emulated network cards are not supported yet",
    ),
    "an xl type of later": (
        GOOD + domain('"type=ioemu,bridge=xenbr0"'),
        "emulated network cards are not supported yet",
    ),
    "an xl key unknown": (GOOD + domain('"brige=xenbr0"'), 'vif[0].brige: unknown key; did you mean "bridge"?'),
    "an xl key without value": (GOOD + domain('"bridge"'), 'vif[0]: "bridge": write it as key=value'),
    "an xl key twice": (GOOD + domain('"bridge=xenbr0,bridge=xenbr0"'), 'vif[0]: "bridge" twice'),
    "an xl mtu in letters": (GOOD + domain('"bridge=xenbr0,mtu=big"'), "vif[0].mtu: must be a whole number"),
    "sysctl of the whole machine": (
        domain(sysctl='{ "vm.swappiness" = 1 }'),
        "only net.… settings belong to one guest",
    ),
    "sysctl that climbs": (domain(sysctl='{ "net/../vm" = 1 }'), "only net.… settings belong to one guest"),
    "existing bridge in a private dom0": ('[[bridge]]\nname = "b"\nexisting = true\n', 'add [dom0] netns = "host"'),
    "an unknown loop": ('[machine]\nloop = "trio"\n', '"trio" is not one of "auto", "asyncio", "uvloop"'),
    "an unknown netns": ('[dom0]\nnetns = "mine"\n', '"mine" is not one of "private", "host"'),
}


@pytest.mark.parametrize(
    ("vif", "trusted"),
    [('"bridge=xenbr0,untrusted"', False), ('"bridge=xenbr0,trusted=0"', False), ('"bridge=xenbr0,untrusted=0"', True),
     ('{ bridge = "xenbr0", trusted = false }', False), ('{ bridge = "xenbr0" }', True)],
)  # fmt: skip
def test_a_backend_may_be_untrusted(vif: str, trusted: bool) -> None:
    assert parse(domain(vif)).domains[0].vifs[0].trusted is trusted


def test_profiles_are_the_vifs_own() -> None:
    lab = parse(
        domain(
            '{ bridge = "xenbr0", frontend_profile = "illumos", backend_profile = "xvm-2008" },'
            '"bridge=xenbr0,frontend_profile=windows", { bridge = "xenbr0" }'
        )
    )
    found = [(vif.frontend_profile, vif.backend_profile, vif.tx_mode) for vif in lab.domains[0].vifs]
    assert found == [("illumos", "xvm-2008", "map"), ("windows", "linux", "copy"), ("linux", "linux", "copy")]


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_bad_input_gives_one_line_with_place_and_fix(text: str, expected: str) -> None:
    lines = problems(text)
    assert len(lines) == 1, lines
    assert lines[0].startswith("pair.toml: ")
    assert expected in lines[0]


def test_all_problems_of_a_file_are_told_at_once() -> None:
    lines = problems(
        GOOD + '[lab]\nnmae = "x"\n' + domain('{ bridge = "xenbr1", ip = "10.0.0.1", mtu = 1 }', memory='"x"')
    )
    assert len(lines) == 5


def test_problems_are_config_errors_with_a_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lab('[[bridge]]\nname = "a-bridge-too-far"\n', "x.toml")
    assert caught.value.path == "bridge[0].name"


def test_a_lab_becomes_what_the_file_says() -> None:
    lab = parse(
        '[lab]\nname = "two"\n[machine]\nmemory = "1G"\nheap = 8\nloop = "asyncio"\n[dom0]\nnetns = "host"\n'
        '[[link]]\nname = "net0"\nbridge = "xenbr0"\n'
        + domain(
            '{ bridge = "xenbr0", ip = ["10.0.0.1/24", "FD00::1/64"], mac = "00:16:3E:00:00:01", tx_mode = "map" },'
            '{ link = "net0", mtu = 1400, script = "/etc/xen/scripts/vif-vnic", queues = 1, backend = "dom0" }',
            memory='"64M"',
            gateway='["10.0.0.254", "fd00::fe"]',
            route='["10.9.0.0/16 via 10.0.0.9", "fd09::/64 via fd00::9"]',
            sysctl='{ "net.ipv4.ip_forward" = true, net.core.somaxconn = 5 }',
        )
    )
    assert (lab.name, lab.memory, lab.heap, lab.loop, lab.dom0_netns) == ("two", 1024 * MIB, 8 * MIB, "asyncio", "host")
    assert lab.bridges[0].address == ("10.0.0.254/24",)
    assert lab.etherstubs[0].mtu == 9000
    assert lab.links[0].bridge == "xenbr0"
    a = lab.domains[0]
    assert (a.name, a.memory, a.gateway) == ("a", 64 * MIB, ("10.0.0.254", "fd00::fe"))
    assert a.route == (("10.9.0.0/16", "10.0.0.9"), ("fd09::/64", "fd00::9"))
    assert a.sysctl == {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "5"}
    first, second = a.vifs
    assert (first.bridge, first.link, first.mac, first.mtu) == ("xenbr0", None, "00:16:3e:00:00:01", 1500)
    assert (first.ip, first.tx_mode) == (("10.0.0.1/24", "fd00::1/64"), "map")
    assert (second.bridge, second.link, second.mtu, second.script) == (None, "net0", 1400, "vif-vnic")


def test_a_link_has_the_wire_that_the_file_says() -> None:
    lab = parse(
        '[[link]]\nname = "n0"\nnic = "eth1"\nvia = "macvtap"\n'
        '[[link]]\nname = "n1"\nnic = "eth2"\npromiscuous = true\n'
        '[[link]]\nname = "n2"\nveth = "w0"\nzone = "office"\nip = "10.0.0.1/24"\n'
    )
    assert [(link.nic, link.via, link.promiscuous) for link in lab.links] == [
        ("eth1", "macvtap", False), ("eth2", "packet", True), ("", "packet", False),
    ]  # fmt: skip
    assert (lab.links[2].veth, lab.links[2].zone, lab.links[2].ip) == ("w0", "office", ("10.0.0.1/24",))


def test_a_vif_takes_the_mtu_of_its_switch() -> None:
    lab = parse(domain('{ link = "stub0" }, { bridge = "xenbr0" }'))
    assert [vif.mtu for vif in lab.domains[0].vifs] == [9000, 1500]


def test_a_vif_in_xl_grammar_is_the_table_it_stands_for() -> None:
    lab = parse(
        domain(
            '"mac=00:16:3e:00:00:01, bridge=xenbr0,ip=10.0.0.1/24 fd00::1/64,mtu=1400,type=vif,trusted=1",'
            '"script=vif-bridge"'
        )
    )
    first, empty = lab.domains[0].vifs
    assert (first.mac, first.bridge, first.mtu) == ("00:16:3e:00:00:01", "xenbr0", 1400)
    assert first.ip == ("10.0.0.1/24", "fd00::1/64")
    assert empty.bridge == "xenbr0"


def test_features_may_be_for_both_sides_or_for_one() -> None:
    lab = parse(on_bridge("features = { sg = false }, frontend_features = { sg = true, gso-tcpv4 = false }"))
    vif = lab.domains[0].vifs[0]
    assert vif.frontend_features == {"sg": True, "gso-tcpv4": False}
    assert vif.backend_features == {"sg": False}


def test_default_macs_are_stable_distinct_and_in_xens_range() -> None:
    macs = {default_mac("lab", name, index) for name in "abc" for index in range(8)}
    assert len(macs) == 24
    assert all(mac.startswith("00:16:3e:") and int(mac[9:11], 16) < 0x80 for mac in macs)
    assert default_mac("lab", "a", 0) == default_mac("lab", "a", 0) != default_mac("bal", "a", 0)


def test_the_lab_is_named_by_its_file() -> None:
    assert parse_lab("", "/somewhere/my-lab.toml").name == "my-lab"


def test_a_file_whose_name_cannot_be_the_labs_says_so() -> None:
    with pytest.raises(LabError, match=r'lab.name: the file.s name "my lab" cannot be the lab.s: add name'):
        parse_lab("", "my lab.toml")


def test_the_same_addresses_on_switches_apart_are_fine() -> None:
    text = '[[etherstub]]\nname = "s1"\n' + domain('{ link = "stub0", ip = "10.0.0.1/24", mac = "00:16:3e:00:00:01" }')
    text += '[[domain]]\nname = "b"\nvif = [{ link = "s1", ip = "10.0.0.1/24", mac = "00:16:3e:00:00:01" }]\n'
    assert len(parse(text).domains) == 2


def test_a_lab_larger_than_this_machine_is_refused() -> None:
    with pytest.raises(LabError, match="the lab takes 112 MiB and this machine has 100 MiB left"):
        parse_lab(domain(), "x.toml", available=100 * MIB)
    assert parse_lab(domain(), "x.toml", available=112 * MIB).domains


def test_available_memory_is_asked_of_the_kernel() -> None:
    available = memory_available()
    assert available is not None
    assert available > MIB


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_good_lab(path: Path) -> None:
    assert load_lab(path).domains


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no such file"):
        load_lab(tmp_path / "x.toml")


def test_a_directory_is_no_lab(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is a directory"):
        load_lab(tmp_path)


def test_a_binary_file_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(LabError, match="not a TOML file"):
        load_lab(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("lab", "vif", "times"),
    [
        ("", "", (10.0, 60.0)),
        ('rx_drain_timeout = "200ms"\nrx_stall_timeout = "2s"', "", (0.2, 2.0)),
        ('rx_stall_timeout = "2s"', 'rx_stall_timeout = 0, rx_drain_timeout = "500us"', (0.0005, 0.0)),
    ],
)
def test_times_are_the_labs_unless_a_vif_has_its_own(lab: str, vif: str, times: tuple[float, float]) -> None:
    found = parse_lab(f"[lab]\n{lab}\n" + GOOD + on_bridge(vif or "mtu = 1500"), "x.toml").domains[0].vifs[0]
    assert (found.rx_drain_s, found.rx_stall_s) == times


def test_a_vif_plugged_in_later_is_as_the_lab_says() -> None:
    lab = parse_lab(
        '[lab]\nrx_mode = "flip"\nrx_drain_timeout = "1s"\nrx_stall_timeout = "2s"\n'
        '[[bridge]]\nname = "xenbr0"\n[[domain]]\nname = "a"\n',
        "later.toml",
    )
    vif = vif_of_words(["bridge=xenbr0"], lab, "a", 0)
    assert (vif.rx_drain_s, vif.rx_stall_s) == (1.0, 2.0)
    assert vif.frontend_features == {"rx-copy": False, "rx-flip": True}
    assert vif_of_words(["bridge=xenbr0", "rx_mode=copy"], lab, "a", 0).frontend_features == {}
