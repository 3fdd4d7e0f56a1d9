"""Every feature off at one end, at the other, at both: what arrives is then done in software, and right on the wire."""

from __future__ import annotations

import pytest

from xnet.frame import (
    CSUM_BLANK,
    DATA_VALIDATED,
    GSO_SIZE_SHIFT,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_TYPE_MASK,
)
from xnet.frame.offload import Accepts
from xnet.netif import FEATURE_NAMES, Features
from xnet.netif.features import OFFLOAD_KEYS, agree, number, usable_mtu
from xnet.testing import FrontByHand, Sent, World
from xnet.testing.frames import PROTO_TCP, flaw, look, ones, plain, pseudo, stream, tcp, udp

BLANK = CSUM_BLANK | DATA_VALIDATED
MSS = 1400
GSO4 = BLANK | GSO_TCPV4 | MSS << GSO_SIZE_SHIFT
GSO6 = BLANK | GSO_TCPV6 | MSS << GSO_SIZE_SHIFT
OFF = {name: Features.of({name: False}) for name in FEATURE_NAMES if name not in ("rx-copy", "rx-flip")}
BYTES = bytes(range(251)) * 270

FRAMES: dict[str, Sent] = {
    "a plain frame": (0, plain(1514)),
    "a frame with its checksum": (0, tcp(BYTES[:1000])),
    "TCP over IPv4": (BLANK, tcp(BYTES[:1001], blank=True)),
    "TCP over IPv6": (BLANK, tcp(BYTES[:1001], v6=True, blank=True)),
    "UDP over IPv4": (BLANK, udp(BYTES[:999], blank=True)),
    "UDP over IPv6": (BLANK, udp(BYTES[:999], v6=True, blank=True)),
    "a blank frame without a word": (CSUM_BLANK, tcp(b"", blank=True)),
    "a large TCP over IPv4": (GSO4, tcp(BYTES[:60000], blank=True)),
    "a large TCP over IPv6": (GSO6, tcp(BYTES[:60000], v6=True, blank=True)),
    "two segments": (GSO4, tcp(BYTES[: MSS + 1], blank=True)),
    "the largest": (GSO4, tcp(BYTES[: 65535 - 54], blank=True)),
}


def taken(receiver: Features, sender: Features) -> Accepts:
    """What may cross unfinished, from the definitions in the public header, not from the code under test."""
    both = {name: getattr(receiver, name) and getattr(sender, name) for name in Features.__dataclass_fields__}
    return Accepts(
        csum4=both["csum_offload"],
        csum6=both["ipv6_csum_offload"],
        gso4=both["gso_tcpv4"] and both["sg"] and both["csum_offload"],
        gso6=both["gso_tcpv6"] and both["sg"] and both["ipv6_csum_offload"],
        sg=both["sg"],
    )


def judge(sent: Sent, arrived: list[Sent], accepts: Accepts) -> None:
    """The receiver gets what it takes, and nothing is lost or wrong."""
    word, frame = sent
    if not word:
        assert arrived == [sent]
        return
    v6 = look(frame).v6
    gso, blank = (accepts.gso6, accepts.csum6) if v6 else (accepts.gso4, accepts.csum4)
    for other, part in arrived:
        if other & GSO_TYPE_MASK:
            assert gso, "segmentation offload to who does not take it"
            assert other == word
        elif word & GSO_TYPE_MASK:
            assert not gso, "segmented for who would take it whole"
            assert len(look(part).payload) <= MSS
        if other & CSUM_BLANK:
            assert blank, "a blank checksum to who does not take it"
            seen = look(part)
            at = 16 if seen.protocol == PROTO_TCP else 6
            field = int.from_bytes(seen.l4[at : at + 2], "big")
            assert field % 0xFFFF == ones(pseudo(v6, seen.hosts, seen.protocol, len(seen.l4))) % 0xFFFF
        else:
            assert flaw(part) == ""
    frames = [part for _, part in arrived]
    if look(frame).protocol == PROTO_TCP:
        assert stream(frames) == look(frame).payload
    else:
        assert [look(part).payload for part in frames] == [look(frame).payload]


@pytest.mark.integration
@pytest.mark.parametrize("at", ["front", "back", "both"])
@pytest.mark.parametrize("name", OFF)
def test_without_a_feature_frames_are_finished_in_software(world: World, name: str, at: str) -> None:
    front = OFF[name] if at in ("front", "both") else Features()
    back = OFF[name] if at in ("back", "both") else Features()
    vif = world.vif(world.guest("a"), front=front, back=back)
    assert vif.connected
    for sent in FRAMES.values():
        word, frame = sent
        slots = vif.netfront.statistics()["tx_slots"]
        vif.wire.send(frame, word=word)
        world.step()
        judge(sent, vif.hub.sent, taken(back, front))
        if not (front.sg and back.sg):
            assert vif.netfront.statistics()["tx_slots"] - slots == len(vif.hub.sent), "a slot a frame"
        vif.hub.sent.clear()
        slots = vif.netback.statistics()["rx_slots"]
        world.deliver(vif, frame, word=word)
        world.step()
        judge(sent, vif.wire.received, taken(front, back))
        if not (front.sg and back.sg):
            assert vif.netback.statistics()["rx_slots"] - slots == len(vif.wire.received)
        vif.wire.received.clear()


@pytest.mark.integration
def test_with_all_features_nothing_is_done_in_software(world: World) -> None:
    vif = world.vif(world.guest("a"))
    for word, frame in FRAMES.values():
        vif.wire.send(frame, word=word)
        world.deliver(vif, frame, word=word)
        world.step()
    unchanged = [(word | DATA_VALIDATED if word else 0, frame) for word, frame in FRAMES.values()]
    assert vif.hub.sent == unchanged
    assert vif.wire.received == unchanged
    assert not [name for name in vif.netback.statistics() if "software" in name]


@pytest.mark.integration
def test_between_two_guests_the_poorer_decides(world: World) -> None:
    rich, poor = world.vif(world.guest("a")), world.vif(world.guest("b"), front=OFF["gso-tcpv4"])
    rich.hub.peers.append(poor.hub)
    poor.hub.peers.append(rich.hub)
    sent = FRAMES["a large TCP over IPv4"]
    rich.wire.send(sent[1], word=sent[0])
    world.step()
    judge(sent, poor.wire.received, Accepts(gso4=False))
    assert len(poor.wire.received) == -(-60000 // MSS)
    poor.wire.send(sent[1], word=sent[0])
    world.step()
    judge(sent, rich.wire.received, Accepts(gso4=False))


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["copy", "map"])
def test_a_frame_in_pieces_is_linearised_for_who_has_no_sg(world: World, mode: str) -> None:
    sender = world.vif(world.guest("a"), start="back", mode=mode)
    poor = world.vif(world.guest("b"), front=OFF["sg"])
    sender.hub.peers.append(poor.hub)
    hand = FrontByHand(world, sender.guest)
    hand.connect()
    frame = plain(1514)
    hand.put(*hand.frame([(frame[:66], 4000), (frame[66:1000], 3000), (frame[1000:], 2)]))
    hand.publish()
    assert poor.wire.received == [(0, frame)]
    assert poor.netfront.statistics()["rx_slots"] == 1


@pytest.mark.integration
def test_what_is_too_large_for_who_has_no_sg_is_dropped_by_name(world: World) -> None:
    vif = world.vif(world.guest("a"), front=OFF["sg"])
    world.deliver(vif, plain(4097), plain(4096))
    vif.wire.send(plain(4097), plain(4096))
    world.step()
    assert vif.wire.received == [(0, plain(4096))]
    assert vif.hub.sent == [(0, plain(4096))]
    assert vif.netback.statistics()["oversize"] == 1
    assert vif.netfront.statistics()["tx_oversize"] == 1


@pytest.mark.integration
def test_segments_too_large_for_who_has_no_sg_are_dropped_by_name(world: World) -> None:
    vif = world.vif(world.guest("a"), back=OFF["sg"])
    vif.wire.send(tcp(BYTES[:20000], blank=True), word=BLANK | GSO_TCPV4 | 9000 << GSO_SIZE_SHIFT)
    world.step()
    assert vif.hub.sent == []
    assert vif.netfront.statistics()["tx_oversize"] == 1


@pytest.mark.integration
def test_what_no_tcp_is_cannot_be_segmented_and_is_dropped_by_name(world: World) -> None:
    vif = world.vif(world.guest("a"), back=OFF["gso-tcpv4"])
    vif.wire.send(udp(BYTES[:3000], blank=True), word=GSO4)
    vif.wire.send(plain(60), word=CSUM_BLANK | GSO_TCPV4)
    world.step()
    assert vif.hub.sent == []
    assert vif.netfront.statistics()["tx_malformed"] == 2


# --- the keys


@pytest.mark.integration
@pytest.mark.parametrize("name", OFF)
def test_every_key_is_written_exactly_as_real_drivers_do(world: World, name: str) -> None:
    """``0`` or ``1`` and nothing else: Windows parses base 2, Mirage compares text. The inverted one only when set."""
    vif = world.vif(world.guest("a"), front=OFF[name], back=OFF[name])
    offload = {
        "feature-sg": "sg",
        "feature-gso-tcpv4": "gso-tcpv4",
        "feature-gso-tcpv6": "gso-tcpv6",
        "feature-ipv6-csum-offload": "ipv6-csum-offload",
    }
    expected = {key: "0" if name == feature else "1" for key, feature in offload.items()}
    if name == "csum-offload":
        expected["feature-no-csum-offload"] = "1"
    back, front = world.keys(vif.back_home), world.keys(vif.front_home)
    assert {key: back[key] for key in back if key in OFFLOAD_KEYS} == expected
    assert {key: front[key] for key in front if key in OFFLOAD_KEYS} == expected
    assert back["feature-split-event-channels"] == ("0" if name == "split-event-channels" else "1")
    assert front["feature-rx-notify"] == ("0" if name == "rx-notify" else "1")
    assert (back["feature-rx-copy"], back["feature-rx-flip"], front["request-rx-copy"]) == ("1", "0", "1")
    assert ("event-channel" in front) == (name == "split-event-channels")
    assert ("event-channel-tx" in front) == ("event-channel-rx" in front) == (name != "split-event-channels")


NOTHING = Accepts(csum4=True, csum6=False, gso4=False, gso6=False, sg=False, max_frame=4096)
ABSENT = {
    "everything absent": ({}, NOTHING),
    "sg alone": ({"feature-sg": "1"}, Accepts(csum4=True, csum6=False, gso4=False, gso6=False, sg=True)),
    "gso without sg": ({"feature-gso-tcpv4": "1"}, NOTHING),
    "gso over IPv6 without its checksum": (
        {"feature-sg": "1", "feature-gso-tcpv6": "1"}, Accepts(csum6=False, gso4=False, gso6=False),
    ),
    "gso without blank checksums": (
        {"feature-sg": "1", "feature-gso-tcpv4": "1", "feature-no-csum-offload": "1"},
        Accepts(csum4=False, csum6=False, gso4=False, gso6=False),
    ),
    "a rubbish value is 0": ({"feature-sg": "yes"}, NOTHING),
    "any number but 0 is on": ({"feature-sg": "2"}, Accepts(csum6=False, gso4=False, gso6=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", ABSENT)
def test_absent_keys_have_the_public_headers_defaults(name: str) -> None:
    keys, expected = ABSENT[name]
    assert agree(keys, Features()) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, 0), ("", 0), ("0", 0), ("1", 1), ("4294967295", 4294967295), ("99999999999", 0), ("-1", 0), ("0x1", 0),
     ("1 ", 0), ("١", 0), ("²", 0), ("9" * 4000, 0)],
)  # fmt: skip
def test_a_number_of_the_peers_is_decimal_or_nothing(text: str | None, value: int) -> None:
    assert number(text) == value


def test_without_sg_the_mtu_is_1500() -> None:
    assert usable_mtu(9000, Accepts(sg=False)) == 1500
    assert usable_mtu(1400, Accepts(sg=False)) == 1400
    assert usable_mtu(9000, Accepts()) == 9000
    assert usable_mtu(70000, Accepts()) == 65517


@pytest.mark.integration
def test_what_was_agreed_is_told(world: World) -> None:
    vif = world.vif(world.guest("a"), front=OFF["gso-tcpv6"])
    assert vif.netback.agreed() == {
        "sg": True, "gso-tcpv4": True, "gso-tcpv6": False, "csum-offload": True, "ipv6-csum-offload": True,
        "rx-copy": True, "rx-flip": False, "multicast-control": False,
    }  # fmt: skip
    vif.netfront.close()
    world.step()
    assert vif.netback.agreed() == vif.netfront.agreed() == {}
