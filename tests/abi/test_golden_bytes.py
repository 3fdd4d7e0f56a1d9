"""Layouts against bytes written by hand from the headers, read and written, in buffers full of 0xA5."""

from __future__ import annotations

from struct import Struct

import pytest

from xnet.abi.linux.virtio_net import VNET_HDR
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1
from xnet.abi.xen.netif import (
    EXTRA_GSO,
    RX_FLAG_NAMES,
    RX_REQUEST,
    RX_RESPONSE,
    TX_FLAG_NAMES,
    TX_REQUEST,
    TX_RESPONSE,
    flag_names,
)
from xnet.abi.xen.ring import nr_ents

GOLDEN = {
    # gref 0x01020304, offset 0x0506, flags more_data|csum_blank, id 0x0708, size 0xffff
    "a tx request": (TX_REQUEST, (0x01020304, 0x0506, 5, 0x0708, 0xFFFF), "04030201 0605 0500 0807 ffff"),
    # the highest reference and id there can be
    "a tx request at its limits": (TX_REQUEST, (0xFFFFFFFF, 4095, 15, 0xFFFF, 14), "ffffffff ff0f 0f00 ffff 0e00"),
    # id 0x0708, status OKAY, ERROR, DROPPED, NULL: a signed 16-bit number
    "a tx response, okay": (TX_RESPONSE, (0x0708, 0), "0807 0000"),
    "a tx response, error": (TX_RESPONSE, (0x0708, -1), "0807 ffff"),
    "a tx response, dropped": (TX_RESPONSE, (0x0708, -2), "0807 feff"),
    "a tx response, null": (TX_RESPONSE, (0x0708, 1), "0807 0100"),
    # id 0x00ff, pad, gref 0x0a0b0c0d
    "an rx request": (RX_REQUEST, (0xFF, 0, 0x0A0B0C0D), "ff00 0000 0d0c0b0a"),
    # id 0x00ff, offset 2, flags data_validated|more_data, 1514 bytes here
    "an rx response": (RX_RESPONSE, (0xFF, 2, 5, 1514), "ff00 0200 0500 ea05"),
    "an rx response, error": (RX_RESPONSE, (0xFF, 0, 0, -1), "ff00 0000 0000 ffff"),
    # type GSO, flags MORE, MSS 1448, TCPV6, pad, features
    "a GSO extra": (EXTRA_GSO, (1, 1, 1448, 2, 0, 0x1122), "01 01 a805 02 00 2211"),
    # flags permit_access|readonly|reading, domid 2, frame 0x00abcdef
    "a grant": (GRANT_ENTRY_V1, (0x0D, 2, 0x00ABCDEF), "0d00 0200 efcdab00"),
    # NEEDS_CSUM, TCPV4, 54 bytes of headers, MSS 1448, sum from 34, store at 34 + 16
    "a vnet header": (VNET_HDR, (1, 1, 54, 1448, 34, 16), "01 01 3600 a805 2200 1000"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_fields_are_read_from(name: str) -> None:
    layout, fields, golden = GOLDEN[name]
    data = b"\xa5" * 3 + bytes.fromhex(golden) + b"\xa5" * 3
    assert layout.unpack_from(data, 3) == fields


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_written_and_no_others(name: str) -> None:
    layout, fields, golden = GOLDEN[name]
    data = bytearray(b"\xa5" * (layout.size + 6))
    layout.pack_into(data, 3, *fields)
    assert data == b"\xa5" * 3 + bytes.fromhex(golden) + b"\xa5" * 3


@pytest.mark.parametrize(
    ("layout", "fields"),
    [(TX_RESPONSE, (0, 0x8000)), (TX_REQUEST, (0, 0, 0, 0, 0x10000)), (RX_RESPONSE, (0, 0, 0, 0x8000))],
)
def test_what_does_not_fit_is_refused(layout: Struct, fields: tuple[int, ...]) -> None:
    with pytest.raises(Exception, match="format"):
        layout.pack(*fields)


@pytest.mark.parametrize(("slot_size", "slots"), [(12, 256), (8, 256), (16, 128), (112, 32), (4032, 1)])
def test_a_page_holds_a_power_of_two_slots(slot_size: int, slots: int) -> None:
    assert nr_ents(slot_size) == slots


@pytest.mark.parametrize(
    ("flags", "on_tx", "on_rx"),
    [
        (0, "-", "-"),
        (1, "csum_blank", "data_validated"),
        (2, "data_validated", "csum_blank"),
        (7, "csum_blank|data_validated|more_data", "data_validated|csum_blank|more_data"),
        (16, "0x10", "gso_prefix"),
        (0x8008, "extra_info|0x8000", "extra_info|0x8000"),
    ],
)
def test_flags_have_names_by_direction(flags: int, on_tx: str, on_rx: str) -> None:
    assert flag_names(flags, TX_FLAG_NAMES) == on_tx
    assert flag_names(flags, RX_FLAG_NAMES) == on_rx
