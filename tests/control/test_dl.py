"""The four tools: what they print, byte for byte, what they ask of the engine, and how they complain."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.control.dl.dladm import SUBS as DLADM
from xnet.control.dl.flowadm import SUBS as FLOWADM
from xnet.control.dl.stats import DLSTAT, DLSTAT_SUBS, FLOWSTAT
from xnet.control.dl.tool import Tool, run
from xnet.control.ofmt import Field, human_lines
from xnet.control.verbs.datalink import ours
from xnet.errors import XnetError

ZERO = dict.fromkeys(("ipackets", "rbytes", "ierrors", "opackets", "obytes", "oerrors"), 0)


def link(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "class": kind,
        "mtu": 1500,
        "state": "up",
        "bridge": "",
        "over": [],
        "speed_mbps": 10000,
        "mac": "2:8:20:1:2:3",
        "mac_type": "random",
        "vid": 0,
        "forced": False,
        "media": "Ethernet",
        "duplex": "full",
        "device": name,
        "user": "",
        "temporary": False,
        "clients": [],
        "properties": [{"name": "maxbw", "perm": "rw", "value": ["  100"], "default": [], "possible": []}],
        "statistics": ZERO,
        "lanes": {"rx": [], "tx": []},
        **more,
    }


RX = {"id": "sw", "index": None, "ipkts": 5, "rbytes": 1_234_567, "intrs": 1, "polls": 4, "sdrops": 0}
SHOT = {
    "lab": "lab",
    "links": [
        link("net0", "phys"),
        link(
            "vnic0",
            "vnic",
            over=["net0"],
            statistics=ZERO | {"ipackets": 5, "rbytes": 1_234_567},
            lanes={"rx": [RX | {"ch10": 4, "ch10_50": 0, "ch50": None}], "tx": []},
        ),
        link("a_link_with_a_long_name0", "vnic", over=["net0"], vid=7, temporary=True),
    ],
    "flows": [
        {
            "name": "web",
            "link": "vnic0",
            "attributes": {"local_ip": "10.0.0.1"},
            "properties": [],
            "statistics": dict.fromkeys(("ipkts", "rbytes", "ierrs", "opkts", "obytes", "oerrs"), 7),
        }
    ],
}


class Engine:
    """Answers with the snapshot, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def call(self, **request: Any) -> Any:
        self.asked.append(request)
        if request.get("name") == "refused0":
            raise XnetError("vnic creation over net0 failed: object already exists")
        return SHOT if request["do"] == "show" else None


def answer(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str, list[dict[str, Any]]]:
    name, *words = line.split()
    subs, default = {
        "dladm": (DLADM, None),
        "flowadm": (FLOWADM, None),
        "dlstat": (DLSTAT_SUBS, DLSTAT),
        "flowstat": ({}, FLOWSTAT),
    }[name]
    engine = Engine()
    status = run(Tool(name, engine.call), subs, words, default)
    said = capsys.readouterr()
    return status, said.out, said.err, engine.asked


@pytest.mark.parametrize(
    ("line", "out"),
    [
        (
            "dladm show-link",
            "LINK        CLASS     MTU    STATE    BRIDGE     OVER\n"
            "net0        phys      1500   up       --         --\n"
            "vnic0       vnic      1500   up       --         net0\n"
            "a_link_with_a_long_name0 vnic 1500 up --         net0\n",
        ),
        (
            "dladm show-vnic vnic0",
            "LINK         OVER         SPEED  MACADDRESS        MACADDRTYPE         VID\n"
            "vnic0        net0         10000  2:8:20:1:2:3      random              0\n",
        ),
        ("dladm show-vnic -p -o link,MACADDRESS vnic0", "vnic0:2\\:8\\:20\\:1\\:2\\:3\n"),
        ("dladm show-vnic -pomacaddress vnic0", "2:8:20:1:2:3\n"),
        ("dladm show-vnic -P -p -o link", "vnic0\n"),
        ("dladm show-linkprop -c -o value -p maxbw vnic0", "  100\n"),
        (
            "dladm show-phys -m",
            "LINK         SLOT     ADDRESS            INUSE CLIENT\nnet0         primary  2:8:20:1:2:3       no   --\n",
        ),
        (
            "flowadm show-flow",
            "FLOW        LINK        IPADDR                   PROTO  LPORT   RPORT   DSFLD\n"
            "web         vnic0       LCL:10.0.0.1/32          --     --      --      --\n",
        ),
        (
            "dlstat vnic0",
            "           LINK    IPKTS   RBYTES    OPKTS   OBYTES\n"
            "          vnic0        5    1.23M        0        0\n",
        ),
        ("dlstat -u R -o rbytes vnic0", "  RBYTES\n 1234567\n"),
        ("dlstat show-link -r -p -o id,intrs,polls,ch<10,ch>50 vnic0", "sw:1:4:4:\n"),
        ("flowstat -p -o flow,ierrs web", "web:7\n"),
    ],
)
def test_tables(capsys: pytest.CaptureFixture[str], line: str, out: str) -> None:
    assert answer(capsys, line)[:3] == (0, out, "")


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (
            "dladm create-vnic -tl net0 -m random -r 2:a -v5 -f -p maxbw=5,protection=mac-nospoof,restricted v0",
            {
                "do": "create-vnic",
                "name": "v0",
                "over": "net0",
                "mac": {"type": "random", "prefix": "2:a"},
                "vid": 5,
                "force": True,
                "properties": {"maxbw": ["5"], "protection": ["mac-nospoof", "restricted"]},
                "temporary": True,
            },
        ),
        ("dladm rename-link net0 lan0", {"do": "rename-link", "old": "net0", "new": "lan0"}),
        (
            "dladm create-vlan --link=net0 --vlan-id 7",
            {"do": "create-vlan", "name": None, "over": "net0", "vid": 7, "force": False, "temporary": False},
        ),
        (
            "dladm reset-linkprop -p maxbw,mtu v0",
            {"do": "reset-linkprop", "link": "v0", "names": ["maxbw", "mtu"], "temporary": False},
        ),
        (
            "flowadm add-flow -l v0 -a transport=tcp,local_port=80 web",
            {
                "do": "add-flow",
                "name": "web",
                "link": "v0",
                "attributes": {"transport": "tcp", "local_port": "80"},
                "properties": {},
                "temporary": False,
            },
        ),
        ("flowadm remove-flow -l v0", {"do": "remove-flow", "name": None, "link": "v0", "temporary": False}),
    ],
)
def test_orders(capsys: pytest.CaptureFixture[str], line: str, asked: dict[str, Any]) -> None:
    assert answer(capsys, line) == (0, "", "", [asked])


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("dladm create-vnic -l net0 refused0", "dladm: vnic creation over net0 failed: object already exists"),
        ("dladm create-vnic -l net0 -v 4095 v0", "dladm: invalid VLAN identifier '4095'"),
        ("dladm create-vnic -l net0 -f v0", "dladm: -f option can only be used with -v"),
        ("dladm create-vnic -l net0 -m fixed v0", "dladm: 'fixed' is not a valid MAC address"),
        ("dladm create-vnic -l net0 -m 1:2:3 v0", "dladm: invalid MAC address"),
        ("dladm create-vnic -l net0 -m auto -m auto v0", "dladm: cannot specify -m option twice"),
        ("dladm create-vnic -l net0 -n 1 v0", "dladm: invalid slot number"),
        ("dladm create-vnic -l net0 -l net0 v0", "dladm: the option -l cannot be specified more than once"),
        ("dladm create-vnic -l", "dladm: option '-l' requires a value"),
        ("dladm show-link -x", "dladm: unrecognized option '-x'"),
        ("dladm show-link --nope", "dladm: unrecognized option '--nope'"),
        ("dladm foo", "dladm: unknown subcommand 'foo'"),
        ("dladm", "usage:\tdladm <subcommand> <args> ..."),
        ("dladm delete-vnic", "usage:\tdladm <subcommand> <args> ..."),
        ("dladm show-vnic nope0", "dladm: invalid link name 'nope0'"),
        ("dladm show-vnic -p", "dladm: output fields must be specified in parsable mode"),
        ("dladm show-vnic -p -o all", "dladm: output field `all' invalid in parsable mode"),
        ("dladm show-vnic -p -o nope", "dladm: unknown output field: `nope'"),
        ("dladm show-vnic -o nope", "dladm: no valid output fields"),
        ("dladm set-linkprop v0", "dladm: link property must be specified"),
        ("flowadm add-flow -a transport=tcp f", "flowadm: link is required"),
        ("flowadm add-flow -l v0 -a transport=tcp", "flowadm: flow name is required"),
        ("flowadm add-flow -l v0 -a color=red f", "flowadm: invalid flow attribute specified"),
        ("flowadm show-flow nope", "flowadm: invalid flow: 'nope'"),
        ("dlstat -r -t", "dlstat: the option -r cannot be used with -t"),
        ("dlstat -p -o link -u K", "dlstat: the option -u cannot be used with -p"),
        ("dlstat -i 0", "dlstat: invalid interval value '0'"),
        ("dlstat -i 99999999999999999", "dlstat: invalid interval value '99999999999999999'"),
        ("dladm create-vnic -l net0 -v 00000499999 v0", "dladm: invalid VLAN identifier '00000499999'"),
    ],
)
def test_complaints(capsys: pytest.CaptureFixture[str], line: str, first: str) -> None:
    status, out, err, _ = answer(capsys, line)
    assert (status, out, err.splitlines()[0]) == (1, "", first)


def test_the_header_comes_again_after_24_rows_where_there_is_no_terminal() -> None:
    fields = [Field("LINK", 12, lambda row: str(row["name"])), Field("OVER", 10, lambda row: "")]
    lines = list(human_lines(fields, [{"name": f"v{number}"} for number in range(30)]))
    assert [number for number, line in enumerate(lines) if line.startswith("LINK")] == [0, 25]
    assert lines[1] == "v0          --"


def test_a_list_that_is_too_long_goes_on_below() -> None:
    fields = [Field("LINK", 6, lambda row: "v0"), Field("OVER", 10, lambda row: "net0,net1,net2", wrap=True)]
    assert list(human_lines(fields, [{}])) == ["LINK  OVER", "v0    net0,", "      net1,net2"]


def test_our_own_options_may_stand_anywhere() -> None:
    assert ours(["show-link", "--lab", "x", "-p", "--json"]) == (["show-link", "-p"], "x", True)
