"""The verbs' end of control.sock. Synchronous and small: a verb asks one thing and goes."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from xnet.control.wire import NAMESPACES
from xnet.errors import XnetError


class Client:
    """A connection to a running lab's engine; a context manager. XnetError when it does not answer, or refuses."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self.lab = path.name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(os.fspath(path / "control.sock"))
        except OSError as error:
            self.socket.close()
            raise XnetError(f'lab "{self.lab}": {reason(error)}') from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(self, verb: str, **arguments: object) -> Any:
        """The result of a verb."""
        return self.exchange(verb, arguments)[0]

    def namespaces(self, domain: str) -> dict[str, int]:
        """A domain's namespace descriptors by name (`NAMESPACES`); the caller closes them."""
        _, fds = self.exchange("fds", {"domain": domain})
        if len(fds) != len(NAMESPACES):
            for fd in fds:
                os.close(fd)
            raise XnetError(f'lab "{self.lab}": {len(fds)} descriptors for "{domain}", not {len(NAMESPACES)}')
        return dict(zip(NAMESPACES, fds, strict=True))

    def exchange(self, verb: str, arguments: dict[str, object]) -> tuple[Any, list[int]]:
        """(result, descriptors) of one request."""
        line, fds = b"", []
        try:
            self.socket.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            while not line.endswith(b"\n"):
                data, more, _, _ = socket.recv_fds(self.socket, 1 << 16, len(NAMESPACES))
                for fd in more:
                    os.set_inheritable(fd, False)  # recv_fds of Python 3.11 drops its flags, so no MSG_CMSG_CLOEXEC
                fds += more
                if not data:
                    raise ConnectionResetError("hung up")
                line += data
        except OSError as error:
            raise XnetError(f'lab "{self.lab}": {reason(error)}') from None
        answer = json.loads(line)
        if "error" in answer:
            raise XnetError(answer["error"])
        return answer["result"], fds


def reason(error: OSError) -> str:
    """Why the engine cannot be talked to, in words."""
    if isinstance(error, PermissionError):
        return "permission denied: labs are root's, use sudo"
    if isinstance(error, TimeoutError):
        return 'the engine does not answer: "xnet down" ends it all the same'
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "the engine does not listen (yet): it is starting or ending"
    return f"the engine went away ({error.strerror or error})"
