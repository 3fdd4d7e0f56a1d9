"""Every layout and number of `xnet.abi` against what a C compiler makes of the real headers."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from types import ModuleType
from typing import Any

import pytest

from xnet.abi.xen.ring import nr_ents
from xnet.abi.xen.xenbus import XenbusState
from xnet.abi.xen.xs_wire import XSD_ERRORS

pytestmark = pytest.mark.integration

MODULES = [
    "xen",
    "xen.ring",
    "xen.netif",
    "xen.grant_table",
    "xen.event_channel",
    "xen.xs_wire",
    "linux.if_packet",
    "linux.tun",
    "linux.virtio_net",
]
NEWER_THAN_SOME_HEADERS = {"XENSTORE_SERVER_FEATURE_WATCHDEPTH"}
"""Numbers that layouts.c prints only where the installed header has them."""

CODES = {1: "B", 2: "H", 4: "I", 6: "6s", 8: "Q"}


@pytest.fixture(scope="module")
def real(oracle: Callable[[str], Path]) -> dict[str, Any]:
    shown = subprocess.run([oracle("layouts")], capture_output=True, check=True, timeout=10).stdout
    return dict(json.loads(shown))


def own(module: ModuleType, kind: type) -> dict[str, Any]:
    """The module's own public names of one kind (an import from another ABI module is checked there)."""
    base = importlib.import_module("xnet.abi.xen") if module.__name__.startswith("xnet.abi.xen.") else None
    return {
        name: value
        for name, value in vars(module).items()
        if type(value) is kind and not name.startswith("_") and not (base and name in vars(base))
    }


def format_of(fields: list[list[Any]], size: int) -> str:
    """The struct format that puts each field where the C compiler did."""
    text, at = "<", 0
    for _, offset, width, signed in fields:
        text += "x" * (offset - at) + (CODES[width].lower() if signed else CODES[width])
        at = offset + width
    return text + "x" * (size - at)


@pytest.mark.parametrize("name", MODULES)
def test_every_number_is_the_headers_own(real: dict[str, Any], name: str) -> None:
    ours = own(importlib.import_module(f"xnet.abi.{name}"), int)
    theirs = {key: value for key, value in real[name]["constants"].items() if "(" not in key}
    for absent in NEWER_THAN_SOME_HEADERS - set(theirs):
        ours.pop(absent, None)
    assert ours == theirs, "a number that layouts.c does not print is a number nobody checked"


@pytest.mark.parametrize("name", MODULES)
def test_every_layout_is_the_compilers_own(real: dict[str, Any], name: str) -> None:
    ours = own(importlib.import_module(f"xnet.abi.{name}"), Struct)
    theirs = {key: format_of(fields, size) for key, (size, fields) in real[name]["structs"].items()}
    assert {key: value.format for key, value in ours.items()} == theirs


def test_xenbus_states_are_the_headers_own(real: dict[str, Any]) -> None:
    assert {state.name: state.value for state in XenbusState} == real["xen.xenbus"]["constants"]


def test_xenstore_errors_are_the_headers_own(real: dict[str, Any]) -> None:
    assert sorted(XSD_ERRORS) == sorted(real["xen.xs_wire"]["errors"])


def test_rings_have_the_slots_ring_h_gives_them(real: dict[str, Any]) -> None:
    numbers = real["xen.netif"]["constants"]
    assert nr_ents(numbers["TX_SLOT_SIZE"]) == numbers["RING_SLOTS"]
    assert nr_ents(numbers["RX_SLOT_SIZE"]) == numbers["RING_SLOTS (rx)"]
