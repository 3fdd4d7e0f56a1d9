"""The xenbus handshake's common part: states in the store, and the way from one to another.

Each end of a device writes its own ``state`` and watches the other's. A backend asked to reach a state goes there step
by step, so that the other end sees every state that means something (what Linux's netback does):

::

    Initialising ──► InitWait ──► Connected
         │             ▲  │           │
         │             │  └──────┐    │
         ▼             │         ▼    ▼
       Closed ─────────┘◄─────► Closing

The steps are `TRANSITIONS`. Source: Linux drivers/net/xen-netback/xenbus.c and drivers/xen/xenbus/xenbus_client.c.
"""

from __future__ import annotations

from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import StoreError, XnetError
from xnet.xenstore.client import Conversation, in_transaction
from xnet.xenstore.ops import Read, Write

Initialising, InitWait = XenbusState.Initialising, XenbusState.InitWait
Connected, Closing, Closed = XenbusState.Connected, XenbusState.Closing, XenbusState.Closed

TRANSITIONS: dict[tuple[XenbusState, XenbusState], XenbusState] = {
    (Initialising, InitWait): InitWait,
    (Initialising, Connected): InitWait,
    (Initialising, Closing): InitWait,
    (Initialising, Closed): Closed,
    (InitWait, Connected): Connected,
    (InitWait, Closing): Closing,
    (InitWait, Closed): Closing,
    (Connected, InitWait): Closing,
    (Connected, Closing): Closing,
    (Connected, Closed): Closing,
    (Closing, InitWait): Closed,
    (Closing, Connected): Closed,
    (Closing, Closed): Closed,
    (Closed, InitWait): InitWait,
    (Closed, Connected): InitWait,
    (Closed, Closing): Closing,
}
"""(where a backend is, where it shall be): the next state on the shortest way there."""


class NoTransition(XnetError):
    """A backend cannot go from `current` to `wanted`."""

    def __init__(self, current: XenbusState, wanted: XenbusState) -> None:
        super().__init__(f"a backend cannot go from {current.name} to {wanted.name}")
        self.current = current
        self.wanted = wanted


def path_to(current: XenbusState, wanted: XenbusState) -> list[XenbusState]:
    """The states to go through, `wanted` the last; empty when there. NoTransition for one no backend has."""
    states = []
    at = current
    while at is not wanted:
        step = TRANSITIONS.get((at, wanted))
        if step is None:
            raise NoTransition(current, wanted)
        states.append(step)
        at = step
    return states


def parse_state(text: str | None) -> XenbusState | None:
    """A ``state`` node's value: a missing one is Unknown, one that is no state at all is None."""
    if text is None:
        return XenbusState.Unknown
    if not (text.isascii() and text.isdecimal()) or int(text) > XenbusState.Reconfigured:
        return None
    return XenbusState(int(text))


def read_state(home: str) -> Conversation[XenbusState | None]:
    """The state of the device end whose directory is `home`."""
    return parse_state((yield from _state_text(home)))


def _state_text(home: str) -> Conversation[str | None]:
    """The ``state`` node; None when it is gone, also with so much above it that we may not even look any more."""
    try:
        text: str | None = yield Read(f"{home}/state")
    except StoreError as error:
        if error.code != "EACCES":
            raise
        return None
    return text


def switch_state(home: str, state: XenbusState) -> Conversation[bool]:
    """Write our state, but only if the node is still there: a removed device must not come back to life."""

    def body() -> Conversation[bool]:
        if (yield from _state_text(home)) is None:
            return False
        yield Write(f"{home}/state", state.value)
        return True

    return (yield from in_transaction(body))


def dev_error(nodename: str, errno: int, text: str) -> Conversation[None]:
    """Leave a message for people in our own domain's ``error/``. `nodename`: ``device/vif/0``, ``backend/vif/1/0``."""
    yield Write(f"error/{nodename}/error", f"{errno} {text}")


def dev_fatal(nodename: str, errno: int, text: str, state: XenbusState = Closing) -> Conversation[None]:
    """Say what is wrong and start closing: the device is of no use any more. Some drivers write another state."""
    yield from dev_error(nodename, errno, text)
    yield from switch_state(nodename, state)
