"""Several queues: their keys, their channels, whose frames are whose; and what neither end agrees to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnet.netif import Features
from xnet.netif.flow import Flow, flow_of, spread
from xnet.testing import FrontByHand, World
from xnet.testing.frames import plain, tagged, tcp, udp

integration = pytest.mark.integration


def flat(world: World, home: str) -> dict[str, str | None]:
    """What a frontend wrote, its queues' directories too."""
    found = {}
    for name, value in world.keys(home).items():
        if name.startswith("queue-"):
            found |= {f"{name}/{key}": text for key, text in world.keys(f"{home}/{name}").items()}
        elif "ring" in name or "event" in name or "queue" in name:
            found[name] = value
    return found


@integration
@pytest.mark.parametrize("split", [True, False], ids=["split", "shared"])
@pytest.mark.parametrize("queues", [1, 2, 5])
def test_each_queue_has_its_rings_and_channels_where_they_belong(world: World, queues: int, split: bool) -> None:
    back = Features(split_event_channels=split)
    vif = world.vif(world.guest("a", 4096), queues=queues, back=back)
    assert vif.connected
    assert world.read(f"{vif.back_home}/multi-queue-max-queues") == str(queues)
    channels = ["event-channel-tx", "event-channel-rx"] if split else ["event-channel"]
    homes = [""] if queues == 1 else [f"queue-{index}/" for index in range(queues)]
    names = [f"{home}{key}" for home in homes for key in ("tx-ring-ref", "rx-ring-ref", *channels)]
    keys = flat(world, vif.front_home)
    assert set(keys) == {"multi-queue-num-queues", *names}
    assert keys.pop("multi-queue-num-queues") == str(queues)
    for what, each in (("ring", 2), ("event", len(channels))):
        assert len({value for name, value in keys.items() if what in name}) == queues * each
    assert len(vif.netfront.queues) == len(vif.netback.queues) == queues
    assert len(vif.netback.ports) == queues * len(channels)


@integration
@pytest.mark.parametrize(("wanted", "offered", "agreed"), [(4, 2, 2), (2, 4, 2), (1, 4, 1), (4, 1, 1)])
def test_no_more_than_both_have(world: World, wanted: int, offered: int, agreed: int) -> None:
    vif = world.vif(world.guest("a", 4096), queues=wanted, max_queues=offered)
    assert vif.connected
    assert len(vif.netfront.queues) == len(vif.netback.queues) == len(vif.wire.queues) == agreed
    world.deliver(vif, plain(60))
    vif.wire.send(plain(61), index=agreed - 1)
    world.step()
    assert vif.wire.received == [(0, plain(60))]
    assert vif.hub.sent == [(0, plain(61))]


@integration
@pytest.mark.parametrize("rx_mode", ["copy", "flip"])
def test_flows_keep_their_queue_and_their_order(world: World, rx_mode: str) -> None:
    vif = world.vif(world.guest("a", 4096), queues=3, rx_mode=rx_mode)  # type: ignore[arg-type]
    flows = [[tcp(bytes([index]) * size, src=index) for size in range(100, 120)] for index in range(1, 30)]
    for frames in zip(*flows, strict=True):
        world.deliver(vif, *frames)
        world.step()
    got = [data for _, data in vif.wire.received]
    assert sorted(got) == sorted(frame for frames in flows for frame in frames)
    for frames in flows:
        assert [data for data in got if data in set(frames)] == frames
    counts = [queue.counters.rx_packets for queue in vif.netback.queues]
    assert all(counts)
    assert all(count % 20 == 0 for count in counts), "a flow went over two queues"
    assert vif.netback.statistics()["rx_packets"] == sum(counts) == 29 * 20
    for index in range(3):
        vif.wire.send(plain(100 + index), index=index)
    world.step()
    assert sorted(len(data) for _, data in vif.hub.sent) == [100, 101, 102]
    assert [queue.counters.tx_packets for queue in vif.netfront.queues] == [1, 1, 1]


@integration
def test_another_number_of_queues_leaves_no_old_keys(world: World) -> None:
    vif = world.vif(world.guest("a", 4096), queues=4)
    before = vif.netback.statistics()["rx_packets"]
    world.deliver(vif, *[udp(b"x", src=index) for index in range(1, 20)])
    world.step()
    for count in (2, 1, 3, 4):
        vif.netfront.close()
        world.step()
        vif.wire.devices = [vif.wire] * count
        vif.netfront.open()
        world.step()
        assert vif.connected
        homes = {name.partition("/")[0] for name in flat(world, vif.front_home) if "/" in name}
        assert homes == {f"queue-{index}" for index in range(count) if count > 1}
        assert ("tx-ring-ref" in world.keys(vif.front_home)) is (count == 1)
        world.deliver(vif, plain(60))
        world.step()
    assert vif.netback.statistics()["rx_packets"] == before + 19 + 4, "what closed queues counted is not forgotten"


@integration
def test_a_backend_that_dies_is_replaced_under_all_queues(world: World) -> None:
    vif = world.vif(world.guest("a", 4096), queues=3)
    for index in range(3):
        vif.wire.send(plain(60), index=index)
    vif.restart_backend()
    world.step()
    assert vif.connected
    assert len(vif.hub.sent) == 3
    world.deliver(vif, *[udp(b"y", src=index) for index in range(1, 20)])
    world.step()
    assert len(vif.wire.received) == 19


@integration
@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"multi-queue-num-queues": "0"}, "frontend asks for 0 queues, 4 offered"),
        ({"multi-queue-num-queues": "5"}, "frontend asks for 5 queues, 4 offered"),
        ({"multi-queue-num-queues": "1000000"}, "frontend asks for 1000000 queues"),
        ({"multi-queue-num-queues": "two"}, "frontend asks for 'two' queues, 4 offered"),
        ({"multi-queue-num-queues": "2"}, "queue-0/tx-ring-ref: missing"),
    ],
)
def test_a_number_of_queues_that_cannot_be_is_told(world: World, keys: dict[str, str | None], why: str) -> None:
    vif = world.vif(world.guest("a"), start="back", max_queues=4)
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys=keys)
    assert why in vif.netback.reason
    assert why in str(world.read("/local/domain/0/error/backend/vif/1/0/error"))
    assert not vif.netback.ports
    assert not vif.netback.rings


@integration
def test_a_queue_whose_ring_is_a_lie_takes_the_others_with_it_and_nothing_is_held(world: World) -> None:
    vif = world.vif(world.guest("a"), start="back", max_queues=2)
    hand = FrontByHand(world, vif.guest)
    for index, ref in ((0, hand.tx_ref), (1, 60000)):
        for key, value in (("tx-ring-ref", ref), ("rx-ring-ref", hand.tx_ref), ("event-channel", 1)):
            world.write(f"{vif.front_home}/queue-{index}/{key}", str(value))
    hand.connect(keys={"multi-queue-num-queues": "2"})
    assert vif.netback.reason
    assert (vif.netback.queues, vif.netback.ports, vif.netback.rings, vif.netback.lanes) == ([], [], [], [])
    assert vif.hub.client is None


@given(st.binary(max_size=120))
def test_any_bytes_have_a_flow(data: bytes) -> None:
    assert flow_of(memoryview(data), len(data)) == flow_of(memoryview(data + b"tail"), len(data))


def of(frame: bytes) -> Flow:
    return flow_of(memoryview(frame), len(frame))


def test_a_flow_is_addresses_and_ports() -> None:
    for v6 in (False, True):
        one = tcp(b"first", v6=v6, src=1, dst=2)
        assert of(one) == of(tcp(b"another length", v6=v6, src=1, dst=2)) == of(tagged(one, (0x8100, 5)))
        assert of(one) != of(tcp(b"first", v6=v6, src=3, dst=2))
        other_port = bytearray(one)
        other_port[54 if v6 else 34] ^= 1
        assert of(one) != of(bytes(other_port))
        assert of(one) != of(udp(b"first", v6=v6, src=1, dst=2))
    fragment = bytearray(udp(b"x" * 100))
    fragment[20] = 0x20
    later = bytearray(fragment)
    later[20:22], later[34:38] = b"\x00\x10", b"\xff\xff\xff\xff"
    assert of(bytes(fragment)) == of(bytes(later)), "of a fragmented packet all go one way"
    assert of(plain(60)) == of(plain(61)), "of anything else, the addresses of Ethernet"
    assert of(plain(60)).ethertype == 0


@pytest.mark.parametrize("at", [34, 36], ids=["source", "destination"])
@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_flows_whose_ports_are_neighbours_spread(count: int, at: int) -> None:
    """Linux hands out ports of one parity, one after another: eight such connections are as seldom in one queue as
    dice would have it, which is once in 128 throws for two queues."""
    starts = range(32768, 60000, 34)
    alone = 0
    for first in starts:
        queues = set()
        for port in range(first, first + 16, 2):
            frame = bytearray(tcp(b"x"))
            frame[at : at + 2] = port.to_bytes(2, "big")
            queues.add(spread(of(bytes(frame)), count))
        alone += len(queues) == 1
    assert alone < len(starts) / 64
