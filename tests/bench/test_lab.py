"""The lab file of the bench is a file of the contract."""

from __future__ import annotations

import tomllib

import pytest

from xnet.bench.lab import lab_file


@pytest.mark.parametrize(
    ("flavour", "switch", "plug"),
    [("xnbu", {"bridge": [{"name": "xenbr0"}]}, "bridge"), ("xnbo", {"etherstub": [{"name": "stub0"}]}, "link")],
)
def test_a_lab_is_two_guests_on_the_switch_of_its_flavour(flavour: str, switch: dict[str, object], plug: str) -> None:
    lab = tomllib.loads(lab_file("bench-1", flavour))
    assert lab["lab"] == {"name": "bench-1"}
    assert lab.items() >= switch.items()
    assert [domain["name"] for domain in lab["domain"]] == ["a", "b"]
    for domain, address in zip(lab["domain"], ("10.77.0.1/24", "10.77.0.2/24"), strict=True):
        (name,) = (entry["name"] for entries in switch.values() for entry in entries)  # type: ignore[attr-defined]
        assert domain["vif"] == [{plug: name, "ip": address}]
