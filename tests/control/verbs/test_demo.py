from __future__ import annotations

from typing import Any

import pytest

from xnet.control.traffic import Outcome
from xnet.control.verbs.demo import Demo, Run, counters, demo_lab, in_words

END = (
    "tx_packets",
    "rx_packets",
    "tx_slots",
    "rx_slots",
    "tx_notified",
    "rx_notified",
    "tx_suppressed",
    "rx_suppressed",
)


def statistics() -> dict[str, Any]:
    """Each vif's counters are its number in tens, front and back; each domain's are ones."""
    vifs = {
        name: {end: dict.fromkeys(END, 10**power) for end in ("netfront", "netback")}
        for power, name in enumerate(("a/0", "b/0", "a/1", "b/1"))
    }
    domains = {name: {"copies": 1, "maps": 2, "bytes_copied": 3} for name in ("Domain-0", "a", "b")}
    return {"vifs": vifs, "domains": domains}


def test_counters_are_of_one_flavours_vifs_and_of_all_domains() -> None:
    assert counters(statistics(), "xnbu") == {
        "frames": 22,
        "slots": 22,
        "grant_copies": 3,
        "grant_maps": 6,
        "bytes_copied": 9,
        "notified": 44,
        "suppressed": 44,
    }
    assert counters(statistics(), "xnbo")["frames"] == 2200


def test_both_guests_have_a_vif_over_each_flavour() -> None:
    lab = demo_lab()
    assert [domain.name for domain in lab.domains] == ["a", "b"]
    for domain in lab.domains:
        assert [(vif.bridge, vif.link) for vif in domain.vifs] == [("xenbr0", None), (None, "net0")]
        assert all(len(vif.ip) == 2 for vif in domain.vifs)


def shown(*outcomes: Outcome) -> Demo:
    show = Demo(1, True)
    show.runs = [Run("xnbu", "ping", outcome, {"frames": 2, "bytes_copied": 196}) for outcome in outcomes]
    return show


def test_the_demo_has_passed_only_if_every_run_has() -> None:
    assert shown(Outcome(gbps=1.0), Outcome(rtt_ms=0.3)).passed()
    assert not shown(Outcome(gbps=1.0), Outcome(problem="nothing arrived")).passed()
    assert not shown().passed()


def test_json_tells_what_the_table_tells(capsys: pytest.CaptureFixture[str]) -> None:
    show = shown(Outcome(gbps=1.25, loss_percent=0.5))
    run = show.data()["runs"][0]
    assert (run["over"], run["what"], run["gbps"], run["loss_percent"]) == ("xnbu", "ping", 1.25, 0.5)
    assert run["crossed"] == {"frames": 2, "bytes_copied": 196}
    show.summary()
    assert capsys.readouterr().out.splitlines()[-1].split() == ["xnbu", "ping", "1.25", "0.5", "-", "2", "196"]


def test_a_problem_is_told_in_words() -> None:
    assert (
        in_words(Outcome(loss_percent=100.0, problem="nothing arrived")) == "100.0 % lost  NOT PASSED: nothing arrived"
    )
