"""A domain and the store over the domain's xenstore page (layout: `xnet.abi.xen.xs_wire`), both ends.

Whoever moved bytes or made room calls `notify`, which sends on the event channel; whoever is notified has `upcall`
called. What does not fit into a ring waits at home: the store's output in the connection (and then requests stay in
the ring), a domain's requests in the client.
"""

from __future__ import annotations

from collections.abc import Callable

from xnet.abi.xen import xs_wire as xs
from xnet.ring.shared import RingError
from xnet.ring.stream import XENSTORE, ByteStream
from xnet.xenstore.client import Session
from xnet.xenstore.server import Server


class RingConnection:
    """The store's end of one domain's page."""

    def __init__(self, server: Server, domid: int, page: memoryview, notify: Callable[[], None]) -> None:
        self._page = page[:]
        self._stream = ByteStream.back(page, XENSTORE)
        self._notify = notify
        self._connection = server.connect(domid, wake=self._serve)
        self._serving = False
        features = xs.XENSTORE_SERVER_FEATURE_ERROR | xs.XENSTORE_SERVER_FEATURE_WATCHDEPTH
        self._put(xs.SERVER_FEATURES, features)
        self._put(xs.ERROR, xs.XENSTORE_ERROR_NONE)
        self._put(xs.CONNECTION, xs.XENSTORE_CONNECTED)

    def upcall(self) -> None:
        """The domain wrote requests, or made room for replies."""
        self._serve()

    @property
    def closed(self) -> bool:
        """Nothing is served any more: closed, or the domain broke ring or protocol (the page's error says which)."""
        return self._connection.closed

    def close(self) -> None:
        """The domain is gone: drop its watches and transactions, let go of its page. Once."""
        self._connection.close()
        self._stream.release()
        self._page.release()

    def _serve(self) -> None:
        """Move bytes both ways until neither moves, then notify once. A wake from inside our own receive waits."""
        if self._serving or self._connection.closed:
            return
        self._serving = True
        try:
            moved = False
            while not self._connection.closed and self._exchange():
                moved = True
        except RingError:
            self._connection.close()
            self._fail(xs.XENSTORE_ERROR_RINGIDX)
            return
        finally:
            self._serving = False
        if self._connection.violated:
            self._fail(xs.XENSTORE_ERROR_PROTO)
        elif moved:
            self._notify()

    def _exchange(self) -> bool:
        """Deliver output, take requests; whether anything moved. RingError."""
        sent = self._stream.write(self._connection.take(self._stream.room()))
        if self._connection.congested():
            return sent > 0
        data = self._stream.read()
        if data:
            self._connection.receive(data)
        return sent > 0 or len(data) > 0

    def _put(self, offset: int, value: int) -> None:
        self._page[offset : offset + 4] = value.to_bytes(4, "little")

    def _fail(self, error: int) -> None:
        self._put(xs.ERROR, error)
        self._notify()


class RingClient:
    """A domain's end: a `session` over its page."""

    def __init__(self, page: memoryview, notify: Callable[[], None]) -> None:
        self._stream = ByteStream.front(page, XENSTORE)
        self._notify = notify
        self._unsent = b""
        self._closed = False
        self.session = Session(self._send)

    def upcall(self) -> None:
        """The store wrote replies, or made room for requests. RingError, WireError: the store is broken."""
        if self._closed:
            return
        data = self._stream.read()
        sent = self._stream.write(self._unsent)
        self._unsent = self._unsent[sent:]
        if data or sent:
            self._notify()
        if data:
            self.session.receive(data)

    def close(self) -> None:
        """End all conversations, let go of the page. Again is fine; who asks after it is never answered."""
        if self._closed:
            return
        self._closed = True
        self.session.close()
        self._unsent = b""
        self._stream.release()

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        if self._unsent:
            self._unsent += data
            return
        sent = self._stream.write(data)
        self._unsent = data[sent:]
        if sent:
            self._notify()
