"""The xenbus handshake under everything that may happen to it, in any order and half done.

The model is one sentence: when all is quiet, both drivers run, both want to be open, the guest is awake and nobody has
lied about a state since the frontend was last opened (about a waiting backend's: since that began), then both are
Connected and frames pass. And whenever all is quiet, every page, grant, port and mapping belongs to a driver; at
the end nothing is left.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xnet.abi.xen.xenbus import XenbusState
from xnet.testing import Vif, World
from xnet.testing.frames import plain

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OPTIONS = st.sampled_from(
    [
        {},
        {"rx_mode": "flip", "queues": 2},
        {"rx_mode": "flip", "mode": "map"},
        {"queues": 2, "control": True},
        {"mode": "map", "headroom": 256},
        {"front_profile": "windows", "control": True},
        {"front_profile": "freebsd", "queues": 2},
    ]
)
"""Of a vif that is plugged in later."""
STATES = st.sampled_from(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "", "banana"])


class Handshake(RuleBasedStateMachine):
    """One guest's vif at a time, and another guest's beside it that must never notice."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.__enter__()
        self.other = self.world.vif(self.world.guest("other"))
        self.create()

    def create(self) -> None:
        self.guest = self.world.guest("a", 2048)
        self.asleep = False
        self.plug()

    def plug(self, **options: Any) -> None:
        self.vif = self.world.vif(self.guest, **options)
        self.plugged = self.open = self.honest = self.back_honest = True

    @property
    def running(self) -> bool:
        """There is a backend driver: nobody killed it, and no frontend said that it was gone (state 0)."""
        return not self.vif.netback.over

    def retire(self, vif: Vif) -> None:
        """Its drivers are unloaded with their device."""
        vif.netfront.stop()
        vif.netback.stop()
        self.world.vifs.remove(vif)

    # --- time: all of it, or a little

    @rule()
    def settle(self) -> None:
        self.world.step()

    @rule(turns=st.integers(1, 6))
    def a_few_turns(self, turns: int) -> None:
        for _ in range(turns):
            self.world.host.hypervisor.step(1)

    # --- the frontend

    @precondition(lambda self: self.plugged and self.open and not self.asleep)
    @rule()
    def front_closes(self) -> None:
        self.vif.netfront.close()
        self.open = False

    @precondition(lambda self: self.plugged and not self.asleep)
    @rule()
    def front_opens(self) -> None:
        self.world.step()
        self.vif.netfront.open()
        self.open = True
        # a backend that waits already has nothing to say when the frontend opens: what stands there stays a lie
        self.honest = self.back_honest or self.vif.netback.state is not XenbusState.InitWait

    # --- the backend

    @precondition(lambda self: self.plugged and self.running)
    @rule()
    def back_dies(self) -> None:
        self.vif.netback.stop()

    @precondition(lambda self: self.plugged and not self.running)
    @rule()
    def back_is_started_again(self) -> None:
        self.vif.netback = self.vif.make_netback()
        self.vif.gone = 0
        self.vif.netback.start()
        self.back_honest = True

    # --- the toolstack

    @precondition(lambda self: self.plugged and not self.asleep)
    @rule()
    def unplug(self) -> None:
        running = self.running
        self.world.unplug(self.vif)
        if running:
            assert self.vif.gone == 1
        assert self.vif.wire.queue is None
        assert self.world.read(self.vif.back_home) is None
        self.retire(self.vif)
        self.plugged = False

    @precondition(lambda self: not self.plugged)
    @rule(options=OPTIONS)
    def plug_in_again(self, options: dict[str, Any]) -> None:
        self.plug(**options)

    # --- the guest

    @precondition(lambda self: self.plugged)
    @rule(frames=st.integers(1, 40))
    def frames_are_under_way(self, frames: int) -> None:
        for size in range(60, 60 + frames):
            if self.vif.wire.queue is None:
                return
            self.vif.wire.send(plain(size))
            if self.vif.hub.client is not None:
                self.world.deliver(self.vif, plain(size * 100))

    @precondition(lambda self: not self.asleep)
    @rule()
    def the_guest_suspends_itself(self) -> None:
        self.world.host.hypervisor.shutdown(self.guest.domain.domid, "suspend")
        self.asleep = True

    @precondition(lambda self: self.asleep)
    @rule()
    def the_guest_is_resumed(self) -> None:
        self.world.host.hypervisor.resume(self.guest.domain.domid)
        self.asleep = False
        if self.plugged:
            self.vif.netfront.resume()
            self.open = True
            self.honest = self.back_honest

    @precondition(lambda self: not self.asleep)
    @rule()
    def the_guest_is_paused_for_a_while(self) -> None:
        self.world.host.hypervisor.pause(self.guest.domain.domid)
        self.world.step()
        self.world.host.hypervisor.unpause(self.guest.domain.domid)

    @rule()
    def the_guest_is_destroyed_and_made_again(self) -> None:
        running = self.plugged and self.running
        self.world.crash(self.guest)
        if running:
            assert self.vif.gone == 1
        elif self.plugged:
            self.vif.netback.stop()
        self.create()

    # --- liars

    @precondition(lambda self: self.plugged)
    @rule(state=STATES)
    def somebody_writes_the_frontends_state(self, state: str) -> None:
        self.world.write(f"{self.vif.front_home}/state", state)
        self.honest = False

    @precondition(lambda self: self.plugged)
    @rule(state=STATES)
    def somebody_writes_the_backends_state(self, state: str) -> None:
        self.world.write(f"{self.vif.back_home}/state", state)
        self.honest = self.back_honest = False

    @precondition(lambda self: self.plugged)
    @rule(key=st.sampled_from(["tx-ring-ref", "event-channel-rx", "multi-queue-num-queues"]), value=STATES)
    def somebody_writes_a_key(self, key: str, value: str) -> None:
        self.world.write(f"{self.vif.front_home}/{key}", value)
        self.honest = False

    # --- what holds

    @invariant()
    def no_exception_got_out(self) -> None:
        assert self.world.errors == []

    @invariant()
    def when_all_is_quiet_frames_pass(self) -> None:
        if len(self.world.host.hypervisor.runqueue):
            return
        self.frames_pass(self.other)
        assert self.world.check() == []
        if self.plugged and self.running and self.open and self.honest and not self.asleep:
            self.frames_pass(self.vif)

    def frames_pass(self, vif: Vif) -> None:
        front, back = vif.netfront, vif.netback
        assert vif.connected, (front.state, front.reason, back.state, back.reason)
        vif.hub.sent.clear()
        vif.wire.received.clear()
        assert vif.wire.send(plain(4100)) == 1
        self.world.deliver(vif, plain(4200))
        self.world.step()
        assert vif.hub.sent == [(0, plain(4100))]
        assert vif.wire.received == [(0, plain(4200))]

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.__exit__(None, None, None)


TestHandshake = Handshake.TestCase
TestHandshake.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
