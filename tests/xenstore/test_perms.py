"""Permission texts, who may do what, and what a new node inherits."""

from __future__ import annotations

import pytest

from xnet.errors import StoreError
from xnet.xenstore.perms import NONE, OWNER, READ, WRITE, Caller, Perm, Perms, parse_perms
from xnet.xenstore.quota import Quota

ALL = READ | WRITE | OWNER


@pytest.mark.parametrize(
    ("text", "perm"),
    [
        ("n0", Perm(0, NONE)),
        ("r1", Perm(1, READ)),
        ("w22", Perm(22, WRITE)),
        ("b65535", Perm(65535, READ | WRITE)),
    ],
)
def test_a_permission_reads_and_prints(text: str, perm: Perm) -> None:
    assert Perm.parse(text) == perm
    assert str(perm) == text


@pytest.mark.parametrize("text", ["", "r", "1", "x1", "r-1", "r1 ", "rr1", "R1", "r65536", "r\u0661"])
def test_what_is_no_permission_is_invalid(text: str) -> None:
    with pytest.raises(StoreError) as error:
        Perm.parse(text)
    assert error.value.code == "EINVAL"


def test_a_list_has_at_least_an_owner() -> None:
    with pytest.raises(StoreError):
        parse_perms([])


def guest(domid: int, target: int = -1) -> Caller:
    return Caller(domid, Quota(), target)


@pytest.mark.parametrize(
    ("who", "perms", "access"),
    [
        (Caller(0), "n1", ALL),
        (Caller(5), "n1", ALL),
        (guest(1), "n1", ALL),
        (guest(2), "n1", NONE),
        (guest(2), "r1", READ),
        (guest(2), "b1 n2", NONE),
        (guest(2), "n1 r2", READ),
        (guest(2), "n1 w2", WRITE),
        (guest(2), "n1 r3 b2 n2", READ | WRITE),
        (guest(3), "n1 r2", NONE),
        (guest(0), "n0", ALL),
        (guest(2, target=1), "n1", ALL),
        (guest(2, target=3), "n1 r3", READ),
    ],
)
def test_access(who: Caller, perms: str, access: int) -> None:
    assert who.access(parse_perms(perms.split())) == access


@pytest.mark.parametrize(
    ("who", "parent", "child"),
    [
        (Caller(0), "n1 r2", "n1 r2"),
        (guest(1), "n1 r2", "n1 r2"),
        (guest(2), "r1 b2", "r2 b2"),
    ],
)
def test_a_new_node_inherits_and_an_unprivileged_maker_owns_it(who: Caller, parent: str, child: str) -> None:
    inherited: Perms = who.inherit(parse_perms(parent.split()))
    assert " ".join(map(str, inherited)) == child
