"""Flows: which frame is whose, what tables refuse, and caps inside the link's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.frame import Chain, own
from xnet.frame.arena import Arena
from xnet.mac import Etherstub, Vnic
from xnet.mac.bandwidth import Ticker
from xnet.mac.flow import Flow, FlowError, FlowTable
from xnet.mac.resources import Resources
from xnet.testing.clock import HandClock

A, B = bytes.fromhex("00163e000001"), bytes.fromhex("00163e000002")


def packet(
    source: str = "10.0.0.1",
    to: str = "10.0.0.2",
    protocol: int = 6,
    ports: tuple[int, int] = (1000, 80),
    ds: int = 0,
    *,
    tag: bytes = b"",
    offset: int = 0,
) -> bytes:
    l4 = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + bytes(16)
    first, second = ipaddress.ip_address(source), ipaddress.ip_address(to)
    if first.version == 4:
        size = (20 + len(l4)).to_bytes(2, "big")
        fragment = offset.to_bytes(2, "big")
        ip = bytes([0x45, ds]) + size + bytes(2) + fragment + bytes([64, protocol, 0, 0]) + first.packed + second.packed
        kind = b"\x08\x00"
    else:
        word = (6 << 28 | ds << 20).to_bytes(4, "big")
        ip = word + len(l4).to_bytes(2, "big") + bytes([protocol, 64]) + first.packed + second.packed
        kind = b"\x86\xdd"
    return B + A + tag + kind + ip + l4


def table(**flows: dict[str, str]) -> FlowTable:
    found = FlowTable()
    for name, attributes in flows.items():
        found.add(Flow(name, attributes))
    return found


def match(found: FlowTable, frame: bytes, *, outbound: bool = True) -> str | None:
    flow = found.flow_of(memoryview(frame), len(frame), outbound)
    return None if flow is None else flow.name


def test_the_longest_prefix_is_the_flow_and_local_is_the_near_side() -> None:
    nets = table(
        wide={"local_ip": "10.0.0.0/8"},
        host={"local_ip": "10.0.0.1"},
        six={"local_ip": "fd00::/64"},
        net={"local_ip": "10.0.0.9/24"},
    )
    assert match(nets, packet()) == "host"
    assert match(nets, packet("10.0.0.7")) == "net"
    assert match(nets, packet("10.9.0.7")) == "wide"
    assert match(nets, packet("11.9.0.7")) is None
    assert match(nets, packet("fd00::1", "fd00::2")) == "six"
    assert match(nets, packet("11.0.0.1", "10.0.0.1"), outbound=False) == "host"
    assert match(nets, packet("10.0.0.1", "11.0.0.1"), outbound=False) is None


def test_remote_is_the_far_side() -> None:
    nets = table(far={"remote_ip": "10.0.0.2"})
    assert match(nets, packet()) == "far"
    assert match(nets, packet(), outbound=False) is None


def test_transport_and_ports() -> None:
    assert match(table(t={"transport": "tcp"}, u={"transport": "udp"}), packet(protocol=17)) == "u"
    web = table(web={"transport": "tcp", "local_port": "80"}, ssh={"transport": "tcp", "local_port": "22"})
    assert match(web, packet()) is None, "80 is the far side's"
    assert match(web, packet(), outbound=False) == "web"
    assert match(web, packet(protocol=17), outbound=False) is None
    far = table(web={"transport": "tcp", "remote_port": "80"})
    assert match(far, packet()) == "web"
    assert match(far, packet(tag=b"\x81\x00\x00\x05")) == "web", "tags are looked through"
    assert match(far, packet("fd00::1", "fd00::2")) == "web"
    assert match(far, packet(offset=100)) is None, "a later fragment has no ports"
    assert match(table(any={"transport": "tcp"}), packet(offset=100)) == "any"


def test_the_ds_field_is_masked() -> None:
    ds = table(gold={"dsfield": "0xe0:0xe0"}, silver={"dsfield": "c0:e0"})
    assert match(ds, packet(ds=0xFC)) == "gold"
    assert match(ds, packet(ds=0xC4)) == "silver"
    assert match(ds, packet(ds=0x04)) is None
    assert match(ds, packet("fd00::1", "fd00::2", ds=0xE1)) == "gold"


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, "invalid argument"),
        ({"local_ip": "10.0.0.1", "transport": "tcp"}, "invalid argument"),
        ({"local_port": "80"}, "invalid argument"),
        ({"local_ip": "10.0.0.300"}, "invalid IP address"),
        ({"local_ip": "10.0.0.1/33"}, "invalid IP address"),
        ({"transport": "gre"}, "invalid protocol"),
        ({"transport": "tcp", "local_port": "0"}, "invalid port"),
        ({"transport": "tcp", "local_port": "65536"}, "invalid port"),
        ({"transport": "icmp", "local_port": "80"}, "invalid port"),
        ({"dsfield": "100"}, "invalid DSField value"),
        ({"dsfield": "1:0"}, "invalid DSField value"),
        ({"dsfield": "x"}, "invalid DSField value"),
    ],
)
def test_attributes_that_make_no_flow_are_refused(attributes: dict[str, str], why: str) -> None:
    with pytest.raises(FlowError, match=why):
        Flow("f", attributes)


def test_a_table_is_of_one_kind_and_has_each_match_once() -> None:
    found = table(web={"transport": "tcp", "local_port": "80"})
    with pytest.raises(FlowError, match="incompatible attributes"):
        found.add(Flow("f", {"transport": "tcp"}))
    with pytest.raises(FlowError, match="identical attributes"):
        found.add(Flow("f", {"transport": "tcp", "local_port": "80"}))
    with pytest.raises(FlowError, match="incompatible attributes"):
        table(a={"dsfield": "e0:e0"}, b={"dsfield": "10:f0"})
    with pytest.raises(FlowError, match="identical attributes"):
        table(a={"local_ip": "10.0.0.0/24"}, b={"local_ip": "10.0.0.7/24"})
    found.remove("web")
    found.add(Flow("f", {"dsfield": "1"}))


TABLES = [
    table(a={"local_ip": "10.0.0.0/8"}),
    table(a={"transport": "tcp", "remote_port": "80"}),
    table(a={"transport": "udp"}),
    table(a={"dsfield": "e0:e0"}),
]


@given(st.sampled_from(TABLES), st.one_of(st.binary(max_size=120), st.integers(0, 60).map(lambda n: packet()[:n])))
def test_any_bytes_have_an_answer(found: FlowTable, frame: bytes) -> None:
    assert match(found, frame) in ("a", None)


def chain_of(*frames: bytes) -> Chain:
    data, laid = bytearray(), []
    for frame in frames:
        laid.append(own(0, len(data), len(frame)))
        data += frame
    return Chain(memoryview(data), laid)


def capped() -> tuple[Resources, list[bytes], HandClock]:
    clock, memory, passed = HandClock(), memoryview(bytearray(1 << 20)), []
    stub = Etherstub("stub0")
    vnic = Vnic("vnic0", stub.switch, A)
    resources = Resources(vnic, Ticker(clock), Arena(memory, 0, 1 << 20))
    resources.out.done = lambda chain: passed.extend(chain.tobytes(frame) for frame in chain.frames)
    return resources, passed, clock


def test_a_vnic_without_caps_and_flows_has_nothing_in_its_path() -> None:
    resources, _, _ = capped()
    assert resources.vnic.out is None
    resources.set_maxbw(10**8)
    assert resources.vnic.out is resources.out
    resources.add_flow("f", {"transport": "tcp"})
    resources.set_maxbw(None)
    assert resources.vnic.into is resources.into
    resources.remove_flow("f")
    assert (resources.vnic.out, resources.vnic.into) == (None, None)


def test_a_flow_is_counted_and_capped_by_itself_inside_the_links_cap() -> None:
    resources, passed, clock = capped()
    flow = resources.add_flow("web", {"transport": "tcp", "remote_port": "80"})
    web, other = packet(), packet(ports=(1000, 22))
    resources.out.take(chain_of(web, other, web))
    assert passed == [web, web, other] or passed == [web, other, web]
    assert (flow.opkts, flow.obytes, flow.ipkts) == (2, 2 * len(web), 0)
    resources.set_flow_maxbw("web", 0)
    resources.out.take(chain_of(web, other))
    assert passed[-1] == other
    assert (len(passed), flow.statistics()["oerrs"], resources.statistics()["txsdrops"]) == (4, 1, 1)
    resources.set_flow_maxbw("web", None)
    resources.set_maxbw(0)
    resources.out.take(chain_of(web, other))
    assert len(passed) == 4
    resources.set_maxbw(None)
    assert resources.statistics()["txsdrops"] == 3, "what was counted stays counted"
    clock.run_until(1)
