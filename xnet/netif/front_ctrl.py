"""The control ring, the frontend's end: has the backend hash flows and steer them to queues (the other end: `ctrl`).

As Windows' xenvif does it: one request at a time, with an id that is not 0. Key and mapping lie in one page, which the
backend may read only while a request that names it is out. A refusal ends what was wanted, and is said on the console:
frames arrive without a hash then, in whatever queue the backend likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from struct import pack
from typing import Final

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    CTRL_SLOT_SIZE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE,
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
    XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
)
from xnet.errors import HypercallError
from xnet.hv.api import Xen
from xnet.netif.counters import Counters
from xnet.netif.gather import BadRing
from xnet.netif.hashing import ALL_KINDS, MOST_ENTRIES
from xnet.netif.lent import give_back
from xnet.ring import FrontRing

RSS_KEY: Final = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
)
"""The key of the test vectors in Microsoft's "Verifying the RSS Hash Calculation"."""
PAGES: Final = 2
"""The ring, and what requests point to."""
STATUSES: Final = {
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED: "not supported",
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER: "invalid parameter",
    XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW: "buffer overflow",
}
Request = tuple[int, int, int, int]
"""Type and data words."""
Wish = Generator[Request, int, None]
"""Requests, one after another; each is sent the data of its answer."""


class FrontControl:
    """Ring and pages of one connection. HypercallError: there are not as many. `say` is told of refusals."""

    pages = PAGES

    def __init__(self, xen: Xen, backend: int, port: int, counters: Counters, say: Callable[[str], None]) -> None:
        self.xen = xen
        self.port = port
        self.counters = counters
        self.say = say
        self.addr = xen.alloc_pages(PAGES)
        try:
            self.refs = xen.alloc_grefs(PAGES)
        except HypercallError:
            xen.free_pages(self.addr, PAGES)
            raise
        self.data = self.addr + PAGE_SIZE
        """Where key or mapping are put."""
        self.ring = FrontRing(xen.window[self.addr : self.addr + PAGE_SIZE], CTRL_SLOT_SIZE)
        self.ring.init()
        ring_grant = xen.prepare_grants(backend, self.addr, 1, readonly=False)
        self.data_grant = xen.prepare_grants(backend, self.data, 1, readonly=True)
        self.grants = ring_grant + self.data_grant
        xen.grant(self.refs, ring_grant)
        self.wishes: deque[Wish] = deque()
        self.out: Request | None = None
        """The request that is out."""
        self.ident = 0
        self.lent = False
        """The backend may read the data page."""
        self.hashes = False
        """The backend does what was wanted."""

    def steer(self, queues: Sequence[int]) -> None:
        """Have flows hashed and spread over these queues, again and again; an empty sequence: no hashes any more."""
        self.wishes.append(self.wanted(queues) if queues else self.nothing())
        self.go_on()

    def wanted(self, queues: Sequence[int]) -> Wish:
        """The requests for it."""
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, 0, 0
        kinds = yield XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, 0, 0, 0
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, kinds & ALL_KINDS, 0, 0
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, self.lend(RSS_KEY), len(RSS_KEY), 0
        most = yield XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE, 0, 0, 0
        count = min(most, MOST_ENTRIES)
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, count, 0, 0
        mapping = pack(f"<{count}I", *(queues[at % len(queues)] for at in range(count)))
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, self.lend(mapping), count, 0
        self.hashes = True

    def nothing(self) -> Wish:
        """The request to stop it."""
        yield XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, 0, 0
        self.hashes = False

    def lend(self, data: bytes) -> int:
        """Let the backend read this, for the next request: the reference."""
        self.xen.window[self.data : self.data + len(data)] = data
        self.xen.grant(self.refs + 1, self.data_grant)
        self.lent = True
        return self.refs + 1

    def go_on(self, answer: int | None = None) -> None:
        """The next request, if none is out: of the wish at hand, whose last one was answered so, or of the next."""
        while self.wishes and self.out is None:
            try:
                self.out = next(self.wishes[0]) if answer is None else self.wishes[0].send(answer)
            except StopIteration:
                self.wishes.popleft()
                answer = None
                continue
            self.ident = self.ident % 0xFFFF + 1
            self.ring.add_requests(CTRL_REQUEST.pack(self.ident, *self.out))
            if self.ring.push_requests():
                self.xen.send(self.port)

    def on_event(self) -> None:
        """The backend answered. BadRing, RingError."""
        ring = self.ring
        while ring.final_check_responses():
            self.answered(*CTRL_RESPONSE.unpack_from(ring.take_responses(1)))

    def answered(self, ident: int, kind: int, status: int, data: int) -> None:
        """The request that is out was carried out, or refused."""
        if self.out is None or (ident, kind) != (self.ident, self.out[0]):
            raise BadRing(f"control response for a request that is not out (id {ident}, type {kind})")
        self.out = None
        self.take_back()
        if status == XEN_NETIF_CTRL_STATUS_SUCCESS:
            self.go_on(data)
            return
        self.hashes = False
        self.wishes.popleft().close()
        self.say(f"control request {kind} refused: {STATUSES.get(status, status)}")
        self.go_on()

    def take_back(self) -> None:
        """The backend may read key or mapping no more. BadRing while it still does."""
        if self.lent and not self.xen.end_grant(self.refs + 1, self.data_grant):
            raise BadRing("control request answered, but its page is still in use by the backend")
        self.lent = False

    def close(self) -> None:
        """Give back pages and references; the port is the device's to close."""
        self.ring.release()
        give_back(self.xen, self.counters, self.addr, self.refs, self.grants)
