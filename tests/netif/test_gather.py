"""Tx slots to packets: Linux's verdict on every kind of slot a frontend may write, and on those a real one wrote."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

from xnet.abi.xen.netif import EXTRA_GSO, TX_REQUEST, TX_RESPONSE, TX_SLOT_SIZE
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, GSO_TCPV6
from xnet.netif import BadRing
from xnet.netif.gather import Packet, next_packet, responses, take

RECORDING = Path(__file__).parent.parent / "abi" / "data" / "netfront_tx_slots.txt"
BLANK, VALID, MORE, EXTRA = 1, 2, 4, 8
OKAY, NULL, ERROR = 0, 1, -1


def req(offset: int, flags: int, size: int, ident: int = 7) -> bytes:
    return TX_REQUEST.pack(50, offset, flags, ident, size)


def extra(kind: int, flags: int = 0, size: int = 1448, gso_type: int = 1) -> bytes:
    return EXTRA_GSO.pack(kind, flags, size, gso_type, 0, 0) + b"\0\0\0\0"


GSO4, GSO6 = extra(1), extra(1, gso_type=2)
HASH = extra(4, size=0x0101, gso_type=3)
XDP = extra(5)
MCAST_ADD, MCAST_DEL = extra(2), extra(3)


def gather(slots: Sequence[bytes], pos: int = 0) -> tuple[Packet, int]:
    """The packet at slot `pos`, and where the next one begins."""
    packet = next_packet(b"".join(slots), pos)
    return packet, pos + len(packet.slots) // TX_SLOT_SIZE


def answers(data: bytes) -> list[tuple[int, int]]:
    """(id, status) of the responses; the rest of each slot is zero (XSA-216)."""
    each = [data[at : at + TX_SLOT_SIZE] for at in range(0, len(data), TX_SLOT_SIZE)]
    assert all(slot[TX_RESPONSE.size :] == bytes(8) for slot in each)
    return [TX_RESPONSE.unpack_from(slot) for slot in each]


def later(count: int, size: int = 10) -> list[bytes]:
    """A packet of a first slot and `count` later ones."""
    first = req(0, MORE, 100 + count * size, 0)
    return [first, *[req(0, MORE if i < count else 0, size, i) for i in range(1, count + 1)]]


TAKEN = {
    "the smallest frame": ([req(0, 0, 14)], 14, 0, [(50, 0, 14)], 0),
    "a whole page": ([req(0, 0, 4096)], 4096, 0, [(50, 0, 4096)], 0),
    "the end of a page": ([req(4082, 0, 14)], 14, 0, [(50, 4082, 14)], 0),
    "a blank checksum, as illumos says it": ([req(0, BLANK, 60)], 60, CSUM_BLANK | DATA_VALIDATED, [(50, 0, 60)], 0),
    "a blank checksum": ([req(0, BLANK | VALID, 60)], 60, CSUM_BLANK | DATA_VALIDATED, [(50, 0, 60)], 0),
    "data validated": ([req(0, VALID, 60)], 60, DATA_VALIDATED, [(50, 0, 60)], 0),
    "two fragments": ([req(2050, MORE, 114), req(0, 0, 100)], 114, 0, [(50, 2050, 14), (50, 0, 100)], 0),
    "flags of a later slot mean nothing": (
        [req(0, MORE, 114), req(0, BLANK | VALID | EXTRA, 100)], 114, 0, [(50, 0, 14), (50, 0, 100)], 0,
    ),
    "an empty later slot (XSA-448)": (
        [req(0, MORE, 60), req(4096, MORE, 0), req(0, 0, 20)], 60, 0, [(50, 0, 40), (50, 4096, 0), (50, 0, 20)], 0,
    ),
    "GSO over IPv4": (
        [req(0, BLANK | VALID | EXTRA, 3000), GSO4],
        3000, CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, [(50, 0, 3000)], 1,
    ),
    "GSO over IPv6": (
        [req(0, BLANK | VALID | EXTRA, 3000), GSO6],
        3000, CSUM_BLANK | DATA_VALIDATED | GSO_TCPV6 | 1448 << GSO_SIZE_SHIFT, [(50, 0, 3000)], 1,
    ),
    "the last of two extras of a kind": (
        [req(0, BLANK | EXTRA, 3000), extra(1, 1, 500), GSO4],
        3000, CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, [(50, 0, 3000)], 2,
    ),
    "a hash, which is not used": ([req(0, EXTRA, 60), HASH], 60, 0, [(50, 0, 60)], 1),
    "extras between data": (
        [req(0, BLANK | EXTRA | MORE, 3000), extra(1, 1), HASH, req(0, 0, 1000)],
        3000, CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | 1448 << GSO_SIZE_SHIFT, [(50, 0, 2000), (50, 0, 1000)], 2,
    ),
    "19 slots, the most": (later(18), 280, 0, [(50, 0, 100), *[(50, 0, 10)] * 18], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_a_packet_is_taken(name: str) -> None:
    slots, length, word, segments, extras = TAKEN[name]
    packet, after = gather([*slots, req(0, 0, 60)])
    assert (packet.error, packet.length, packet.word, packet.segments) == ("", length, word, segments)
    assert (packet.extras, after) == (extras, len(slots))
    assert sum(size for _, _, size in packet.segments) == length


DROPPED = {
    "a first slot without a whole Ethernet header": ([req(0, 0, 13)], "tx_runt"),
    "nothing at all": ([req(0, 0, 0)], "tx_runt"),
    "a packet whose first fragment is short, though the packet is not": (
        [req(0, MORE, 1000), req(0, 0, 990)], "tx_runt",
    ),
    "a runt whose place is past the page": ([req(4090, 0, 10)], "tx_runt"),
    "fragments of more bytes than the packet": ([req(0, MORE, 60), req(0, 0, 61)], "tx_fragments_exceed_size"),
    "fragments that exceed it only together": (
        [req(0, MORE, 60), req(0, MORE, 40), req(0, 0, 40)], "tx_fragments_exceed_size",
    ),
    "20 slots": (later(19), "tx_too_many_slots"),
    "21 slots": (later(20), "tx_too_many_slots"),
    "too many slots, the first past its page": (
        [req(4000, MORE, 290, 0), *later(19)[1:]], "tx_too_many_slots",
    ),
    "a group joined, for a filter that may not be there": ([req(0, EXTRA, 0), MCAST_ADD], "tx_multicast_control"),
    "a group left": ([req(0, EXTRA, 0), MCAST_DEL], "tx_multicast_control"),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_a_packet_is_dropped_and_the_next_one_lives(name: str) -> None:
    slots, why = DROPPED[name]
    packet, after = gather([*slots, req(0, 0, 60)])
    assert (packet.error, after) == (why, len(slots))
    said = answers(packet.answers)
    assert len(said) == len(slots)
    assert {status for _, status in said} == ({ERROR, NULL} if packet.extras else {ERROR})
    following, end = gather([*slots, req(0, 0, 60)], after)
    assert (following.error, following.length, end) == ("", 60, len(slots) + 1)


FATAL = {
    "more data promised, but the ring ends": [req(0, MORE, 60)],
    "more data promised by a later slot, but the ring ends": [req(0, MORE, 60), req(0, MORE, 10)],
    "extra info promised, but the ring ends": [req(0, EXTRA, 60)],
    "more extra info promised, but the ring ends": [req(0, EXTRA | BLANK, 60), extra(1, 1)],
    "unknown extra info": [req(0, EXTRA, 60), extra(0)],
    "unknown extra info (5)": [req(0, EXTRA, 60), XDP],
    "unknown extra info (255)": [req(0, EXTRA, 60), extra(255)],
    "GSO size": [req(0, EXTRA | BLANK, 60), extra(1, size=0)],
    "GSO type": [req(0, EXTRA | BLANK, 60), extra(1, gso_type=3)],
    "GSO type (0)": [req(0, EXTRA | BLANK, 60), extra(1, gso_type=0)],
    "slot crosses its page": [req(4083, 0, 14)],
    "slot crosses its page, computed from the others": [req(4000, MORE, 300), req(0, 0, 200)],
    "slot crosses its page, a later one": [req(0, MORE, 60), req(4090, 0, 7)],
    "slot crosses its page, although it is dropped already": [
        *later(19)[:-1], req(4090, 0, 10),
    ],
    "slot crosses its page, the offset alone": [req(0, MORE, 60), req(4097, 0, 0)],
    "slots in a packet": later(21),
}  # fmt: skip


@pytest.mark.parametrize("name", FATAL)
def test_what_no_frontend_can_write_is_fatal(name: str) -> None:
    what = name.partition(",")[0].partition(" (")[0]
    with pytest.raises(BadRing, match=what if "promised" not in name else "promised, but the ring ends"):
        gather(FATAL[name])


def test_what_comes_after_a_packet_cannot_complete_it() -> None:
    """The count of published slots is the limit, not what stands in the ring behind them."""
    with pytest.raises(BadRing, match="ring ends"):
        next_packet(req(0, MORE, 60), 0)
    assert gather([req(0, MORE, 60), req(0, 0, 10)])[1] == 2


@pytest.mark.parametrize("extras", [0, 1, 3])
@pytest.mark.parametrize("fragments", [1, 2, 5])
@pytest.mark.parametrize("verdict", ["okay", "dropped", "mixed"])
def test_responses_stand_in_slot_order_with_nulls_right_after_the_first(
    extras: int, fragments: int, verdict: str
) -> None:
    ids = [0xF000 + i * 3 for i in range(fragments)]
    size = 13 if verdict == "dropped" else 20
    first = req(0, (EXTRA if extras else 0) | (MORE if fragments > 1 else 0), size * fragments, ids[0])
    rest = [req(0, MORE if i < fragments - 1 else 0, size, ids[i]) for i in range(1, fragments)]
    slots = [first, *[extra(4, int(i < extras - 1)) for i in range(extras)], *rest]
    packet, _ = gather(slots)
    expected = [ERROR if verdict == "dropped" else OKAY] * fragments
    data = packet.answers
    if verdict == "mixed":
        expected[-1] = ERROR
        data = responses(packet.slots, packet.extras, ERROR, expected)
    said = answers(data)
    assert len(said) == len(slots)
    assert said[0] == (ids[0], expected[0])
    assert [status for _, status in said[1 : 1 + extras]] == [NULL] * extras
    assert said[1 + extras :] == list(zip(ids[1:], expected[1:], strict=True))


def test_several_packets_are_taken_and_answered_in_order() -> None:
    slots = [req(0, 0, 60, 0xFFFF), req(0, EXTRA | BLANK, 60, 1), GSO4, req(0, MORE, 13, 256), req(0, 0, 0, 3)]
    packets, taken = take(b"".join(slots), 64, 1 << 20)
    assert taken == len(slots)
    said = answers(b"".join(packet.answers for packet in packets))
    assert [said[0], said[1], said[3], said[4]] == [(0xFFFF, OKAY), (1, OKAY), (256, ERROR), (3, ERROR)]
    assert said[2][1] == NULL


def test_packets_and_bytes_are_taken_up_to_a_limit() -> None:
    data = b"".join([req(0, 0, 4095, i) for i in range(8)])
    assert take(data, 3, 1 << 20)[1] == 3
    assert take(data, 64, 4 * 4096)[1] == 4
    assert take(data, 64, 0) == ([], 0)


def consecutive(length: int, spoil: int = -1, *, gso: bool = False) -> list[bytes]:
    """A packet that fills whole pages of consecutive references; slot `spoil` is of another reference."""
    count = -(-length // 4096)
    slots = []
    for i in range(count):
        size = length if i == 0 else min(4096, length - i * 4096)
        flags = (MORE if i < count - 1 else 0) | (BLANK | EXTRA if gso and i == 0 else 0)
        slots.append(TX_REQUEST.pack(900 if i == spoil else 50 + i, 0, flags, i, size))
    slots[1:1] = [GSO4] if gso else []
    return slots


@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize("length", [4097, 8191, 8192, 8193, 61440, 61441, 65535])
def test_whole_pages_of_consecutive_references_are_one_run(length: int, gso: bool) -> None:
    slots = consecutive(length, gso=gso)
    packet, after = gather([*slots, req(0, 0, 60)])
    assert (packet.error, packet.length, packet.segments, after) == ("", length, [(50, 0, length)], len(slots))


@pytest.mark.parametrize("spoil", [0, 1, 2, 3])
def test_what_is_nearly_a_run_is_taken_slot_by_slot(spoil: int) -> None:
    slots = consecutive(13000, spoil)
    packet, after = gather(slots)
    assert (packet.error, after, len(packet.segments)) == ("", 4, 4)
    assert sum(size for _, _, size in packet.segments) == 13000
    assert packet.segments[spoil][0] == 900


def test_a_run_must_end_where_the_packet_ends() -> None:
    slots = consecutive(9000)
    assert gather([slots[0], slots[1], TX_REQUEST.pack(52, 0, 0, 2, 809)])[0].segments[0] == (50, 0, 4095)
    with pytest.raises(BadRing, match="slot crosses its page"):
        gather([slots[0], slots[1], TX_REQUEST.pack(52, 0, 0, 2, 807)])
    with pytest.raises(BadRing, match="ring ends"):
        gather(slots[:-1])
    assert gather([slots[0], slots[1], TX_REQUEST.pack(52, 8, 0, 2, 808)])[0].segments[2] == (52, 8, 808)


def recorded() -> dict[str, tuple[list[bytes], int, list[int], tuple[int, ...]]]:
    """Per packet of the recording: its raw slots, its length, its ids, and the GSO extra if there is one."""
    packets: dict[str, tuple[list[bytes], int, list[int], tuple[int, ...]]] = {}
    for line in RECORDING.read_text().splitlines():
        if line.startswith("packet"):
            name = line.partition(":")[0]
            packets[name] = ([], 0, [], ())
        elif not line.startswith("#"):
            kind, data, text = line.split(maxsplit=2)
            slots, length, ids, gso = packets[name]
            said = ast.literal_eval(text)
            slots.append(bytes.fromhex(data))
            if kind == "req":
                packets[name] = (slots, length or said[4], [*ids, said[3]], gso)
            else:
                packets[name] = (slots, length, ids, said[5])
    return packets


RECORDED = recorded()


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_real_netfront_wrote_is_one_packet(name: str) -> None:
    slots, length, ids, gso = RECORDED[name]
    packet, after = gather(slots)
    assert (packet.error, packet.length, after) == ("", length, len(slots))
    said = answers(packet.answers)
    assert len(said) == len(slots)
    assert [ident for ident, status in said if status == OKAY] == ids
    assert sum(size for _, _, size in packet.segments) == length
    assert all(offset + size <= 4096 for _, offset, size in packet.segments)
    assert packet.extras == len(slots) - len(ids)
    if gso:
        assert packet.word == CSUM_BLANK | DATA_VALIDATED | gso[1] << 8 | gso[0] << GSO_SIZE_SHIFT


def test_the_whole_recording_is_gathered_off_one_ring() -> None:
    slots = [slot for packet in RECORDED.values() for slot in packet[0]]
    assert len(slots[0]) == TX_SLOT_SIZE
    at, lengths = 0, []
    while at < len(slots):
        packet, at = gather(slots, at)
        lengths.append(packet.length)
    assert lengths == [length for _, length, _, _ in RECORDED.values()]
