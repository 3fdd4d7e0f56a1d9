"""The store: one tree, its watches, the domains it knows, and a connection for each client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xnet.errors import StoreError
from xnet.xenstore.connection import Connection
from xnet.xenstore.perms import Caller
from xnet.xenstore.quota import Quota
from xnet.xenstore.tree import INTRODUCE_DOMAIN, RELEASE_DOMAIN, Change, Tree, forget_domain
from xnet.xenstore.watch import Watches

Introduced = Callable[[int, int, int], None]
"""Called with domid, ring page and event channel when a client introduces a domain over the wire."""


@dataclass(slots=True, frozen=True)
class StoreStatistics:
    """What a store holds, and how many requests it has answered."""

    nodes: int
    watches: int
    transactions: int
    connections: int
    requests: int


class Server:
    """The store. `on_introduce` connects a domain that a toolstack introduced over the wire."""

    def __init__(self, quota: Quota | None = None, *, on_introduce: Introduced | None = None) -> None:
        self.tree = Tree()
        self.watches = Watches()
        self.introduced = {0}
        self._woken: deque[Connection] = deque()
        self.requests = 0
        self._quota = quota or Quota()
        self._on_introduce = on_introduce
        self._connections: list[Connection] = []
        self._targets: dict[int, int] = {}
        self._answering = False

    def connect(self, domid: int, *, privileged: bool = False, wake: Callable[[], None] = lambda: None) -> Connection:
        """A connection for `domid`; `wake` is called, outside of any request, when there is output to take."""
        quota = None if privileged else self._quota
        connection = Connection(self, Caller(domid, quota, self._targets.get(domid, -1)), wake)
        self._connections.append(connection)
        return connection

    def forget(self, connection: Connection) -> None:
        """A connection was closed."""
        self._connections.remove(connection)

    def introduce(self, domid: int, frame: int = 0, port: int = 0) -> None:
        """A domain exists now: tell who watches @introduceDomain. Again is fine. StoreError EINVAL for dom0."""
        if not domid:
            raise StoreError("EINVAL")
        if domid in self.introduced:
            return
        if self._on_introduce is not None:
            self._on_introduce(domid, frame, port)
        self.introduced.add(domid)
        self.announce(INTRODUCE_DOMAIN)

    def release(self, domid: int) -> None:
        """A domain is gone: close its connections, remove what it owned, tell who watches @releaseDomain.

        StoreError EINVAL for dom0, ENOENT when it was not introduced.
        """
        if not domid:
            raise StoreError("EINVAL")
        if domid not in self.introduced:
            raise StoreError("ENOENT")
        self.introduced.discard(domid)
        for connection in [other for other in self._connections if other.caller.domid == domid]:
            connection.close()
        for stubdom in [stub for stub, target in self._targets.items() if domid in (stub, target)]:
            self._retarget(stubdom, -1)
        with self.answering():
            self.fire(forget_domain(self.tree, domid))
            self.announce(RELEASE_DOMAIN)

    def announce(self, special: str) -> None:
        """Tell who watches a special node and may read it. @releaseDomain also says that some domain has shut down."""
        node = self.tree.nodes[special]
        with self.answering():
            self.fire([Change(special, True, (node.perms,))])

    def set_target(self, domid: int, target: int) -> None:
        """`domid` serves `target` and may do what it may. StoreError ENOENT for one that was not introduced."""
        if domid not in self.introduced or target not in self.introduced:
            raise StoreError("ENOENT")
        self._retarget(domid, target)

    def _retarget(self, domid: int, target: int) -> None:
        self._targets[domid] = target
        for connection in self._connections:
            caller = connection.caller
            if caller.domid == domid:
                connection.caller = Caller(domid, caller.quota, target)
        if target < 0:
            del self._targets[domid]

    def has_output(self, connection: Connection) -> None:
        """A connection's to call: wake its transport when the request is done."""
        self._woken.append(connection)

    def fire(self, changes: list[Change]) -> None:
        """Queue the watch events of `changes`."""
        self.watches.fire(self.tree, changes)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Hold wake-ups back until what is done inside is done.

        A woken transport may bring new requests at once; those are answered inside its `wake`, and the outermost
        caller goes on waking until nobody has output.
        """
        if self._answering:
            yield
            return
        self._answering = True
        try:
            yield
        finally:
            try:
                self._wake_all()
            finally:
                self._answering = False

    def _wake_all(self) -> None:
        failure: Exception | None = None
        while self._woken:
            try:
                self._woken.popleft().wake()
            except Exception as error:  # the other clients are woken all the same; the first to fail is reported
                failure = failure or error
        if failure is not None:
            raise failure

    def statistics(self) -> StoreStatistics:
        held = [connection.holds() for connection in self._connections]
        return StoreStatistics(
            nodes=len(self.tree.nodes),
            watches=sum(watches for watches, _ in held),
            transactions=sum(transactions for _, transactions in held),
            connections=len(held),
            requests=self.requests,
        )
