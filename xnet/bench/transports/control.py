"""A lab's own door, from outside: its engine is asked over its control socket, as the verbs do.

Siblings never import each other, so this is the protocol once more, as far as a bench needs it: a line of JSON each
way, and the four descriptors of a guest's namespaces, which travel with the answer to ``fds``.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from xnet.errors import HostError
from xnet.host.netns import NamespaceFds

RUN = "/run/xnet"
KINDS = ("net", "mnt", "pid", "uts")
TIMEOUT_S = 20.0


class Control:
    """A connection to the engine of a lab; a context manager. HostError when it does not answer, or refuses."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        path = Path(os.environ.get("XNET_RUN") or RUN) / lab / "control.sock"
        try:
            self.socket.connect(os.fspath(path))
        except OSError as error:
            self.socket.close()
            raise HostError(f"{path}: {error.strerror}", errno=error.errno or 0) from None

    def __enter__(self) -> Control:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def ask(self, verb: str, **arguments: object) -> Any:
        """The result of a verb."""
        return self._exchange(verb, arguments)[0]

    def namespaces(self, domain: str) -> NamespaceFds:
        """Where a domain lives; the caller closes it."""
        names, fds = self._exchange("fds", {"domain": domain})
        return NamespaceFds(**dict(zip(names, fds, strict=True)))

    def _exchange(self, verb: str, arguments: dict[str, object]) -> tuple[Any, list[int]]:
        line, fds = b"", []
        try:
            self.socket.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            while not line.endswith(b"\n"):
                data, more, _, _ = socket.recv_fds(self.socket, 1 << 18, len(KINDS))
                fds += more
                if not data:
                    raise ConnectionResetError("hung up")
                line += data
        except OSError as error:
            raise HostError(f"bench: lab {self.lab}: {verb}: {error.strerror or error}") from None
        answer = json.loads(line)
        if "error" in answer:
            raise HostError(f"bench: lab {self.lab}: {verb}: {answer['error']}")
        return answer["result"], fds
