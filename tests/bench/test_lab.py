"""The lab file of the bench is a file of the contract, and a lab that does not come up says why."""

from __future__ import annotations

import sys
import tomllib

import pytest

from xnet.bench import lab
from xnet.bench.lab import CROSSBOW, SWITCH, VARIANTS, lab_file, lab_setup
from xnet.control.config import parse_lab
from xnet.errors import HostError


@pytest.mark.parametrize(
    ("flavour", "switch", "plug"),
    [
        ("xnbu", {"bridge": [{"name": "xenbr0"}]}, "bridge"),
        ("xnbo", {"etherstub": [{"name": "stub0", "mtu": 1500}]}, "link"),
    ],
)
def test_a_lab_is_two_guests_on_the_switch_of_its_flavour(flavour: str, switch: dict[str, object], plug: str) -> None:
    file = tomllib.loads(lab_file("bench-1", flavour))
    assert file["lab"] == {"name": "bench-1"}
    assert file.items() >= switch.items()
    assert [domain["name"] for domain in file["domain"]] == ["a", "b"]
    for domain, address in zip(file["domain"], ("10.77.0.1/24", "10.77.0.2/24"), strict=True):
        (name,) = (entry["name"] for entries in switch.values() for entry in entries)  # type: ignore[attr-defined]
        assert domain["vif"] == [{plug: name, "ip": address}]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("flavour", SWITCH)
def test_a_variant_is_a_lab_that_can_be_read_and_differs(flavour: str, variant: str) -> None:
    plain, other = (parse_lab(lab_file("bench-1", flavour, each), "bench.toml") for each in ("", variant))
    assert plain.domains != other.domains
    assert [domain.name for domain in other.domains] == ["a", "b"]


@pytest.mark.parametrize("variant", CROSSBOW)
def test_a_variant_of_crossbow_is_a_lab_that_can_be_read_and_differs(variant: str) -> None:
    plain, other = (parse_lab(lab_file("bench-1", "xnbo", each), "bench.toml") for each in ("", variant))
    assert plain != other
    assert len(other.vnics) == {"vnics16": 14, "vnics256": 254}.get(variant, 0)


@pytest.mark.integration
def test_a_lab_that_ends_is_an_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "XNET", (sys.executable, "-S", "-c", "raise SystemExit('no memory for d1')"))
    with pytest.raises(HostError, match="the lab ended: no memory for d1"), lab_setup("xnbu"):
        raise AssertionError("no lab, no setup")
