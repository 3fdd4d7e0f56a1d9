"""Framing of the wire protocol: bytes in, messages out, and back. Layout: `xnet.abi.xen.xs_wire`."""

from __future__ import annotations

from typing import NamedTuple

from xnet.abi.xen.xs_wire import XENSTORE_PAYLOAD_MAX, XSD_SOCKMSG
from xnet.errors import XnetError

HEADER_SIZE = XSD_SOCKMSG.size


class WireError(XnetError):
    """The other end does not speak the protocol: its connection is lost."""


class Message(NamedTuple):
    """One message; `type` is an XS_* number."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


def encode(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """The bytes of one message. The caller keeps the payload within XENSTORE_PAYLOAD_MAX."""
    return XSD_SOCKMSG.pack(kind, req_id, tx_id, len(payload)) + payload


def strings(payload: bytes) -> list[bytes]:
    """The NUL-terminated strings of a payload; an unterminated rest does not count."""
    return payload.split(b"\0")[:-1]


class Parser:
    """Cuts a byte stream into messages; what is incomplete waits for the next call."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that are complete now; call with b"" until none is left.

        WireError when the next header announces an oversize payload (what came before it was returned earlier).
        """
        if not data and not self._rest:
            return []
        buffer = self._rest + data if self._rest else bytes(data)
        messages: list[Message] = []
        at, end = 0, len(buffer)
        while end - at >= HEADER_SIZE:
            kind, req_id, tx_id, size = XSD_SOCKMSG.unpack_from(buffer, at)
            if size > XENSTORE_PAYLOAD_MAX:
                if messages:
                    break
                raise WireError(f"payload of {size} bytes, at most {XENSTORE_PAYLOAD_MAX}")
            stop = at + HEADER_SIZE + size
            if stop > end:
                break
            messages.append(Message(kind, req_id, tx_id, buffer[at + HEADER_SIZE : stop]))
            at = stop
        self._rest = buffer[at:]
        return messages
