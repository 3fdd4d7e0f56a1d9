"""Who hears groups, who hears all, and addresses besides the first: against a look at every port."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mac.test_vswitch import BROADCAST, GROUP, OTHER_GROUP, STRANGER, A, B, C, D, House, burst, ether
from xnet.mac import MacError, Vnic

MACS = (A, B, C, D)
TO = (*MACS, STRANGER, BROADCAST, GROUP, OTHER_GROUP)
PORTS = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 5)),  # vid
        st.one_of(st.none(), st.frozensets(st.sampled_from((GROUP, OTHER_GROUP)))),  # groups; None: all
        st.booleans(),  # filtered
    ),
    min_size=2,
    max_size=4,
)


def hears(vnic: Vnic, to: bytes, vid: int) -> bool:
    """What the reference says, of one port of several."""
    if vnic.all_multicast and not vnic.filtered:
        return True
    if vnic.vid != vid:
        return False
    if to[0] & 1:
        return vnic.all_multicast or to == BROADCAST or to in vnic.joined
    return to == vnic.mac


@given(ports=PORTS, changes=PORTS, to=st.sampled_from(TO), vid=st.sampled_from((0, 5, 6)))
def test_who_gets_a_frame_is_who_hears_it(
    ports: list[tuple[int, frozenset[bytes] | None, bool]],
    changes: list[tuple[int, frozenset[bytes] | None, bool]],
    to: bytes,
    vid: int,
) -> None:
    house = House(*((mac, port[0]) for mac, port in zip(MACS, ports, strict=False)))
    for wanted in (ports, changes):  # and once more, for what changes while frames flow
        for vnic, (_, groups, filtered) in zip(house.vnics, wanted, strict=False):
            vnic.follow(groups)
            vnic.filter(filtered)
        for place in [*house.sinks, house.wire.far]:
            place.frames.clear()
        plain, sender = ether(to, sender=STRANGER), house.vnics[0]
        house.switch.rx(burst(ether(to, sender=STRANGER, vid=vid or None, size=64 if vid else 60)))
        assert house.got()[:-1] == [[plain] * hears(vnic, to, vid) for vnic in house.vnics]
        for place in house.sinks:
            place.frames.clear()
        sender.tx(burst(plain))
        expected = [hears(vnic, to, sender.vid) and (vnic is not sender or to == sender.mac) for vnic in house.vnics]
        assert [len(frames) for frames in house.got()[:-1]] == expected
        local = not to[0] & 1 and any(vnic.mac == to and vnic.vid == sender.vid for vnic in house.vnics)
        assert len(house.got()[-1]) == (not local)


def test_one_that_hears_all_hears_what_others_say_to_each_other_but_not_itself() -> None:
    house = House(A, B, C)
    house.vnics[2].filter(False)
    there, mine = ether(B), ether(STRANGER, sender=C)
    house.vnics[0].tx(burst(there, there))
    house.vnics[2].tx(burst(mine))
    assert house.got() == [[], [there, there], [there, there], [mine]]
    house.vnics[2].filter(True)
    house.vnics[0].tx(burst(there))
    assert len(house.got()[2]) == 2


def test_only_who_is_there_and_wants_all_groups_hears_all() -> None:
    house = House(A, B, C)
    picky, absent = house.vnics[1], house.vnics[2]
    for vnic in (picky, absent):
        vnic.filter(False)
    picky.follow(frozenset())
    absent.attach(None)
    house.vnics[0].tx(burst(ether(STRANGER)))
    assert house.got()[:3] == [[], [], []]
    assert absent.statistics()["no_client"] == 0
    assert not house.switch.promiscuous()


def test_the_wire_is_told_when_somebody_wants_to_hear_all() -> None:
    house = House(A, B)
    said: list[bool] = []
    house.switch.changed = lambda: said.append(house.switch.promiscuous())
    house.vnics[0].filter(False)
    house.vnics[0].follow(frozenset({GROUP}))
    house.vnics[0].follow(None)
    house.vnics[0].attach(None)
    assert said == [True, False, True, False]


def test_addresses_besides_the_first_are_a_ports_own_until_it_gives_them_back() -> None:
    house = House(A, B)
    vnic = house.vnics[0]
    vnic.give([C, D, C])
    assert vnic.macs == (A, C, D)
    assert house.switch.addresses() == [B, A, C, D]
    for to in (A, C, D):
        house.vnics[1].tx(burst(ether(to, sender=B)))
    assert house.got() == [[ether(to, sender=B) for to in (A, C, D)], [], []]
    vnic.give([D])
    house.vnics[1].tx(burst(ether(C, sender=B)))
    assert house.got()[-1] == [ether(C, sender=B)]
    vnic.close()
    assert house.switch.addresses() == [B]
    Vnic("xvm9_0", house.switch, D)


@pytest.mark.parametrize("wrong", [B, GROUP, bytes(6), b"\2" * 5])
def test_an_address_that_cannot_be_given_changes_nothing(wrong: bytes) -> None:
    house = House(A, B)
    house.vnics[0].give([C])
    with pytest.raises(MacError):
        house.vnics[0].give([D, wrong])
    assert house.vnics[0].macs == (A, C)
    assert house.switch.addresses() == [B, A, C]
