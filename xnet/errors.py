"""Errors of every floor: who broke the rule decides the type.

`HypercallError` and `StoreError` are answers (Xen's own codes) to a caller that asked for something impossible. What
the other end of a ring does wrong is `ring.RingError` or `netif.BadRing`: its vif is disabled, nobody else notices.
`ConfigError` is the user's lab file. `HostError` is the machine below us. "Nothing to do" and "no room" are return
values, never errors.
"""

from __future__ import annotations


class XnetError(Exception):
    """Base of all errors xnet raises on purpose."""


class HypercallError(XnetError):
    """A hypercall refused: `status` is Xen's code by name (``EINVAL``, ``ENOSPC``, ``GNTST_bad_gntref`` ...)."""

    def __init__(self, status: str, what: str) -> None:
        super().__init__(f"{what}: {status}")
        self.status = status


class StoreError(XnetError):
    """xenstore refused: `code` is the wire protocol's errno name (``ENOENT``, ``EACCES``, ``EAGAIN`` ...)."""

    def __init__(self, code: str, path: str = "") -> None:
        super().__init__(f"{path}: {code}" if path else code)
        self.code = code
        self.path = path


class ConfigError(XnetError):
    """The lab file is wrong at `path` (``domain[0].vif[1].mac``); the message names the fix. One line,
    whatever it quotes: what cannot be printed is escaped."""

    def __init__(self, path: str, message: str) -> None:
        path, message = printable(path), printable(message)
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class HostError(XnetError):
    """The machine below refused: `call` on `device` failed with `errno`."""

    def __init__(self, message: str, *, errno: int = 0, call: str = "", device: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.call = call
        self.device = device


def printable(text: str) -> str:
    """The text with what would spoil a line or a terminal escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
