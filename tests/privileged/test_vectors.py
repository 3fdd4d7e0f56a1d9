"""What Crossbow's reference says can be seen from outside, each by the command line and real frames."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

pytestmark = [pytest.mark.privileged]

LAB = """
[[bridge]]
name = "xenbr0"
address = "10.0.0.254/24"
[[link]]
name = "net0"
bridge = "xenbr0"
[[etherstub]]
name = "stub0"
mtu = 1500
[[vnic]]
name = "spy0"
over = "stub0"
zone = "dom0"
[[domain]]
name = "a"
sysctl = { "net.ipv6.conf.all.disable_ipv6" = 1 }
vif = [{ link = "stub0", ip = "10.1.0.1/24", mac = "00:16:3e:00:00:01" }, { link = "net0", ip = "10.0.0.1/24" }]
[[domain]]
name = "b"
sysctl = { "net.ipv6.conf.all.disable_ipv6" = 1 }
vif = [{ link = "stub0", ip = "10.1.0.2/24", mac = "00:16:3e:00:00:02" }, { link = "net0", ip = "10.0.0.2/24" }]
[[domain]]
name = "v"
sysctl = { "net.ipv6.conf.all.disable_ipv6" = 1 }
vif = [{ link = "stub0", ip = "10.1.0.3/24", vlan = 7, mac = "00:16:3e:00:00:03" }]
"""
CRAFT = """
import sys
from scapy.all import ARP, Ether, IP, Raw, UDP, conf, sendp
conf.verb = 0
sendp(eval(sys.argv[1]), iface="eth0", count=int(sys.argv[2]))
"""
Xnet = Callable[..., str]


@pytest.fixture(scope="module")
def xnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Xnet]:
    """The command, with a lab that runs."""
    home = tmp_path_factory.mktemp("vectors")
    (home / "vectors.toml").write_text(LAB)
    environment = {**os.environ, "XNET_RUN": str(home / "run")}

    def run(*words: str, status: int = 0) -> str:
        command = [sys.executable, "-P", "-m", "xnet", *words]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done
        return done.stdout + done.stderr

    run("up", "vectors.toml")
    try:
        yield run
    finally:
        run("down", "--lab", "vectors")
    assert not any((home / "run").iterdir())


def craft(xnet: Xnet, guest: str, frame: str, count: int = 5) -> None:
    """Frames that a guest sends as they are."""
    xnet("exec", guest, "--", sys.executable, "-c", CRAFT, frame, str(count))


def counted(xnet: Xnet, name: str, field: str) -> int:
    """A link's counter."""
    return int(xnet("dladm", "show-link", "-s", "-p", "-o", field, name))


def echoes(xnet: Xnet, guest: str, to: str) -> bool:
    try:
        xnet("exec", guest, "--", "ping", "-c", "1", "-W", "1", to)
    except AssertionError:
        return False
    return True


UNKNOWN = 'Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:99") / Raw(b"x" * 60)'
ITSELF = 'Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:01") / Raw(b"x" * 60)'
GROUP = 'Ether(src="00:16:3e:00:00:01", dst="01:00:5e:00:00:fb") / Raw(b"x" * 60)'
TO_B = 'Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02") / Raw(b"x" * 60)'
TO_V = 'Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:03") / Raw(b"x" * 60)'
EVERYBODY = 'Ether(src="00:16:3e:00:00:01", dst="ff:ff:ff:ff:ff:ff") / Raw(b"x" * 60)'
REACHES = [
    ("unknown unicast: nobody, and it counts as sent", UNKNOWN, ""),
    ("its own address: itself", ITSELF, "a"),
    ("a group: all of its VLAN that want it", GROUP, "b spy"),
    ("another: that one, and none that spies", TO_B, "b"),
    ("another of another VLAN: nobody", TO_V, ""),
    ("everybody: those of its VLAN", EVERYBODY, "b spy"),
]
LINKS = {"a": "xvm1_0", "b": "xvm2_0", "v": "xvm3_0", "spy": "spy0"}


@pytest.mark.parametrize(("frame", "reached"), [row[1:] for row in REACHES], ids=[row[0] for row in REACHES])
def test_a_crafted_frame_on_an_etherstub_reaches(xnet: Xnet, frame: str, reached: str) -> None:
    before = {who: counted(xnet, link, "ipackets") for who, link in LINKS.items()}
    sent = counted(xnet, "xvm1_0", "opackets")
    craft(xnet, "a", frame)
    assert counted(xnet, "xvm1_0", "opackets") >= sent + 5
    got = {who: counted(xnet, link, "ipackets") - before[who] for who, link in LINKS.items()}
    assert {who for who, count in got.items() if count >= 5} == set(reached.split())
    assert all(count < 3 for who, count in got.items() if who not in reached.split()), got


def test_vlans_do_not_meet(xnet: Xnet) -> None:
    assert echoes(xnet, "a", "10.1.0.2")
    assert not echoes(xnet, "v", "10.1.0.1")


def test_a_link_is_up_for_its_clients_while_its_cable_is_out(xnet: Xnet) -> None:
    state = ("dladm", "show-link", "-p", "-o", "state")
    assert echoes(xnet, "a", "10.0.0.254")
    xnet("exec", "dom0", "--", "ip", "link", "set", "net0", "down")
    try:
        assert [xnet(*state, name) for name in ("net0", "xvm1_1", "xvm2_1")] == ["down\n", "up\n", "up\n"]
        assert echoes(xnet, "a", "10.0.0.2")
        assert not echoes(xnet, "a", "10.0.0.254")
    finally:
        xnet("exec", "dom0", "--", "ip", "link", "set", "net0", "up")
    xnet("dladm", "create-vnic", "-t", "-l", "net0", "-v", "9", "lone0")
    xnet("exec", "dom0", "--", "ip", "link", "set", "net0", "down")
    assert xnet(*state, "lone0") == "down\n", "nobody shares its VLAN"
    xnet("exec", "dom0", "--", "ip", "link", "set", "net0", "up")
    xnet("dladm", "delete-vnic", "lone0")


def test_flows_of_two_kinds_do_not_mix(xnet: Xnet) -> None:
    xnet("flowadm", "add-flow", "-t", "-l", "xvm1_0", "-a", "transport=tcp", "one")
    again = xnet("flowadm", "add-flow", "-t", "-l", "xvm1_0", "-a", "transport=tcp", "two", status=1)
    assert again == "flowadm: add flow failed: a flow with identical attributes exists\n"
    mixed = xnet("flowadm", "add-flow", "-t", "-l", "xvm1_0", "-a", "local_ip=10.1.0.1", "two", status=1)
    assert mixed == "flowadm: add flow failed: flow(s) with incompatible attributes exists\n"
    stub = xnet("flowadm", "add-flow", "-t", "-l", "stub0", "-a", "transport=tcp", "two", status=1)
    assert stub == "flowadm: add flow failed: operation not supported\n"
    xnet("flowadm", "remove-flow", "-t", "one")


def test_maxbw_has_a_least_value_and_none_drops_everything(xnet: Xnet) -> None:
    wrong = xnet("dladm", "set-linkprop", "-t", "-p", "maxbw=1199K", "xvm1_0", status=1)
    assert wrong == "dladm: cannot set link property 'maxbw' on 'xvm1_0': minimum value for maxbw is 1200K\n"
    xnet("dladm", "set-linkprop", "-t", "-p", "maxbw=0", "xvm1_0")
    assert not echoes(xnet, "a", "10.1.0.2")
    xnet("dladm", "reset-linkprop", "-t", "-p", "maxbw", "xvm1_0")
    assert echoes(xnet, "a", "10.1.0.2")


def test_parsable_mode_wants_fields_and_escapes_only_among_several(xnet: Xnet) -> None:
    refused = xnet("dladm", "show-vnic", "-p", status=1)
    assert refused == "dladm: output fields must be specified in parsable mode\n"
    assert xnet("dladm", "show-vnic", "-p", "-o", "macaddress", "xvm1_0") == "0:16:3e:0:0:1\n"
    assert xnet("dladm", "show-vnic", "-p", "-o", "link,macaddress", "xvm1_0") == "xvm1_0:0\\:16\\:3e\\:0\\:0\\:1\n"


WRONG = [
    ("dladm create-vnic -l stub0 9lives", "invalid link name '9lives'"),
    ("dladm create-vnic -l spy0 x0", "vnic creation over spy0 failed: invalid argument"),
    ("dladm create-vnic -l stub0 spy0", "vnic creation over stub0 failed: object already exists"),
    ("dladm create-vnic -l stub9 x0", "invalid link name 'stub9'"),
    ("dladm create-vnic -l stub0 -m fixed x0", "'fixed' is not a valid MAC address"),
    (
        "dladm create-vnic -l stub0 -m 0:16:3e:0:0:1 x0",
        "vnic creation over stub0 failed: MAC address is already in use",
    ),
    ("dladm create-vnic -l stub0 -m 1:0:5e:0:0:1 x0", "vnic creation over stub0 failed: invalid MAC address"),
    ("dladm create-vnic -l stub0 -v 4095 x0", "invalid VLAN identifier '4095'"),
    ("dladm create-vnic -l stub0 -v 1 x0", "VLAN over 'stub0' may not use default_tag ID (see dladm(1M))"),
    (
        "dladm create-vnic -l net0 -m factory x0",
        "vnic creation over net0 failed: factory MAC address slots not supported",
    ),
    ("dladm delete-vnic xvm1_0", "vnic deletion failed: link busy"),
    ("dladm delete-etherstub stub0", "vnic deletion failed: link busy"),
    ("dladm delete-etherstub net0", "'net0' is not an etherstub"),
    ("dladm delete-vnic stub0", "'stub0' is not a vnic"),
    (
        "dladm set-linkprop -p mtu=100 stub0",
        "cannot set link property 'mtu' on 'stub0': MTU outside of device's supported range",
    ),
    ("dladm set-linkprop -p cpus=0 xvm1_0", "cannot set link property 'cpus' on 'xvm1_0': operation not supported"),
    ("dladm set-linkprop -p zone=a spy0", "cannot set link property 'zone' on 'spy0': change cannot be persistent"),
    ("dladm set-linkprop -p protection=all xvm1_0", "warning: link property 'protection' must be one of: "),
    ("dladm rename-link spy0 net0", "rename operation failed: object already exists"),
    ("dladm create-aggr -l stub0 aggr0", "create operation failed: invalid argument"),
    ("dladm create-bridge -l spy0 lan", "create operation failed: invalid argument"),
    ("dladm create-bridge lan0", "'lan0' is not a valid bridge name"),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_what_cannot_be_is_said_in_dladms_words_and_nothing_is_half_made(xnet: Xnet, line: str, says: str) -> None:
    before = xnet("dladm", "show-link", "-p", "-o", "link,class,mtu,over")
    assert xnet(*line.split(), status=1).startswith(f"dladm: {says}")
    assert xnet("dladm", "show-link", "-p", "-o", "link,class,mtu,over") == before


def test_under_load_polls_dominate_in_dlstat(xnet: Xnet) -> None:
    """By way of a wire: dom0 sends, the guest's vnic hears."""
    fields = ("dlstat", "show-link", "-r", "-p", "-o", "id,intrs,polls", "xvm1_1")
    before = {row[0]: row[1:] for row in (line.split(":") for line in xnet(*fields).splitlines())}
    server = "iperf3 -s -1 -D && sleep 0.5"
    xnet("exec", "a", "--", "sh", "-c", server)
    xnet("exec", "dom0", "--", "iperf3", "-c", "10.0.0.1", "-t", "2")
    after = {row[0]: row[1:] for row in (line.split(":") for line in xnet(*fields).splitlines())}
    intrs, polls = (int(now) - int(then) for now, then in zip(after["sw"], before["sw"], strict=True))
    assert polls > 1000
    assert polls > intrs
