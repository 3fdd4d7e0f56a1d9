"""A vif's ends in a test: what a TAP and a kernel are to a guest, and what a switch or a bridge is to a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xnet.frame import Chain, Client, Link
from xnet.frame.offload import Accepts
from xnet.netif import FrontQueue

Sent = tuple[int, bytes]
"""(offload word, frame)."""


class Wire(Client):
    """A guest's network card in a test: the frontend's nic."""

    def __init__(self, queues: int = 1) -> None:
        """`queues`: how many it is willing to have."""
        self.devices: list[Client] = [self] * queues
        self.queues: list[FrontQueue] = []
        self.accepts = Accepts()
        self.up = False
        self.mac = ""
        self.mtu: int | None = None
        self.received: list[Sent] = []
        self.tell: Callable[[frozenset[bytes] | None], None] | None = None
        """Who wants to know the guest's multicast groups."""

    @property
    def queue(self) -> FrontQueue | None:
        """The first one."""
        return self.queues[0] if self.queues else None

    def connected(self, queues: Sequence[FrontQueue], accepts: Accepts) -> None:
        """The frontend is Connected."""
        self.queues, self.accepts = list(queues), accepts

    def identify(self, mac: str, mtu: int | None) -> None:
        """What the frontend read."""
        self.mac, self.mtu = mac, mtu

    def carrier(self, on: bool) -> None:
        """The backend is Connected."""
        self.up = on

    def disconnected(self) -> None:
        """No queue any more."""
        self.queues, self.up, self.tell = [], False, None

    def wants_groups(self, tell: Callable[[frozenset[bytes] | None], None]) -> None:
        """The frontend asked for multicast control."""
        self.tell = tell

    def link_ready(self) -> None:
        """The queue has room again."""

    def room(self) -> int:
        """Always."""
        return 1 << 16

    def rx(self, chain: Chain) -> None:
        """Keep what arrives."""
        self.received += [(frame[0], chain.tobytes(frame)) for frame in chain.frames]

    def send(self, *frames: bytes, word: int = 0, index: int = 0) -> int:
        """Put frames on the ring of a queue and notify; how many had room."""
        assert self.queues, "not connected"
        queue = self.queues[index]
        done = 0
        for frame in frames:
            room = queue.reserve()
            if room is None:
                break
            queue.memory[room[0] : room[0] + len(frame)] = frame
            queue.commit(word, [len(frame)])
            done += 1
        queue.flush()
        return done


class Hub(Link):
    """A backend's link in a test. `peers` get what the guest sends; `sent` keeps a copy, unless it is `heads_only`."""

    def __init__(self, heads_only: bool = False) -> None:
        self.mtu = 1500
        self.heads_only = heads_only
        self.client: Client | None = None
        self.sent: list[Sent] = []
        self.peers: list[Hub] = []
        self.space = 1 << 16
        """What `room` says; who raises it from 0 calls ``client.link_ready()``."""
        self.ready = 0
        """How often the backend said that it has buffers again."""
        self.groups: frozenset[bytes] | None = None
        """What the guest wants of multicast."""
        self.up = False
        """The carrier."""

    def tx(self, chain: Chain) -> None:
        """From the guest."""
        if not self.heads_only:
            self.sent += [(frame[0], chain.tobytes(frame)) for frame in chain.frames]
        for peer in self.peers:
            if peer.client is not None:
                peer.client.rx(chain)

    def room(self) -> int:
        """As the test has it."""
        return self.space

    def attach(self, client: Client | None) -> None:
        """The backend's queue comes or goes."""
        self.client = client

    def carrier(self, on: bool) -> None:
        """Frames for the guest may get there."""
        self.up = on

    def follow(self, groups: frozenset[bytes] | None) -> None:
        """The guest's groups."""
        self.groups = groups

    def client_ready(self) -> None:
        """The guest has buffers."""
        self.ready += 1
