"""One client's connection to the store: requests in, replies and watch events out.

A request is answered completely before the next is looked at, and its reply stands before the watch events it causes.
Events wait in the same queue as replies; one that is waiting already is not queued twice. Nothing is called back from
inside a request: who has output is woken by the server when the request is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from xnet.abi.xen import xs_wire as xs
from xnet.errors import StoreError
from xnet.xenstore import tree
from xnet.xenstore.perms import Caller, parse_perms
from xnet.xenstore.quota import Quota
from xnet.xenstore.transaction import Transaction
from xnet.xenstore.tree import Change, View
from xnet.xenstore.watch import Watch
from xnet.xenstore.wire import Message, Parser, WireError, encode, strings

if TYPE_CHECKING:
    from xnet.xenstore.server import Server

OK = b"OK\0"
MAX_TOKEN = xs.XENSTORE_PAYLOAD_MAX - xs.XENSTORE_ABS_PATH_MAX - 2
"""Bytes of a watch's token, so that every event of the watch fits into a payload."""


class Connection:
    """What a transport holds: `receive` bytes, `take` bytes. Made by `Server.connect`."""

    __slots__ = (
        *("_events", "_event_limit", "_home", "_out", "_parser", "_rest", "_server", "_transactions"),
        *("_next_tx", "_wake", "_watches", "awake", "caller", "closed", "violated"),
    )

    def __init__(self, server: Server, caller: Caller, wake: Callable[[], None]) -> None:
        self.caller = caller
        self.closed = False
        self.violated = False
        """Closed because the client broke the protocol."""
        self.awake = False
        """Its transport was told of output and has not been called yet. The server's."""
        self._server = server
        self._wake = wake
        self._home = f"/local/domain/{caller.domid}"
        self._event_limit = (caller.quota or Quota()).events
        self._parser = Parser()
        self._out: deque[bytes] = deque()
        self._rest = b""
        self._events: set[bytes] = set()
        self._transactions: dict[int, Transaction] = {}
        self._next_tx = 1
        self._watches: dict[tuple[str, bytes], Watch] = {}

    # --- the transport's side

    def receive(self, data: bytes | memoryview) -> None:
        """Answer the requests that `data` completes. A violation of the protocol closes the connection."""
        with self._server.answering():
            try:
                while not self.closed and (messages := self._parser.feed(data)):
                    data = b""
                    for message in messages:
                        self._answer(message)
            except WireError:
                self.violated = True
                self.close()

    def take(self, limit: int | None = None) -> bytes:
        """Up to `limit` bytes of output (all there is by default), which are then the caller's to deliver."""
        out, parts, size = self._out, [self._rest], len(self._rest)
        while out and (limit is None or size < limit):
            message = out.popleft()
            self._events.discard(message)
            parts.append(message)
            size += len(message)
        data = b"".join(parts)
        cut = size if limit is None else limit
        self._rest = data[cut:]
        return data[:cut]

    def waiting(self) -> int:
        """Replies and events not wholly taken yet."""
        return len(self._out) + bool(self._rest)

    def congested(self) -> bool:
        """So much waits that the transport should not bring more requests (quota `outstanding`)."""
        quota = self.caller.quota
        return quota is not None and self.waiting() >= quota.outstanding

    def wake(self) -> None:
        """Call the transport: there is output. The server's to call."""
        self.awake = False
        if not self.closed:
            self._wake()

    def close(self) -> None:
        """Drop watches, transactions and output."""
        if self.closed:
            return
        self.closed = True
        self._reset()
        self._out.clear()
        self._events.clear()
        self._rest = b""
        self._server.forget(self)

    def holds(self) -> tuple[int, int]:
        """Its open watches and transactions."""
        return len(self._watches), len(self._transactions)

    # --- output

    def event(self, watch: Watch, path: str) -> None:
        """Queue one watch event, unless the same one waits. When too many wait, the watch's own path says it all."""
        message = _event(watch, path)
        if message not in self._events and len(self._events) >= self._event_limit:
            message = _event(watch, watch.path)
        if message not in self._events:
            self._events.add(message)
            self._queue(message)

    def _queue(self, message: bytes) -> None:
        if self.closed:
            return
        self._out.append(message)
        if not self.awake:
            self.awake = True
            self._server.has_output(self)

    def _reply(self, request: Message, payload: bytes) -> None:
        self._queue(encode(request.type, request.req_id, request.tx_id, payload))

    def _answer(self, message: Message) -> None:
        self._server.requests += 1
        try:
            handler = HANDLERS.get(message.type)
            if handler is None:
                raise StoreError("ENOSYS")
            if message.type in PRIVILEGED and not self.caller.privileged:
                raise StoreError("EACCES")
            handler(self, message)
        except StoreError as error:
            self._queue(encode(xs.XS_ERROR, message.req_id, message.tx_id, error.code.encode() + b"\0"))

    # --- reading and changing the tree

    def _view(self, message: Message) -> View:
        """The tree, or the request's transaction. StoreError ENOENT."""
        if not message.tx_id:
            return self._server.tree
        transaction = self._transactions.get(message.tx_id)
        if transaction is None:
            raise StoreError("ENOENT")
        return transaction

    def _path(self, message: Message, *, special: bool = False) -> str:
        return tree.canonical(_only(message), self._home, special=special)

    def _changed(self, message: Message, view: View, changes: list[Change]) -> None:
        """Acknowledge, then tell the watchers: now, or when the transaction is committed."""
        if isinstance(view, Transaction):
            view.note(changes)
            self._reply(message, OK)
        else:
            self._reply(message, OK)
            self._server.fire(changes)

    def _read(self, message: Message) -> None:
        self._reply(message, tree.read(self._view(message), self.caller, self._path(message)))

    def _directory(self, message: Message) -> None:
        node = tree.directory(self._view(message), self.caller, self._path(message))
        payload = _terminated(node.children)
        if len(payload) > xs.XENSTORE_PAYLOAD_MAX:
            raise StoreError("E2BIG")
        self._reply(message, payload)

    def _directory_part(self, message: Message) -> None:
        """As many whole names from a byte offset on as fit; an empty name after the last says that it is the last."""
        raw, offset = _strings(message, 2, 2)
        path = tree.canonical(raw, self._home)
        node = tree.directory(self._view(message), self.caller, path)
        generation = b"%d\0" % node.generation
        names = _terminated(node.children)[_number(offset) :]
        room = xs.XENSTORE_PAYLOAD_MAX - len(generation) - 1
        last = len(names) <= room
        part = names + b"\0" if last else names[: names.rfind(b"\0", 0, room) + 1]
        self._reply(message, generation + part)

    def _write(self, message: Message) -> None:
        raw, end, value = message.payload.partition(b"\0")
        if not end:
            raise StoreError("EINVAL")
        view = self._view(message)
        self._changed(message, view, tree.write(view, self.caller, tree.canonical(raw, self._home), value))

    def _mkdir(self, message: Message) -> None:
        view = self._view(message)
        self._changed(message, view, tree.mkdir(view, self.caller, self._path(message)))

    def _rm(self, message: Message) -> None:
        view = self._view(message)
        self._changed(message, view, tree.rm(view, self.caller, self._path(message)))

    def _get_perms(self, message: Message) -> None:
        perms = tree.get_perms(self._view(message), self.caller, self._path(message, special=True))
        self._reply(message, _terminated(map(str, perms)))

    def _set_perms(self, message: Message) -> None:
        raw, *texts = _strings(message, 2)
        path = tree.canonical(raw, self._home, special=True)
        perms = parse_perms([text.decode("ascii", "replace") for text in texts])
        view = self._view(message)
        self._changed(message, view, tree.set_perms(view, self.caller, path, perms))

    # --- watches and transactions

    def _watch(self, message: Message) -> None:
        raw, token, *depth = _strings(message, 2, 3)
        path = tree.canonical(raw, self._home, special=True)
        if len(token) > MAX_TOKEN:
            raise StoreError("EINVAL")
        if (path, token) in self._watches:
            raise StoreError("EEXIST")
        quota = self.caller.quota
        if quota is not None and len(self._watches) >= quota.watches:
            raise StoreError("E2BIG")
        prefix = 0 if raw[:1] in (b"/", b"@") else len(self._home) + 1
        watch = Watch(self, path, token, prefix, _number(depth[0]) if depth and depth[0] else None)
        self._watches[path, token] = watch
        self._server.watches.add(watch)
        self._reply(message, OK)
        self.event(watch, path)  # at once, so that a client starts by looking

    def _unwatch(self, message: Message) -> None:
        raw, token, *_ = _strings(message, 2, 3)
        watch = self._watches.pop((tree.canonical(raw, self._home, special=True), token), None)
        if watch is None:
            raise StoreError("ENOENT")
        self._server.watches.remove(watch)
        self._reply(message, OK)

    def _transaction_start(self, message: Message) -> None:
        if message.tx_id:
            self._view(message)
            raise StoreError("EBUSY")
        quota = self.caller.quota
        if quota is not None and len(self._transactions) >= quota.transactions:
            raise StoreError("ENOSPC")
        tx_id = self._next_tx
        while tx_id in self._transactions or not tx_id:
            tx_id = (tx_id + 1) & 0xFFFFFFFF
        self._next_tx = (tx_id + 1) & 0xFFFFFFFF
        self._transactions[tx_id] = Transaction(self._server.tree, self.caller)
        self._reply(message, b"%d\0" % tx_id)

    def _transaction_end(self, message: Message) -> None:
        verdict = _only(message)
        if verdict not in (b"T", b"F"):
            raise StoreError("EINVAL")
        transaction = self._transactions.pop(message.tx_id, None)
        if transaction is None:
            raise StoreError("ENOENT")
        changes = transaction.commit() if verdict == b"T" else []
        self._reply(message, OK)
        self._server.fire(changes)

    def _reset(self) -> None:
        for watch in self._watches.values():
            self._server.watches.remove(watch)
        self._watches.clear()
        self._transactions.clear()

    def _reset_watches(self, message: Message) -> None:
        self._reset()
        self._reply(message, OK)

    # --- domains

    def _introduce(self, message: Message) -> None:
        domid, frame, port = map(_number, _strings(message, 3, 4)[:3])
        self._server.introduce(domid, frame, port)
        self._reply(message, OK)

    def _release(self, message: Message) -> None:
        self._server.release(_number(_only(message)))
        self._reply(message, OK)

    def _is_domain_introduced(self, message: Message) -> None:
        known = _number(_only(message)) in self._server.introduced
        self._reply(message, b"T\0" if known else b"F\0")

    def _get_domain_path(self, message: Message) -> None:
        self._reply(message, b"/local/domain/%d\0" % _number(_only(message)))

    def _resume(self, message: Message) -> None:
        if _number(_only(message)) not in self._server.introduced:
            raise StoreError("ENOENT")
        self._reply(message, OK)

    def _set_target(self, message: Message) -> None:
        domid, target = map(_number, _strings(message, 2, 2))
        self._server.set_target(domid, target)
        self._reply(message, OK)

    def _control(self, message: Message) -> None:
        raise StoreError("EINVAL")  # as xenstored answers a command it does not have; we have none


def _event(watch: Watch, path: str) -> bytes:
    payload = path[watch.prefix :].encode() + b"\0" + watch.token + b"\0"
    return encode(xs.XS_WATCH_EVENT, 0, 0, payload)


def _terminated(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\0" for text in texts).encode()


def _only(message: Message) -> bytes:
    """The payload's one string. StoreError EINVAL."""
    if message.payload.find(b"\0") != len(message.payload) - 1:
        raise StoreError("EINVAL")
    return message.payload[:-1]


def _strings(message: Message, least: int, most: int = 0xFFFF) -> list[bytes]:
    """The payload's strings. StoreError EINVAL for the wrong number of them."""
    fields = strings(message.payload)
    if not least <= len(fields) <= most:
        raise StoreError("EINVAL")
    return fields


def _number(text: bytes) -> int:
    """A decimal u32. StoreError EINVAL."""
    if not text.isdigit() or len(text) > 10 or int(text) > 0xFFFFFFFF:
        raise StoreError("EINVAL")
    return int(text)


HANDLERS: dict[int, Callable[[Connection, Message], None]] = {
    xs.XS_CONTROL: Connection._control,
    xs.XS_DIRECTORY: Connection._directory,
    xs.XS_READ: Connection._read,
    xs.XS_GET_PERMS: Connection._get_perms,
    xs.XS_WATCH: Connection._watch,
    xs.XS_UNWATCH: Connection._unwatch,
    xs.XS_TRANSACTION_START: Connection._transaction_start,
    xs.XS_TRANSACTION_END: Connection._transaction_end,
    xs.XS_INTRODUCE: Connection._introduce,
    xs.XS_RELEASE: Connection._release,
    xs.XS_GET_DOMAIN_PATH: Connection._get_domain_path,
    xs.XS_WRITE: Connection._write,
    xs.XS_MKDIR: Connection._mkdir,
    xs.XS_RM: Connection._rm,
    xs.XS_SET_PERMS: Connection._set_perms,
    xs.XS_IS_DOMAIN_INTRODUCED: Connection._is_domain_introduced,
    xs.XS_RESUME: Connection._resume,
    xs.XS_SET_TARGET: Connection._set_target,
    xs.XS_RESET_WATCHES: Connection._reset_watches,
    xs.XS_DIRECTORY_PART: Connection._directory_part,
}
PRIVILEGED = frozenset(
    (
        *(xs.XS_CONTROL, xs.XS_INTRODUCE, xs.XS_RELEASE),
        *(xs.XS_IS_DOMAIN_INTRODUCED, xs.XS_RESUME, xs.XS_SET_TARGET),
    )
)
