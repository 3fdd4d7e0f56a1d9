"""What a conversation can ask the store: each request as a value that knows its payload and how to read the reply.

Values are text; bytes that are not UTF-8 survive a round trip (surrogateescape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from xnet.abi.xen import xs_wire as xs
from xnet.xenstore.perms import Perm, Perms


class Op(Protocol):
    """A request. `absent` answers ENOENT with None instead of an error."""

    kind: ClassVar[int]
    absent: ClassVar[bool]

    @property
    def path(self) -> str:
        """What an error is about."""

    def payload(self) -> bytes: ...

    def decode(self, payload: bytes) -> Any: ...


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def terminated(*texts: str) -> bytes:
    return b"".join(bytes_of(text) + b"\0" for text in texts)


def names_of(payload: bytes) -> list[str]:
    return text_of(payload).split("\0")[:-1]


@dataclass(slots=True, frozen=True)
class Read:
    """The value at `path` as text; None when there is no such node."""

    kind: ClassVar[int] = xs.XS_READ
    absent: ClassVar[bool] = True
    path: str

    def payload(self) -> bytes:
        return terminated(self.path)

    def decode(self, payload: bytes) -> str:
        return text_of(payload)


@dataclass(slots=True, frozen=True)
class Ls:
    """The names below `path`; None when there is no such node. Up to 4 KiB of them, else StoreError E2BIG."""

    kind: ClassVar[int] = xs.XS_DIRECTORY
    absent: ClassVar[bool] = True
    path: str

    def payload(self) -> bytes:
        return terminated(self.path)

    def decode(self, payload: bytes) -> list[str]:
        return names_of(payload)


@dataclass(slots=True, frozen=True)
class LsPart:
    """Names from byte `offset` of the list on: (generation, names, whether these are the last)."""

    kind: ClassVar[int] = xs.XS_DIRECTORY_PART
    absent: ClassVar[bool] = True
    path: str
    offset: int

    def payload(self) -> bytes:
        return terminated(self.path, str(self.offset))

    def decode(self, payload: bytes) -> tuple[str, list[str], bool]:
        generation, *names = names_of(payload)
        return (generation, names[:-1], True) if names[-1:] == [""] else (generation, names, False)


@dataclass(slots=True, frozen=True)
class _Acknowledged:
    kind: ClassVar[int]
    absent: ClassVar[bool] = False

    def decode(self, payload: bytes) -> None:
        return None


@dataclass(slots=True, frozen=True)
class Write(_Acknowledged):
    """Set the value at `path`, making what is missing on the way."""

    kind: ClassVar[int] = xs.XS_WRITE
    path: str
    value: str | int

    def payload(self) -> bytes:
        return terminated(self.path) + bytes_of(str(self.value))


@dataclass(slots=True, frozen=True)
class Mkdir(_Acknowledged):
    """Make an empty node, if it is not there."""

    kind: ClassVar[int] = xs.XS_MKDIR
    path: str

    def payload(self) -> bytes:
        return terminated(self.path)


@dataclass(slots=True, frozen=True)
class Rm(_Acknowledged):
    """Remove a node and all below it; StoreError ENOENT when its parent is missing too."""

    kind: ClassVar[int] = xs.XS_RM
    path: str

    def payload(self) -> bytes:
        return terminated(self.path)


@dataclass(slots=True, frozen=True)
class GetPerms:
    """The permission list of `path`."""

    kind: ClassVar[int] = xs.XS_GET_PERMS
    absent: ClassVar[bool] = False
    path: str

    def payload(self) -> bytes:
        return terminated(self.path)

    def decode(self, payload: bytes) -> Perms:
        return tuple(Perm.parse(text) for text in names_of(payload))


@dataclass(slots=True, frozen=True)
class SetPerms(_Acknowledged):
    """Replace the permission list of `path`; entries as Perm or as text (``n1``)."""

    kind: ClassVar[int] = xs.XS_SET_PERMS
    path: str
    perms: Sequence[Perm | str]

    def payload(self) -> bytes:
        return terminated(self.path, *map(str, self.perms))


@dataclass(slots=True, frozen=True)
class Watch(_Acknowledged):
    """Register a watch; `depth` levels below `path`, None for all. `Session.watch` says who hears of the events."""

    kind: ClassVar[int] = xs.XS_WATCH
    path: str
    token: str
    depth: int | None = None

    def payload(self) -> bytes:
        return terminated(self.path, self.token, *([] if self.depth is None else [str(self.depth)]))


@dataclass(slots=True, frozen=True)
class Unwatch(_Acknowledged):
    kind: ClassVar[int] = xs.XS_UNWATCH
    path: str
    token: str

    def payload(self) -> bytes:
        return terminated(self.path, self.token)


@dataclass(slots=True, frozen=True)
class ResetWatches(_Acknowledged):
    """Drop all watches and transactions of this client, as a kernel does that starts on a used connection."""

    kind: ClassVar[int] = xs.XS_RESET_WATCHES
    path: ClassVar[str] = ""

    def payload(self) -> bytes:
        return b"\0"


@dataclass(slots=True, frozen=True)
class TransactionStart:
    """A new transaction's id. Use `in_transaction` instead."""

    kind: ClassVar[int] = xs.XS_TRANSACTION_START
    absent: ClassVar[bool] = False
    path: ClassVar[str] = ""

    def payload(self) -> bytes:
        return b"\0"

    def decode(self, payload: bytes) -> int:
        return int(payload[:-1])


@dataclass(slots=True, frozen=True)
class TransactionEnd(_Acknowledged):
    kind: ClassVar[int] = xs.XS_TRANSACTION_END
    path: ClassVar[str] = ""
    commit: bool

    def payload(self) -> bytes:
        return b"T\0" if self.commit else b"F\0"


@dataclass(slots=True, frozen=True)
class Within:
    """`op` as part of transaction `tx_id`."""

    tx_id: int
    op: Op


@dataclass(slots=True, frozen=True)
class Introduce(_Acknowledged):
    """Tell the store of a domain: its ring page and its unbound event channel. Privileged."""

    kind: ClassVar[int] = xs.XS_INTRODUCE
    path: ClassVar[str] = ""
    domid: int
    frame: int
    port: int

    def payload(self) -> bytes:
        return terminated(str(self.domid), str(self.frame), str(self.port))


@dataclass(slots=True, frozen=True)
class Release(_Acknowledged):
    """Tell the store that a domain is gone. Privileged."""

    kind: ClassVar[int] = xs.XS_RELEASE
    path: ClassVar[str] = ""
    domid: int

    def payload(self) -> bytes:
        return terminated(str(self.domid))


@dataclass(slots=True, frozen=True)
class IsIntroduced:
    """Whether the store talks with a domain. Privileged."""

    kind: ClassVar[int] = xs.XS_IS_DOMAIN_INTRODUCED
    absent: ClassVar[bool] = False
    path: ClassVar[str] = ""
    domid: int

    def payload(self) -> bytes:
        return terminated(str(self.domid))

    def decode(self, payload: bytes) -> bool:
        return payload == b"T\0"


@dataclass(slots=True, frozen=True)
class DomainPath:
    """``/local/domain/N``."""

    kind: ClassVar[int] = xs.XS_GET_DOMAIN_PATH
    absent: ClassVar[bool] = False
    path: ClassVar[str] = ""
    domid: int

    def payload(self) -> bytes:
        return terminated(str(self.domid))

    def decode(self, payload: bytes) -> str:
        return text_of(payload[:-1])
