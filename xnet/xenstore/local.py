"""A client and the store in one process: requests are answered before the call returns, except from inside a wake."""

from __future__ import annotations

from xnet.xenstore.client import Session
from xnet.xenstore.server import Server


def local_session(server: Server, domid: int = 0, *, privileged: bool = True) -> Session:
    """A session of `domid` with no transport between it and the store."""
    session = Session(lambda data: connection.receive(data))
    connection = server.connect(domid, privileged=privileged, wake=lambda: session.receive(connection.take()))
    return session
