"""The store on a Unix socket, for Debian's xenstore-utils and anything else that speaks the wire protocol.

Whoever may open the socket has dom0's rights, as on a real host; the socket is for root and its group only. A client
that does not read is not read from; one that breaks the protocol loses its connection, nobody else notices.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import cast

from xnet.errors import HostError
from xnet.xenstore import Server

SOCKET_MODE = 0o660


class XenstoreSocket(AbstractContextManager["XenstoreSocket"]):
    """Serves `server` on `path` from `start` until `close`."""

    def __init__(self, server: Server, path: Path) -> None:
        self._server = server
        self._path = path
        self._listener: asyncio.Server | None = None
        self._clients: set[_Client] = set()

    async def start(self) -> None:
        """Bind and listen; a socket left by a dead process gives way. HostError when the path cannot be bound."""
        loop = asyncio.get_running_loop()
        sock = _bind(self._path)
        try:
            self._listener = await loop.create_unix_server(lambda: _Client(self._server, self._clients), sock=sock)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Stop listening, drop every client, remove the socket. Again is fine."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for client in list(self._clients):
            client.abort()
        with suppress(FileNotFoundError):
            self._path.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bind(path: Path) -> socket.socket:
    """A socket bound to `path` that nobody could connect to before its mode was set: it does not listen yet."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        sock.bind(os.fspath(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        sock.close()
        raise HostError(
            f"{path}: xenstore's socket cannot be made: {error.strerror or error}",
            errno=error.errno or 0,
            call="bind",
            device=str(path),
        ) from error
    return sock


class _Client(asyncio.Protocol):
    """One client: its connection to the store, and its transport."""

    def __init__(self, server: Server, clients: set[_Client]) -> None:
        self._connection = server.connect(0, privileged=True, wake=self._flush)
        self._clients = clients
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not derived from it
        self._clients.add(self)

    def data_received(self, data: bytes) -> None:
        self._connection.receive(data)
        if self._connection.closed:
            self.abort()

    def pause_writing(self) -> None:
        """It does not read its replies: take no more requests; its events wait, each once, in the connection."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._clients.discard(self)
        self._transport = None
        self._connection.close()

    def abort(self) -> None:
        """Cut the connection now."""
        self._connection.close()
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is not None and not self._paused:
            self._transport.write(self._connection.take())
