"""The client's side, sans IO: conversations with the store as plain generators.

::

    def connect() -> Conversation[str]:
        backend = yield Read("device/vif/0/backend")      # None when there is no such node
        yield Write("device/vif/0/state", 4)
        return backend

    session.run(connect(), done)

Any number of conversations run at once; each has at most one request on its way, replies find them by req_id. Other
errors than a Read's or Ls's ENOENT are raised inside the generator as StoreError. Transactions: ``result = yield from
in_transaction(body)``, where `body` is called again, from the start, as long as the store says EAGAIN.

`send` may bring the reply before it returns, or later: generators and watch callbacks are only ever run from one loop,
one at a time, never from inside one another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from xnet.abi.xen import xs_wire as xs
from xnet.errors import StoreError
from xnet.xenstore.ops import (
    Ls,
    LsPart,
    Op,
    TransactionEnd,
    TransactionStart,
    Unwatch,
    Watch,
    Within,
    text_of,
)
from xnet.xenstore.wire import Message, Parser, WireError, encode

T = TypeVar("T")
Request = Op | Within
Conversation = Generator[Request, Any, T]
Done = Callable[[Any], None]
"""Called once with a conversation's result, or with the exception that ended it."""
WatchCallback = Callable[[str, str], None]
"""Called with the changed path (relative if the watch's was) and the token."""


class _Talk:
    """A conversation under way."""

    __slots__ = ("done", "steps")

    def __init__(self, steps: Conversation[Any], done: Done | None) -> None:
        self.steps = steps
        self.done = done


class Session:
    """Conversations over one connection. `send` takes a request's bytes; the transport calls `receive`."""

    __slots__ = ("_active", "_parser", "_ready", "_req_id", "_send", "_token", "_waiting", "_watches")

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._parser = Parser()
        self._waiting: dict[int, tuple[_Talk, Op]] = {}
        self._watches: dict[str, tuple[str, WatchCallback]] = {}
        self._ready: deque[Callable[[], None]] = deque()
        self._active = False
        self._req_id = 0
        self._token = 0

    def run(self, conversation: Conversation[Any], done: Done | None = None) -> None:
        """Start a conversation. Without `done`, what ends it badly is raised to whoever called us then."""
        self._later(partial(self._step, _Talk(conversation, done), None, None))

    def watch(self, path: str, callback: WatchCallback, *, depth: int | None = None, done: Done | None = None) -> str:
        """Call back at once, and whenever `path` or what is below it changes. The token is for `unwatch`."""
        self._token += 1
        token = str(self._token)
        self._watches[token] = (path, callback)
        self.run(self._register(Watch(path, token, depth)), done)
        return token

    def unwatch(self, token: str) -> None:
        """No more calls for this watch, from now on. Nothing happens for one that is unknown or failed."""
        path, _ = self._watches.pop(token, (None, None))
        if path is not None:
            self.run(_ask(Unwatch(path, token)), _ignore)

    def receive(self, data: bytes | memoryview) -> None:
        """Replies and watch events. WireError when that is not what they are."""
        while messages := self._parser.feed(data):
            data = b""
            for message in messages:
                self._later(partial(self._got, message), go=False)
        self._go()

    def close(self) -> None:
        """The connection is gone: end every conversation where it stands, forget every watch."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._watches.clear()
        self._ready.clear()
        for talk, _ in waiting:
            talk.steps.close()

    def outstanding(self) -> int:
        """Requests without a reply yet."""
        return len(self._waiting)

    # --- the loop

    def _later(self, call: Callable[[], None], *, go: bool = True) -> None:
        self._ready.append(call)
        if go:
            self._go()

    def _go(self) -> None:
        if self._active:
            return
        self._active = True
        failure: Exception | None = None
        try:
            while self._ready:
                try:
                    self._ready.popleft()()
                except Exception as error:  # the other conversations go on; the first to fail is reported
                    failure = failure or error
        finally:
            self._active = False
        if failure is not None:
            raise failure

    def _step(self, talk: _Talk, value: Any, error: StoreError | None) -> None:
        """Run a conversation up to its next request."""
        try:
            request = talk.steps.send(value) if error is None else talk.steps.throw(error)
        except StopIteration as end:
            if talk.done is not None:
                talk.done(end.value)
        except Exception as failure:
            if talk.done is None:
                raise
            talk.done(failure)
        else:
            self._post(talk, request)

    def _post(self, talk: _Talk, request: Request) -> None:
        tx_id, op = (request.tx_id, request.op) if isinstance(request, Within) else (0, request)
        payload = op.payload()
        if len(payload) > xs.XENSTORE_PAYLOAD_MAX:  # the store would cut the connection
            self._later(partial(self._step, talk, None, StoreError("E2BIG", op.path)))
            return
        req_id = (self._req_id + 1) & 0xFFFFFFFF
        while req_id in self._waiting:
            req_id = (req_id + 1) & 0xFFFFFFFF
        self._req_id = req_id
        self._waiting[req_id] = (talk, op)
        self._send(encode(op.kind, req_id, tx_id, payload))

    def _got(self, message: Message) -> None:
        if message.type == xs.XS_WATCH_EVENT:
            fields = text_of(message.payload).split("\0")
            if len(fields) < 3:
                raise WireError("a watch event without path and token")
            path, token = fields[:2]
            _, callback = self._watches.get(token, (None, None))
            if callback is not None:
                callback(path, token)
            return
        talk, op = self._waiting.pop(message.req_id, (None, None))
        if talk is None or op is None:
            return
        if message.type != xs.XS_ERROR:
            self._step(talk, op.decode(message.payload), None)
            return
        code = text_of(message.payload[:-1])
        if code == "ENOENT" and op.absent:
            self._step(talk, None, None)
        else:
            self._step(talk, None, StoreError(code, op.path))

    def _register(self, op: Watch) -> Conversation[None]:
        try:
            yield op
        except StoreError:
            self._watches.pop(op.token, None)
            raise


def _ask(op: Op) -> Conversation[Any]:
    return (yield op)


def _ignore(_: Any) -> None:
    """An unwatch needs no answer."""


def in_transaction(body: Callable[[], Conversation[T]]) -> Conversation[T]:
    """Run `body` inside a transaction, again and again until it commits. An error from `body` aborts it."""
    while True:
        tx_id: int = yield TransactionStart()
        try:
            result = yield from _within(tx_id, body())
        except Exception:
            yield Within(tx_id, TransactionEnd(commit=False))
            raise
        try:
            yield Within(tx_id, TransactionEnd(commit=True))
        except StoreError as error:
            if error.code != "EAGAIN":
                raise
        else:
            return result


def _within(tx_id: int, steps: Conversation[T]) -> Conversation[T]:
    """The same conversation, its requests made part of a transaction."""
    value: Any = None
    error: StoreError | None = None
    while True:
        try:
            request = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        op = request.op if isinstance(request, Within) else request
        try:
            value, error = (yield Within(tx_id, op)), None
        except StoreError as failure:
            value, error = None, failure


def listing(path: str) -> Conversation[list[str] | None]:
    """All names below `path`, however many; None when there is no such node."""
    try:
        names: list[str] | None = yield Ls(path)
        return names
    except StoreError as error:
        if error.code != "E2BIG":
            raise
    while True:
        found: list[str] = []
        first: str | None = None
        while True:
            answer = yield LsPart(path, sum(len(name) + 1 for name in found))
            if answer is None:
                return None
            generation, part, last = answer
            if first not in (None, generation):
                break  # it changed in between: start over
            first = generation
            found += part
            if last:
                return found
