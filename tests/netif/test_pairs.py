"""Every frontend with every backend: frames pass both ways, or both ends and xenstore say why not."""

from __future__ import annotations

from typing import Any

import pytest

from xnet.abi.xen.netif import TX_REQUEST
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TYPE_MASK
from xnet.netif.profile import BACKENDS, FRONTENDS
from xnet.testing import BackByHand, FrontByHand, Sent, Vif, World
from xnet.testing.frames import flaw, look, ones, plain, pseudo, stream, tcp, udp

pytestmark = pytest.mark.integration

BACK, FRONT = "/local/domain/0/backend/vif/1/0", "/local/domain/1/device/vif/0"
BLANK = CSUM_BLANK | DATA_VALIDATED
BYTES = bytes(range(251)) * 270
FRAMES: tuple[Sent, ...] = (
    (0, plain(60)),
    (0, plain(1514)),
    (0, tcp(BYTES[:1000])),
    (BLANK, tcp(BYTES[:1001], blank=True)),
    (BLANK, tcp(BYTES[:1001], v6=True, blank=True)),
    (BLANK, udp(BYTES[:999], blank=True)),
    (BLANK, udp(BYTES[:999], v6=True, blank=True)),
    (BLANK | GSO_TCPV4 | 1400 << GSO_SIZE_SHIFT, tcp(BYTES[:60000], blank=True)),
)

NO_COPY = "backend does not support copying receive path (feature-rx-copy)"
NO_FLIP = "backend does not support page flipping (feature-rx-flip)"
ONLY_FLIPS = "frontend asks for copying (request-rx-copy=1), only page flipping is offered"
TURNED_AWAY = f"the backend closed instead of connecting: {NO_COPY}"
WHY: dict[tuple[str, str], tuple[str, str]] = {
    ("linux", "xvm-2007"): (NO_COPY, ""),
    ("freebsd", "xvm-2007"): (NO_COPY, ""),
    ("mirage", "xvm-2007"): (TURNED_AWAY, ONLY_FLIPS),
    ("windows", "xvm-2007"): (TURNED_AWAY, ONLY_FLIPS),
    ("illumos", "xvm-2007"): (NO_COPY, ""),
    ("linux, flipping", "xvm-2008"): (NO_FLIP, ""),
    ("linux, flipping", "xvm-2009"): (NO_FLIP, ""),
}
"""Pairs that cannot work: what the frontend says, and what the backend says."""


def pair(world: World, front: str, back: str, **options: Any) -> Vif:
    """A vif of these profiles, its drivers at rest."""
    name, _, flipping = front.partition(", ")
    mode: Any = {"rx_mode": "flip"} if flipping else {}
    return world.vif(world.guest("a"), front_profile=name, back_profile=back, **mode, **options)


def arrives(sent: Sent, arrived: list[Sent], where: str) -> None:
    """All of a frame is there, and right on the wire but for what the word says is blank."""
    word, frame = sent
    if not word:
        assert [part for _, part in arrived] == [frame], where
        return
    for other, part in arrived:
        seen = look(part)
        if other & CSUM_BLANK:
            at = 16 if seen.protocol == 6 else 6
            field = int.from_bytes(seen.l4[at : at + 2], "big")
            assert field % 0xFFFF == ones(pseudo(seen.v6, seen.hosts, seen.protocol, len(seen.l4))) % 0xFFFF, where
        else:
            assert flaw(part) == "", where
        assert len(part) <= 1514 or other & GSO_TYPE_MASK, where
    if look(frame).protocol == 6:
        assert stream([part for _, part in arrived]) == look(frame).payload, where
    else:
        assert [look(part).payload for _, part in arrived] == [look(frame).payload], where


@pytest.mark.parametrize("back", BACKENDS)
@pytest.mark.parametrize("front", [*FRONTENDS, "linux, flipping"])
def test_a_pair_works_or_says_why_not(world: World, front: str, back: str) -> None:
    vif = pair(world, front, back)
    if (front, back) in WHY:
        cannot_work(world, vif, *WHY[front, back])
        return
    assert vif.connected, (vif.netfront.reason, vif.netback.reason)
    assert vif.netfront.reason == vif.netback.reason == ""
    for sent in FRAMES * 40:
        vif.wire.send(sent[1], word=sent[0])
        world.step()
        arrives(sent, vif.hub.sent, "out of the guest")
        vif.hub.sent.clear()
        world.deliver(vif, sent[1], word=sent[0])
        world.step()
        arrives(sent, vif.wire.received, "into the guest")
        vif.wire.received.clear()
    for end in (vif.netfront, vif.netback):
        assert not [name for name, count in end.statistics().items() if "error" in name and count]


def cannot_work(world: World, vif: Vif, front: str, back: str) -> None:
    """No data path; each end that has a reason says it to people, on the console and in its error node."""
    assert vif.wire.queue is None
    assert not vif.connected
    assert vif.guest.domain.grefs_used == 0
    for end, why, errors in (
        (vif.netfront, front, "/local/domain/1/error/device/vif/0/error"),
        (vif.netback, back, "/local/domain/0/error/backend/vif/1/0/error"),
    ):
        said = world.read(errors)
        assert end.reason == why
        assert (said or "").partition(" ")[2] == why
        assert why in world.console()


@pytest.mark.parametrize("front", ["windows", "mirage", "linux"])
def test_who_was_turned_away_by_a_backend_works_on_the_next_generation(world: World, front: str) -> None:
    """Windows on the xVM of 2007, and on that of 2008."""
    vif = pair(world, front, "xvm-2007")
    assert not vif.connected
    vif.back_profile = BACKENDS["xvm-2008"]
    world.unplug(vif)
    world.vifs.remove(vif)
    again = world.vif(vif.guest, front_profile=front, back_profile="xvm-2008")
    assert again.connected
    again.wire.send(plain(60))
    world.deliver(again, plain(77))
    world.step()
    assert again.hub.sent == [(0, plain(60))]
    assert again.wire.received == [(0, plain(77))]


# --- the generations of xVM's netback

KEYS = {
    "xvm-2007": [("feature-no-csum-offload", "0")],
    "xvm-2008": [("feature-no-csum-offload", "0"), ("feature-rx-copy", "1"), ("feature-rx-flip", "0")],
    "xvm-2009": [("feature-multicast-control", "1"), ("feature-rx-copy", "1"), ("feature-rx-flip", "0")],
}


@pytest.mark.parametrize("back", KEYS)
def test_a_generation_writes_its_keys_and_no_others(world: World, back: str) -> None:
    guest = world.guest("a")
    world.plan(1)
    journal = world.record(BACK)
    vif = Vif(world, guest, 0, back_profile=back)
    world.vifs.append(vif)
    vif.netback.start()
    world.step()
    written = [(path.rpartition("/")[2], value) for path, value in journal]
    assert written == [*KEYS[back], ("state", "2"), ("hotplug-status", "connected")]


@pytest.mark.parametrize("back", KEYS)
def test_a_generation_that_cannot_connect_is_closed(world: World, back: str) -> None:
    vif = pair(world, "linux", back, start="back")
    FrontByHand(world, vif.guest).connect(keys={"tx-ring-ref": None})
    assert vif.netback.state.name == "Closed"
    assert world.read(f"{BACK}/state") == "6"
    assert "tx-ring-ref: missing" in vif.netback.reason


@pytest.mark.parametrize(
    ("back", "request_copy", "offset", "flips"),
    [("xvm-2007", None, 16, True), ("xvm-2007", "0", 16, True), ("xvm-2008", "1", 16, False),
     ("xvm-2008", "0", 16, True), ("xvm-2008", None, 16, True), ("xvm-2009", "1", 0, False),
     ("xvm-2009", "0", 0, True), ("linux", "1", 0, False), ("linux", None, 0, False)],
)  # fmt: skip
def test_how_a_generation_gives_frames_to_the_guest(
    world: World, back: str, request_copy: str | None, offset: int, flips: bool
) -> None:
    """By the frontend's request; a frontend before copying has no such key."""
    vif = pair(world, "linux", back, start="back")
    hand = FrontByHand(world, vif.guest)
    hand.connect(keys={"request-rx-copy": request_copy, "feature-sg": None})
    assert vif.netback.state.name == "Connected", vif.netback.reason
    assert vif.netback.flips is flips
    if not flips:
        hand.post(2)
        world.deliver(vif, plain(99), plain(1514))
        world.step()
        [one, two] = hand.arrived()
        assert one[1:] == (offset, 0, 99, plain(99))
        assert two[1:] == (offset, 0, 1514, plain(1514))


@pytest.mark.parametrize(("back", "copies"), [("xvm-2007", False), ("xvm-2008", False), ("xvm-2009", True)])
def test_how_a_generation_takes_frames_from_the_guest(world: World, back: str, copies: bool) -> None:
    """By mapping them until 2009, whatever the lab file says; the hypervisor counts."""
    front = "linux, flipping" if back == "xvm-2007" else "linux"
    vif = pair(world, front, back, mode="map" if copies else "copy")
    before = world.host.hypervisor.statistics()[0]
    for _ in range(10):
        vif.wire.send(plain(1000))
        world.step()
    after = world.host.hypervisor.statistics()[0]
    assert len(vif.hub.sent) == 10
    assert (after.bytes_copied - before.bytes_copied > 0) is copies


@pytest.mark.parametrize("vnic", [False, True])
def test_xnbo_leaves_no_checksum_to_the_guest_and_xnbu_does(world: World, vnic: bool) -> None:
    vif = pair(world, "linux", "xvm-2009", vnic=vnic)
    world.deliver(vif, tcp(BYTES[:99], blank=True), word=BLANK)
    world.step()
    [(word, frame)] = vif.wire.received
    assert bool(word & CSUM_BLANK) is not vnic
    assert (flaw(frame) == "") is vnic


def test_frames_longer_than_its_sdu_are_dropped_by_name(world: World) -> None:
    vif = pair(world, "linux", "xvm-2009")
    world.deliver(vif, plain(1518), plain(1519))
    world.step()
    assert vif.wire.received == [(0, plain(1518))]
    assert vif.netback.statistics()["oversize"] == 1


def test_a_backend_that_goes_while_connected_is_no_refusal(world: World) -> None:
    """The reason is for who was never let in."""
    vif = world.vif(world.guest("a"), front_profile="windows", start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect(rx_copy="0")
    assert vif.wire.up
    hand.detach()
    hand.switch("5")
    hand.switch("6")
    assert vif.netfront.reason == ""


# --- lives


def passes(world: World, vif: Vif) -> None:
    """A few frames each way, more than once round the rings."""
    assert vif.connected, (vif.netfront.state, vif.netback.state, vif.netfront.reason, vif.netback.reason)
    vif.hub.sent.clear()
    vif.wire.received.clear()
    for length in (60, 700, 1400, 1514) * 100:
        assert vif.wire.send(plain(length)) == 1
        world.deliver(vif, plain(length))
        world.step()
    wanted = [(0, plain(length)) for length in (60, 700, 1400, 1514) * 100]
    assert vif.hub.sent == vif.wire.received == wanted


@pytest.mark.parametrize("back", ["linux", "xvm-2008"])
@pytest.mark.parametrize("front", FRONTENDS)
def test_a_frontend_lives_through_all_that_happens_to_its_backend(world: World, front: str, back: str) -> None:
    """And gives back every page and reference each time."""
    vif = pair(world, front, back)
    domain = vif.guest.domain
    used = (domain.pages_used, domain.grefs_used)
    passes(world, vif)
    vif.netfront.close()
    world.step()
    assert (vif.netfront.state.name, vif.netback.state.name) == ("Closed", "Closed")
    assert domain.grefs_used == 0
    vif.netfront.open()
    world.step()
    passes(world, vif)
    vif.wire.send(plain(61))
    vif.restart_backend()
    world.step()
    passes(world, vif)
    vif.netfront.resume()
    world.step()
    passes(world, vif)
    assert (domain.pages_used, domain.grefs_used) == used
    world.unplug(vif)
    vif.netfront.stop()
    world.vifs.remove(vif)
    assert domain.grefs_used == 0
    again = world.vif(vif.guest, front_profile=front, back_profile=back)
    passes(world, again)
    world.crash(again.guest)
    assert not world.host.leaks()


@pytest.mark.parametrize("front", FRONTENDS)
def test_every_frontend_has_as_many_queues_as_it_can(world: World, front: str) -> None:
    vif = world.vif(world.guest("a", 2048), front_profile=front, queues=2)
    wanted = 1 if front in ("mirage", "illumos") else 2
    assert len(vif.netfront.queues) == len(vif.netback.queues) == wanted
    passes(world, vif)


def test_an_xvm_has_one_queue_whoever_asks(world: World) -> None:
    vif = world.vif(world.guest("a", 2048), back_profile="xvm-2008", queues=2)
    assert len(vif.netfront.queues) == 1
    passes(world, vif)
    other = world.vif(world.guest("b"), back_profile="xvm-2008", queues=2, start="back")
    FrontByHand(world, other.guest).connect(keys={"multi-queue-num-queues": "2"})
    assert other.netback.state.name == "Closed"
    assert "queues" in other.netback.reason


LIES = {
    "an id that is not out": (12345, 0),
    "the id answered already": (None, 0),
}


@pytest.mark.parametrize("front", FRONTENDS)
@pytest.mark.parametrize("lie", LIES)
def test_a_backend_that_answers_what_was_not_asked_is_broken(world: World, front: str, lie: str) -> None:
    vif = pair(world, front, "linux", start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    ident, status = LIES[lie]
    for _ in range(60):
        vif.wire.send(plain(1514))
    asked = [TX_REQUEST.unpack(slot)[3] for slot in hand.requests()]
    hand.respond((asked[0], 0), (asked[0] if ident is None else ident, status))
    while vif.wire.queue is not None and vif.wire.send(plain(60)):
        pass  # illumos looks when it runs short
    assert vif.netfront.broken
    assert "not out" in vif.netfront.reason
    assert vif.wire.queue is None
    hand.detach()


@pytest.mark.parametrize("front", FRONTENDS)
def test_a_response_producer_past_the_requests_is_broken(world: World, front: str) -> None:
    """Also for who looks at it between two frames, not at an event."""
    vif = pair(world, front, "linux", start="front")
    hand = BackByHand(world, vif.guest)
    hand.connect()
    vif.wire.send(plain(60))
    hand.tx.indices[2] = 0x80000000
    hand.xen.send(hand.ports[0])
    world.step()
    if not vif.netfront.broken:
        while vif.wire.queue is not None and vif.wire.send(plain(60)):
            pass
    assert vif.netfront.broken
    hand.tx.indices[2] = 0
    hand.detach()


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("profile", ["xvm-2007", "xvm-2008", "xvm-2009"])
def test_a_frame_in_pieces_arrives_whole_behind_a_headroom(world: World, profile: str, mode: str) -> None:
    sender = world.vif(world.guest("a"), start="back", mode=mode)
    flip = profile == "xvm-2007"
    old = world.vif(
        world.guest("b"),
        front_profile="linux" if flip else "illumos",
        back_profile=profile,
        rx_mode="flip" if flip else "copy",
    )
    sender.hub.peers.append(old.hub)
    hand = FrontByHand(world, sender.guest)
    hand.connect()
    frame = plain(1514)
    hand.put(*hand.frame([(frame[:66], 4000), (frame[66:1000], 3000), (frame[1000:], 2)]))
    hand.publish()
    world.step()
    assert old.wire.received == [(0, frame)]
