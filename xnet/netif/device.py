"""What a netfront and a netback have in common: a node of xenstore that is theirs, one conversation at a time about
it, ports with guarded handlers, and people who want to know.

Watch events only say "look again" (they coalesce, and what they told may be over). So a device keeps one conversation
that looks at the other end's state and does what it calls for, runs it again when an event came meanwhile, and never
two at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import XnetError
from xnet.hv.api import Xen
from xnet.xenstore import Conversation, Session
from xnet.xenstore.xenbus import dev_fatal, switch_state

EINVAL = 22

Observer = Callable[["Device"], None]
"""Called whenever a device's state or reason changes."""


class Device(ABC):
    """One end of a vif. `nodename` is its directory, relative to its own domain: ``backend/vif/1/0``."""

    def __init__(self, xen: Xen, session: Session, nodename: str, name: str, observe: Observer | None = None) -> None:
        self.xen = xen
        self.session = session
        self.nodename = nodename
        self.name = name
        """For people: ``vif1.0``."""
        self.state = XenbusState.Initialising
        self.reason = ""
        """Why it does not work, in words; empty while it does."""
        self.peer = 0
        """Domain id of the other end."""
        self.otherend = ""
        """Absolute path of the other end's directory."""
        self.ports: list[int] = []
        self.tokens: list[str] = []
        self.observe = observe
        self.busy = False
        self.again = False
        self.over = False
        """Stopped: it looks at nothing any more."""
        self.failed = XenbusState.Closing
        """The state of a device that cannot go on."""

    # --- one conversation at a time

    def look(self, *_: str) -> None:
        """Something changed (a watch fired): look, now or when the present conversation is over."""
        if self.over:
            return
        if self.busy:
            self.again = True
            return
        self.busy = True
        self.session.run(self.reconcile(), self.looked)

    def looked(self, result: Any) -> None:
        """A conversation is over, well or not."""
        self.busy = False
        if isinstance(result, Exception):
            if not isinstance(result, XnetError):
                raise result
            if not self.over:
                self.fail(EINVAL, str(result))
        if self.again:
            self.again = False
            self.look()

    @abstractmethod
    def reconcile(self) -> Conversation[None]:
        """Look at the other end and follow it."""

    def watch(self, path: str) -> None:
        """Look again whenever `path` changes."""
        self.tokens.append(self.session.watch(path, self.look, done=self.watched))

    def watched(self, result: Any) -> None:
        """A watch was refused: nothing will wake this device."""
        if isinstance(result, Exception):
            self.note(f"watch refused: {result}")

    def switch(self, state: XenbusState) -> Conversation[None]:
        """Be in `state` and write it, unless our directory is gone."""
        self.state = state
        yield from switch_state(self.nodename, state)
        self.changed()

    def changed(self) -> None:
        """Tell who wants to know."""
        if self.observe is not None:
            self.observe(self)

    # --- what goes wrong

    def note(self, reason: str) -> None:
        """Say on the console and to people why this vif does not work."""
        self.reason = reason
        self.xen.console(f"{self.name}: {reason}")
        self.changed()

    def fail(self, errno: int, reason: str) -> None:
        """xenbus_dev_fatal: of no use any more. The reason goes to the error node, the state to Closing (`failed`)."""
        self.disconnect()
        self.state = self.failed
        self.note(reason)
        self.session.run(dev_fatal(self.nodename, errno, reason, self.failed), self.watched)

    @abstractmethod
    def disconnect(self) -> None:
        """Give up rings, ports and pages. Any number of times."""

    @abstractmethod
    def rogue(self, reason: str) -> None:
        """The other end broke the rules: stop touching the rings; only a reconnect helps (Linux's `disabled`)."""

    def release_ports(self) -> None:
        """Close every port of this connection."""
        for port in self.ports:
            self.xen.set_handler(port, None)
            self.xen.close_port(port)
        self.ports.clear()

    def unwatch(self) -> None:
        """No more looks, for good."""
        self.over = True
        for token in self.tokens:
            self.session.unwatch(token)
        self.tokens.clear()
