"""dladm's and dlstat's words for aggregations and bridges, and what else a few links' tables have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.test_dl import SHOT, ZERO, answer, link
from xnet.control.dl.bundles import NO_LACP
from xnet.control.dl.stats import DLSTAT, DLSTAT_SUBS
from xnet.control.dl.tool import NO_ACCOUNTING, Tool, run


def port(name: str, mac: str, up: bool, *counted: int) -> dict[str, Any]:
    counters = dict(zip(("ipackets", "rbytes", "opackets", "obytes"), counted, strict=True))
    return {"name": name, "mac": mac, "state": "up" if up else "down", "active": up, "speed_mbps": 10000, **counters}


PORTS = [port("net0", "2:0:0:0:0:1", True, 3, 300, 1, 60), port("net1", "2:0:0:0:0:2", False, 1, 100, 0, 0)]
BUNDLED = SHOT | {
    "links": [
        link("aggr0", "aggr", over=["net0", "net1"], speed_mbps=20000, policy="L4", mode="trunk", ports=PORTS),
        *SHOT["links"],
    ],
    "bridges": [
        {
            "name": "lan",
            "protect": "none",
            "address": "2:8:20:1:2:3",
            "priority": 32768,
            "desroot": "",
            "members": [{"link": "net0", "state": "forwarding", "recv": 5, "xmit": 6, "drops": 7}],
            "fdb": [
                {"dest": "2:0:0:0:0:9", "age": "5.000", "flags": "", "output": "net0"},
                {"dest": "2:0:0:0:0:8", "age": "", "flags": "L", "output": "stub0"},
            ],
            "statistics": {"drops": 7, "forwards": 11},
        }
    ],
}
BUNDLE_TABLES = [
    (
        "dladm show-aggr",
        "LINK            POLICY   ADDRPOLICY           LACPACTIVITY  LACPTIMER   FLAGS   MODE\n"
        "aggr0           L4       auto                 off           short       -----   trunk\n",
    ),
    (
        "dladm show-aggr -x",
        "LINK        PORT           SPEED DUPLEX    STATE     ADDRESS            PORTSTATE\n"
        "aggr0       --             20000 full      up        2:8:20:1:2:3       --\n"
        "aggr0       net0           10000 full      up        2:0:0:0:0:1        attached\n"
        "aggr0       net1           10000 full      down      2:0:0:0:0:2        standby\n",
    ),
    (
        "dladm show-aggr -s -o port,ipackets,ipktdist,opktdist",
        "PORT      IPACKETS  IPKTDIST OPKTDIST\n"
        "--        4         --       --\n"
        "net0      3         75.0     100.0\n"
        "net1      1         25.0     0.0\n",
    ),
    (
        "dlstat show-aggr -u R",
        "           LINK            PORT    IPKTS   RBYTES    OPKTS   OBYTES\n"
        "          aggr0              --        4      400        1       60\n"
        "          aggr0            net0        3      300        1       60\n"
        "          aggr0            net1        1      100        0        0\n",
    ),
    (
        "dladm show-bridge",
        "BRIDGE      PROTECT ADDRESS            PRIORITY DESROOT\nlan         none    2:8:20:1:2:3       32768    --\n",
    ),
    ("dladm show-bridge -s lan", "BRIDGE      DROPS       FORWARDS\nlan         7           11\n"),
    (
        "dladm show-bridge -f lan",
        "DEST             AGE    FLAGS OUTPUT\n"
        "2:0:0:0:0:9      5.000  --    net0\n"
        "2:0:0:0:0:8      --     L     stub0\n",
    ),
    ("dladm show-bridge -l -o link,state lan", "LINK        STATE\nnet0        forwarding\n"),
    (
        "dladm show-bridge -ls -o link,drops,recv,xmit lan",
        "LINK        DROPS     RECV      XMIT\nnet0        7         5         6\n",
    ),
    ("dladm show-bridge -f -p -o dest,output lan", "2\\:0\\:0\\:0\\:0\\:9:net0\n2\\:0\\:0\\:0\\:0\\:8:stub0\n"),
    (
        "dladm show-phys -H",
        "LINK         RINGTYPE RINGS  CLIENTS\n"
        "net0         RX       --     <default>\n"
        "net0         TX       --     <default>\n",
    ),
    (
        "dladm show-ether -x",
        "LINK            PTYPE    STATE    AUTO  SPEED-DUPLEX                    PAUSE  REM_FAULT\n"
        "net0            current  up       no    10G-f                           none   none\n"
        "--              capable  --       no    10G-f                           none   none\n"
        "--              adv      --       no    --                              none   none\n"
        "--              peeradv  --       no    --                              none   none\n",
    ),
    ("dlstat -A a_link_with_a_long_name0", "a_link_with_a_long_name0\n"),
    ("flowstat -A web", "web\n"),
]


@pytest.mark.parametrize(("line", "out"), BUNDLE_TABLES, ids=[line for line, _ in BUNDLE_TABLES])
def test_tables_of_bundles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, out: str
) -> None:
    monkeypatch.setitem(SHOT, "links", BUNDLED["links"])
    monkeypatch.setitem(SHOT, "bridges", BUNDLED["bridges"])
    status, printed, complaint, _ = answer(capsys, line)
    assert (status, complaint) == (0, "")
    assert printed == out if out.count("\n") > 1 else printed.startswith(out)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (
            "dladm create-aggr -t -P L2,L3 -m dlmp -l net0 -l net1 aggr0",
            {
                "do": "create-aggr",
                "name": "aggr0",
                "links": ["net0", "net1"],
                "policy": "L2,L3",
                "mode": "dlmp",
                "temporary": True,
            },
        ),
        (
            "dladm remove-aggr -l net0 aggr0",
            {"do": "remove-aggr", "name": "aggr0", "links": ["net0"], "temporary": False},
        ),
        ("dladm modify-aggr -P L3 aggr0", {"do": "modify-aggr", "name": "aggr0", "policy": "L3", "temporary": False}),
        (
            "dladm create-bridge -P none -l net0 lan",
            {"do": "create-bridge", "name": "lan", "links": ["net0"], "protect": "none", "temporary": False},
        ),
        ("dladm add-bridge -l stub0 lan", {"do": "add-bridge", "name": "lan", "links": ["stub0"], "temporary": False}),
        ("dladm delete-bridge -t lan", {"do": "delete-bridge", "name": "lan", "temporary": True}),
    ],
)
def test_orders_for_bundles(capsys: pytest.CaptureFixture[str], line: str, asked: dict[str, Any]) -> None:
    status, out, complaint, requests = answer(capsys, line)
    assert (status, out, complaint, requests) == (0, "", "", [asked])


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("dladm create-aggr -L active -l net0 aggr0", f"dladm: {NO_LACP}"),
        (
            "dladm create-bridge -P trill lan",
            "dladm: protection 'trill' is not spoken here: use stp or none",
        ),
        ("dladm create-aggr aggr0", "usage:\tdladm <subcommand> <args> ..."),
        ("dladm delete-phys net0", "dladm: delete operation failed: link busy"),
        ("dladm delete-phys net9", "dladm: invalid link name 'net9'"),
        ("dladm show-usage -f log", f"dladm: {NO_ACCOUNTING}"),
        ("dlstat show-link -h -f log", f"dlstat: {NO_ACCOUNTING}"),
        (
            "dladm create-etherstub -R /a stub0",
            "dladm: -R: a lab has no other root whose links could be changed: leave it out",
        ),
        ("dlstat show-link -a -p -o link", "dlstat: the option -p cannot be used with -a"),
        ("dlstat -A -r", "dlstat: the option -r cannot be used with -A"),
        ("dlstat show-link -F", "dlstat: the option -F can be used only with -r"),
    ],
)
def test_complaints_about_bundles(capsys: pytest.CaptureFixture[str], line: str, first: str) -> None:
    status, out, complaint, _ = answer(capsys, line)
    assert (status, out) == (1, "")
    assert complaint.splitlines()[0] == first


def test_in_intervals_the_header_and_warnings_come_once_and_a_new_link_counts_from_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = iter((100, 150, 7))
    passes = iter((None, None, KeyboardInterrupt()))

    def shot(**_: Any) -> dict[str, Any]:
        return {"links": [link("v0", "vnic", statistics=ZERO | {"ipackets": next(counted)})], "flows": []}

    def sleep(_: float) -> None:
        ended = next(passes)
        if ended is not None:
            raise ended

    monkeypatch.setattr("xnet.control.dl.tool.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run(Tool("dlstat", shot), DLSTAT_SUBS, ["-i", "1", "-o", "link,ipkts,odd"], DLSTAT)
    printed = capsys.readouterr()
    assert printed.out.split() == ["LINK", "IPKTS", "v0", "100", "v0", "50", "v0", "7"]
    assert printed.err == "dlstat: ignoring unknown output field: `odd'\n"
