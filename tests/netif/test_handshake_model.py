"""The xenbus handshake under everything that may happen to it, in any order and half done.

The model is one sentence: when all is quiet, both drivers run, both want to be open and nobody has lied about a state
since the frontend was last opened (about a waiting backend's: since that began), then both are Connected and frames
pass. And at the end nothing is left.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xnet.abi.xen.xenbus import XenbusState
from xnet.testing import Vif, World
from xnet.testing.frames import plain

pytestmark = [pytest.mark.integration, pytest.mark.slow]

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
        self.guest = self.world.guest("a")
        self.plug()

    def plug(self) -> None:
        self.vif = self.world.vif(self.guest)
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

    @precondition(lambda self: self.plugged and self.open)
    @rule()
    def front_closes(self) -> None:
        self.vif.netfront.close()
        self.open = False

    @precondition(lambda self: self.plugged)
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

    @precondition(lambda self: self.plugged)
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
    @rule()
    def plug_in_again(self) -> None:
        self.plug()

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
        if self.plugged and self.running and self.open and self.honest:
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
