"""What a domain may ask of its hypervisor: the only door for floors 5 and up.

`Xen` is one domain's side of it: its memory window, the grants it gives, the grants it uses, its event channels.
An emulated domain (`xnet.hv.domain.Domain`) implements it; a process on a real Xen could, over /dev/xen/*, which is
why local memory is named by address in the own window and never by machine frame. A base class for the reason that
`frame.link` gives.

Grants are written in runs, for speed: `prepare_grants` makes the ready bytes for a run of pages once, `grant` puts
them into the table, `end_grant` takes them out again when no one uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mypy_extensions import mypyc_attr

from xnet.hv.copier import CopyOp as CopyOp

COPY_RUN: Final = 0x8000
"""Flag of a CopyOp, ours: it stands for as many ops as `length` needs pages, on consecutive references or pages on both
sides, each from offset 0. All of them are checked as the single ops they stand for; the status is the first failure's.
"""


@dataclass(slots=True, frozen=True)
class Capabilities:
    """What the hypervisor below can do; features are offered to peers only if capable."""

    map: bool = True
    flip: bool = True
    max_mapped: int = 1024
    """Foreign pages a domain can have mapped at once."""


@dataclass(slots=True, frozen=True)
class Mapping:
    """One mapped grant: the handle to unmap it with, and where the foreign page now is in the own window."""

    handle: int
    addr: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Xen(ABC):
    """One domain's door to the hypervisor. Numbers in bytes; addresses count in `window`."""

    domid: int
    window: memoryview
    capabilities: Capabilities
    deferred: list[tuple[int, int, bytes]]
    """Own pages that somebody still used when they were to be freed: (address, reference, entry), to be tried again."""

    # --- memory
    @abstractmethod
    def alloc_pages(self, count: int) -> int:
        """Address of `count` contiguous own pages, zeroed. HypercallError ENOMEM when the domain has no such run."""

    @abstractmethod
    def free_pages(self, addr: int, count: int) -> None:
        """Give pages back to the domain's allocator; they must not be granted any more."""

    @abstractmethod
    def decrease_reservation(self, addr: int, count: int) -> int:
        """Give the frames under own pages back to the hypervisor: how many there were. The pages stay ours, and show
        nothing; those that somebody else has mapped stay as they are."""

    @abstractmethod
    def increase_reservation(self, count: int) -> list[int]:
        """Up to `count` frames from the hypervisor's heap, as many as it has, under no page yet."""

    @abstractmethod
    def release_frames(self, frames: list[int]) -> None:
        """Give such frames back. HypercallError EINVAL when they are not ours, or under a page."""

    # --- grants given
    @abstractmethod
    def alloc_grefs(self, count: int) -> int:
        """First of `count` consecutive unused grant references. HypercallError ENOSPC when the table is full."""

    @abstractmethod
    def free_grefs(self, first: int, count: int) -> None:
        """Give references back; their entries must be ended."""

    @abstractmethod
    def prepare_grants(self, domid: int, addr: int, count: int, *, readonly: bool) -> bytes:
        """Ready-made entries (8 bytes each) that let `domid` access `count` own pages from `addr` on."""

    @abstractmethod
    def grant(self, first: int, entries: bytes | memoryview) -> None:
        """Put ready entries into the table from reference `first` on."""

    @abstractmethod
    def end_grant(self, first: int, entries: bytes | memoryview) -> bool:
        """Take those entries out; False, and nothing done, while any of them is in use by the other end."""

    @abstractmethod
    def prepare_transfers(self, domid: int, count: int) -> bytes:
        """Ready-made entries (8 bytes each) that let `domid` give us `count` frames."""

    @abstractmethod
    def end_transfers(self, first: int, addr: int, count: int) -> list[int]:
        """Take such entries out, and put the frame that each brought under an own page, from `addr` on: which of them
        (0 to count - 1) brought none. Their pages show nothing."""

    # --- grants used
    @abstractmethod
    def map_grants(self, domid: int, refs: Sequence[int], *, readonly: bool) -> list[Mapping | int]:
        """Map foreign pages at consecutive addresses of the window; per reference a Mapping, or the GNTST status."""

    @abstractmethod
    def unmap_grants(self, handles: Sequence[int]) -> list[int]:
        """Unmap; a GNTST status each."""

    @abstractmethod
    def copy_grants(self, ops: list[CopyOp]) -> list[int] | None:
        """Run copies in order. None when all went well, else a GNTST status for each."""

    @abstractmethod
    def transfer(self, addrs: list[int], frames: list[int], domid: int, refs: list[int]) -> list[int]:
        """Give `domid` the frames under own pages, at transfer grants of its; `frames` take their place. A GNTST status
        each: after GNTST_bad_page the page is still ours and the replacement was not used."""

    # --- event channels
    @abstractmethod
    def alloc_unbound(self, remote: int) -> int:
        """A new port that domain `remote` may bind to. HypercallError ENOSPC, ESRCH."""

    @abstractmethod
    def bind_interdomain(self, remote: int, remote_port: int) -> int:
        """A local port bound to the other's unbound one, at once pending. HypercallError EINVAL, ENOSPC, ESRCH."""

    @abstractmethod
    def set_handler(self, port: int, handler: Callable[[], None] | None) -> None:
        """Who is called, from the run queue, when the port was sent to."""

    @abstractmethod
    def send(self, port: int) -> None:
        """Set the other end's pending bit; several before it looks are one. HypercallError EINVAL."""

    @abstractmethod
    def close_port(self, port: int) -> None:
        """Close; the other end's port becomes unbound again."""

    @abstractmethod
    def mask(self, port: int) -> None:
        """Hold events of this port back; they stay pending."""

    @abstractmethod
    def unmask(self, port: int) -> None:
        """Let them through, the held one at once."""

    @abstractmethod
    def console(self, text: str, *, limited: bool = False) -> None:
        """A line for the hypervisor's console ring (HYPERVISOR_console_io); `limited`: not more than some a second."""
