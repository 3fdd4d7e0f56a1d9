"""What becomes of frames while drivers, vifs and guests come and go.

The model: a frame arrives at most once, whole, and behind those sent before it on its queue. It does arrive when all is
quiet, unless its frontend's connection ended in between; a backend that dies is no such end, for the next one goes on
with the same rings. What a backend had taken for the guest dies with it. And whenever all is quiet, every page, grant,
port and mapping belongs to somebody.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xnet.engine.xen_host import GuestDomain
from xnet.testing import Vif, World
from xnet.testing.frames import plain

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"mode": "map"},
    {"rx_mode": "flip"},
    {"queues": 2, "control": True},
    {"front_profile": "freebsd", "mode": "map"},
    {"front_profile": "mirage"},
]
"""Of vifs, one after another."""
SIZES = st.sampled_from([60, 1514, 4096, 9000, 40000])
BURSTS = st.integers(1, 8)
WHICH = st.integers(0, 2)


class Life:
    """A vif, and what was sent on it."""

    def __init__(self, vif: Vif) -> None:
        self.vif = vif
        self.open = True
        self.sent: list[list[bytes]] = [[] for _ in vif.wire.devices]
        """By queue, in the guest."""
        self.delivered: list[bytes] = []
        """To the guest."""
        self.owed: set[bytes] = set()
        """Frames that the guest sent and must arrive."""
        self.owed_in: set[bytes] = set()
        """Frames to the guest, likewise."""

    @property
    def running(self) -> bool:
        """It has a backend driver."""
        return not self.vif.netback.over

    def cut(self) -> None:
        """Its connection ends, or may."""
        self.owed.clear()
        self.owed_in.clear()


class Lives(RuleBasedStateMachine):
    """Two guests, the first with two vifs and the other with one."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.__enter__()
        self.guests = [self.world.guest("a", 3072), self.world.guest("b", 2048)]
        self.lives: list[Life | None] = [None, None, None]
        self.asleep = [False, False]
        self.made = self.numbers = 0
        for which in range(3):
            self.plug(which)

    def owner(self, which: int) -> int:
        """Which guest has a vif."""
        return which // 2

    def guest(self, which: int) -> GuestDomain:
        return self.guests[self.owner(which)]

    def awake(self, which: int) -> Life | None:
        """The vif, when it is there and its guest moves."""
        return None if self.asleep[self.owner(which)] else self.lives[which]

    def plug(self, which: int) -> None:
        options = OPTIONS[self.made % len(OPTIONS)]
        self.made += 1
        self.lives[which] = Life(self.world.vif(self.guest(which), which % 2, **options))

    def frame(self, size: int) -> bytes:
        """One that is like no other."""
        self.numbers += 1
        return plain(size)[:-8] + self.numbers.to_bytes(8)

    # --- time

    @rule()
    def settle(self) -> None:
        self.world.step()

    @rule(turns=st.integers(1, 6))
    def a_few_turns(self, turns: int) -> None:
        for _ in range(turns):
            self.world.host.hypervisor.step(1)

    # --- frames

    @rule(which=WHICH, size=SIZES, count=BURSTS)
    def the_guest_sends(self, which: int, size: int, count: int) -> None:
        life = self.awake(which)
        if life is None:
            return
        for _ in range(count):
            if not life.vif.wire.queues:
                return
            index, frame = self.numbers % len(life.vif.wire.queues), self.frame(size)
            if life.vif.wire.send(frame, index=index):
                life.sent[index].append(frame)
                life.owed.add(frame)

    @rule(which=WHICH, size=SIZES, count=BURSTS)
    def frames_for_the_guest(self, which: int, size: int, count: int) -> None:
        life = self.lives[which]
        if life is None or life.vif.hub.client is None:
            return
        frames = [self.frame(size) for _ in range(count)]
        self.world.deliver(life.vif, *frames)
        life.delivered += frames
        here = life.vif.wire.queues and life.open and not self.asleep[self.owner(which)]  # the connection is to last
        if here and len(life.owed_in) + count < 8:
            life.owed_in |= set(frames)  # more than that may find no buffers

    # --- drivers

    @rule(which=WHICH)
    def the_frontend_closes_or_opens(self, which: int) -> None:
        life = self.awake(which)
        if life is None:
            return
        self.world.step()
        life.cut()
        life.open = not life.open
        if life.open:
            life.vif.netfront.open()
        else:
            life.vif.netfront.close()

    @rule(which=WHICH)
    def the_backend_dies(self, which: int) -> None:
        life = self.lives[which]
        if life is not None and life.running:
            life.vif.netback.stop()
            life.owed_in.clear()

    @rule(which=WHICH)
    def the_backend_is_started_again(self, which: int) -> None:
        life = self.lives[which]
        if life is not None and not life.running:
            life.vif.netback = life.vif.make_netback()
            life.vif.netback.start()

    @rule(which=WHICH)
    def the_backend_is_restarted(self, which: int) -> None:
        life = self.lives[which]
        if life is not None:
            life.vif.restart_backend()
            life.owed_in.clear()

    # --- vifs and guests

    @rule(which=WHICH)
    def unplug_or_plug_in(self, which: int) -> None:
        life = self.lives[which]
        if self.asleep[self.owner(which)]:
            return
        if life is None:
            self.plug(which)
            return
        self.world.unplug(life.vif)
        self.retire(which)

    def retire(self, which: int) -> None:
        """The drivers go with their device."""
        life = self.lives[which]
        assert life is not None
        life.vif.netfront.stop()
        life.vif.netback.stop()
        self.world.vifs.remove(life.vif)
        self.lives[which] = None

    @rule(who=st.integers(0, 1))
    def the_guest_suspends_or_is_resumed(self, who: int) -> None:
        domid, hypervisor = self.guests[who].domain.domid, self.world.host.hypervisor
        self.asleep[who] = not self.asleep[who]
        if self.asleep[who]:
            hypervisor.shutdown(domid, "suspend")
        else:
            hypervisor.resume(domid)
        for which, life in enumerate(self.lives):
            if life is not None and self.owner(which) == who:
                life.cut()
                if not self.asleep[who]:
                    life.vif.netfront.resume()
                    life.open = True

    @rule(who=st.integers(0, 1))
    def the_guest_is_destroyed_and_made_again(self, who: int) -> None:
        mine = [which for which in range(3) if self.owner(which) == who]
        for which in mine:
            if (life := self.lives[which]) is not None and not life.running:
                life.vif.netback.stop()
        self.world.crash(self.guests[who])
        self.guests[who] = self.world.guest("ab"[who], 3072)
        self.asleep[who] = False
        for which in mine:
            self.lives[which] = None
            self.plug(which)

    @rule()
    def a_second_passes(self) -> None:
        self.world.tick()

    # --- what holds

    @invariant()
    def no_exception_got_out(self) -> None:
        assert self.world.errors == []

    @invariant()
    def frames_come_once_whole_and_in_order(self) -> None:
        for life in filter(None, self.lives):
            seen = [frame for _, frame in life.vif.hub.sent]
            for queue in life.sent:
                mine = set(queue)
                ordered([frame for frame in seen if frame in mine], queue)
            assert set(seen) <= {frame for queue in life.sent for frame in queue}
            ordered([frame for _, frame in life.vif.wire.received], life.delivered)

    @precondition(lambda self: not len(self.world.host.hypervisor.runqueue))
    @invariant()
    def when_all_is_quiet_nothing_is_missing(self) -> None:
        assert self.world.check() == []
        for which, life in enumerate(self.lives):
            if life is None or not life.running or self.asleep[self.owner(which)]:
                continue
            assert life.vif.connected == life.open, (life.vif.netfront.state, life.vif.netback.state)
            assert life.owed <= {frame for _, frame in life.vif.hub.sent}
            assert life.owed_in <= {frame for _, frame in life.vif.wire.received}
            life.cut()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.__exit__(None, None, None)


def ordered(found: list[bytes], wanted: list[bytes]) -> None:
    """What was found is of what was wanted, in its order, none twice."""
    places = {frame: at for at, frame in enumerate(wanted)}
    order = [places[frame] for frame in found]
    assert all(one < two for one, two in pairwise(order)), order


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
