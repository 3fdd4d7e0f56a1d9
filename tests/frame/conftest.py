"""scapy as an independent oracle for headers and checksums, loaded only by the tests that ask for it."""

from __future__ import annotations

import functools
import warnings
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def scapy() -> SimpleNamespace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scapy's own, about its dependencies
        from scapy import packet, utils
        from scapy.layers import inet, inet6, l2
    names = {**vars(l2), **vars(inet), **vars(inet6), "checksum": utils.checksum, "Raw": packet.Raw}
    names["Dissect"] = l2.Ether
    names["Ether"] = functools.partial(l2.Ether, dst="00:16:3e:00:00:02", src="00:16:3e:00:00:01")
    return SimpleNamespace(**names)
