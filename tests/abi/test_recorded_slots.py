"""Slots that a real Linux netfront wrote, decoded and encoded again with our layouts."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    TX_REQUEST,
    TX_SLOT_SIZE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)

RECORDING = Path(__file__).parent / "data" / "netfront_tx_slots.txt"


class Slot(NamedTuple):
    """One recorded slot: ``req`` or ``extra``, its bytes, and its fields in our layout's order."""

    kind: str
    data: bytes
    fields: tuple[int, ...]


def recorded() -> dict[str, list[Slot]]:
    packets: dict[str, list[Slot]] = {}
    for line in RECORDING.read_text().splitlines():
        if line.startswith("packet"):
            name, _, _ = line.partition(":")
            packets[name] = []
        elif not line.startswith("#"):
            kind, data, text = line.split(maxsplit=2)
            said = ast.literal_eval(text)
            fields = said if kind == "req" else (said[1], said[3], *said[5])
            packets[name].append(Slot(kind, bytes.fromhex(data), fields))
    return packets


PACKETS = recorded()


def test_the_recording_holds_every_kind_of_packet() -> None:
    shapes = {tuple(slot.kind for slot in slots) for slots in PACKETS.values()}
    assert shapes == {("req",), ("req", "req"), ("req", "extra", "req"), ("req", "extra", "req", "req")}


@pytest.mark.parametrize("name", PACKETS)
def test_slots_are_decoded_and_encoded_again(name: str) -> None:
    for slot in PACKETS[name]:
        layout = TX_REQUEST if slot.kind == "req" else EXTRA_GSO
        assert layout.unpack_from(slot.data) == slot.fields
        assert layout.pack(*slot.fields).ljust(TX_SLOT_SIZE, b"\0") == slot.data


@pytest.mark.parametrize("name", PACKETS)
def test_a_real_packet_keeps_the_rules(name: str) -> None:
    """Flags tell what follows; the first size is the whole packet's, so its own fragment is what the others leave."""
    first, *rest = PACKETS[name]
    requests = [slot.fields for slot in rest if slot.kind == "req"]
    extras = [slot.fields for slot in rest if slot.kind == "extra"]
    _, offset, flags, _, size = first.fields
    assert bool(flags & NETTXF_extra_info) == bool(extras)
    chain = [bool(fields[2] & NETTXF_more_data) for fields in [first.fields, *requests]]
    assert chain == [True] * len(requests) + [False]
    fragment = size - sum(fields[4] for fields in requests)
    assert fragment >= 14
    assert offset + fragment <= PAGE_SIZE
    assert all(fields[1] + fields[4] <= PAGE_SIZE for fields in requests)
    for kind, more, mss, gso_type, pad, features in extras:
        assert (kind, more, gso_type, pad, features) == (XEN_NETIF_EXTRA_TYPE_GSO, 0, XEN_NETIF_GSO_TYPE_TCPV4, 0, 0)
        assert flags & NETTXF_csum_blank
        assert flags & NETTXF_data_validated
        assert size > mss
