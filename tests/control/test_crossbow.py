"""Crossbow's tables of a lab file, and vifs as xVM's xend wrote them."""

from __future__ import annotations

import pytest

from xnet.control.config import parse_lab
from xnet.control.reader import LabError
from xnet.engine.lab import FlowSpec, Lab, VnicSpec

LOWER = """
[[bridge]]
name = "xenbr0"
[[etherstub]]
name = "stub0"
[[link]]
name = "net0"
bridge = "xenbr0"
[[link]]
name = "net1"
bridge = "xenbr0"
"""


def parse(text: str) -> Lab:
    return parse_lab(LOWER + text, "lab.toml")


def vif(words: str) -> str:
    return f'[[domain]]\nname = "a"\nvif = [{words}]\n'


def test_tables_become_specs() -> None:
    lab = parse(
        '[[vnic]]\nname = "v0"\nover = "stub0"\nmac = "00:16:3e:00:00:09"\nvid = 5\nzone = "dom0"\nip = "10.0.0.9/24"\n'
        'maxbw = "100M"\nproperties = { mtu = 1500 }\n'
        '[[vlan]]\nname = "net7000"\nover = "net0"\nvid = 7\n'
        '[[flow]]\nname = "web"\nlink = "v0"\ntransport = "tcp"\nlocal_port = 80\nmaxbw = 5\npriority = "x"\n'.replace(
            'priority = "x"\n', 'properties = { priority = "low" }\n'
        )
    )
    properties = {"mtu": ("1500",), "maxbw": ("100M",)}
    assert lab.vnics == (
        VnicSpec("v0", "stub0", "00:16:3e:00:00:09", 5, False, "dom0", ("10.0.0.9/24",), properties),
        VnicSpec("net7000", "net0", vid=7, vlan=True),
    )
    attributes = {"transport": "tcp", "local_port": "80"}
    assert lab.flows == (FlowSpec("web", "v0", attributes, {"priority": ("low",), "maxbw": ("5",)}),)


@pytest.mark.parametrize("script", ["vif-vnic", "/usr/lib/xen/scripts/vif-dedicated"])
def test_bridge_names_the_lower_link_where_the_script_is_xvms(script: str) -> None:
    words = f'"bridge=net0,script={script},vlanid=5,capped-bandwidth=100M"'
    found = parse(vif(words)).domains[0].vifs[0]
    assert (found.bridge, found.link, found.script) == (None, "net0", script.rpartition("/")[2])
    assert (found.vlan, found.maxbw, found.mtu) == (5, "100M", 1500)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[vnic]]\nname = "v0"\nover = "stub1"\n', 'vnic[0].over: there is no link, aggregation or etherstub "stub1"'),
        ('[[vnic]]\nname = "net0"\nover = "stub0"\n', '"net0" is used twice'),
        ('[[vnic]]\nname = "v0"\nover = "stub0"\nip = "10.0.0.1/24"\n', "vnic[0].ip: addresses are for an interface"),
        ('[[vnic]]\nname = "v0"\nover = "stub0"\nvid = 4095\n', "vnic[0].vid: 4095 is out of range"),
        (
            '[[vnic]]\nname = "v0"\nover = "stub0"\nproperties = { mut = 1500 }\n',
            'vnic[0].properties: "mut" is no property; did you mean "mtu"?',
        ),
        ('[[vlan]]\nname = "v0"\nover = "net0"\n', "vlan[0].vid: a VLAN has one"),
        ('[[aggr]]\nname = "aggr0"\n', "aggr[0]: links is missing"),
        ('[[aggr]]\nname = "aggr0"\nlinks = "stub0"\n', 'aggr[0].links: there is no link "stub0"'),
        ('[[aggr]]\nname = "aggr0"\nlinks = "net0"\npolicy = "L5"\n', 'aggr[0].policy: "L5" is no policy'),
        ('[[aggr]]\nname = "aggr0"\nlinks = "net0"\nmode = "lacp"\n', "aggr[0].mode:"),
        ('[[linkbridge]]\nname = "lan"\nlinks = "net9"\n', 'there is no link, aggregation or etherstub "net9"'),
        ('[[linkbridge]]\nname = "lan0"\n', 'linkbridge[0].name: "lan0" is no bridge'),
        ('[[flow]]\nname = "f"\nlink = "net0"\n', "flow[0]: says of no frame that it is its"),
        ('[[flow]]\nname = "f"\nlink = "a/1"\ntransport = "tcp"\n' + vif('{ link = "net0" }'), "no link, vnic or vif"),
        (vif('{ link = "net0", vlan = 1, vlanid = 1 }'), "vif[0].vlanid: is the same as vlan"),
        (vif('{ link = "net0", maxbw = 1, capped-bandwidth = 1 }'), "vif[0].capped-bandwidth: is the same as maxbw"),
        (vif('{ link = "net0", maxbw = "10%" }'), 'vif[0].maxbw: "10%" is no bandwidth'),
        (vif('"bridge=xenbr0,script=vif-vnic"'), 'vif[0].link: "xenbr0" is a bridge'),
        (vif('{ bridge = "xenbr0", maxbw = 10 }'), "vif[0].maxbw: unknown key"),
    ],
)
def test_bad_input_gives_one_line_with_place_and_fix(text: str, expected: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines
    assert expected in lines[0]
