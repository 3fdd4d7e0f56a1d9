"""Spanning tree (802.1D) of one bridge: which of its links carry frames between it and the others.

A bridge that hears its own configuration message, or a better one than its own, on a link has a second way to where it
came from: that link is blocked. A link is ``listening`` and then ``learning`` for FORWARD_DELAY_S each before it is
``forwarding``; one on which no other bridge was ever heard is an edge, as 802.1w finds them, and forwards after EDGE_S.
When a message is not repeated for its maximum age, it is forgotten and the tree is made anew.

Configuration message, behind LLC 42 42 03 in an 802.3 frame to 01:80:c2:00:00:00, 35 bytes::

    protocol(2)=0 version(1) type(1) flags(1) root(8) cost(4) bridge(8) port(2) age(2) max_age(2) hello(2) delay(2)

Times are in 1/256 s. Rapid messages (version 2) have the same fields. Source: IEEE 802.1D-1998, clauses 8 and 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

GROUP: Final = bytes.fromhex("0180c2000000")
LLC: Final = bytes.fromhex("424203")
CONFIG: Final = Struct(">HBBB8sI8s2sHHHH")
LLC_AT: Final = 14
BPDU_AT: Final = LLC_AT + len(LLC)
TYPE_CONFIG, TYPE_RAPID, TYPE_CHANGE = 0, 2, 0x80
TOPOLOGY_CHANGE: Final = 1
"""A flag: addresses may have moved."""
SECOND: Final = 256
HELLO_S, MAX_AGE_S, FORWARD_DELAY_S = 2.0, 20.0, 15.0
EDGE_S: Final = 3.0
COST: Final = 2000
"""Of a link of 10 Gb/s (802.1D-2004)."""
PRIORITY: Final = 32768
PORT_PRIORITY: Final = 0x80

Vector = tuple[bytes, int, bytes, bytes]
"""A message's root, cost to it, bridge and port: the least is the best."""


@dataclass(slots=True, eq=False)
class StpPort:
    """A link that takes part."""

    name: str
    id: bytes
    since: float
    """When it came to its state."""
    heard: Vector | None = None
    expires: float = 0.0
    role: str = "designated"
    """designated, root or blocked."""
    state: str = "listening"
    """blocking, listening, learning or forwarding."""
    edge: bool = True
    """No other bridge was ever heard there."""
    received: int = 0
    sent: int = 0


class SpanningTree:
    """The tree as one bridge sees it. `send` puts a frame on a link; `changed`: addresses may have moved."""

    def __init__(
        self, mac: bytes, now: float, send: Callable[[str, bytes], None], changed: Callable[[], None], priority: int
    ) -> None:
        self.mac = mac
        self.id = priority.to_bytes(2, "big") + mac
        self.send = send
        self.changed = changed
        self.ports: dict[str, StpPort] = {}
        self.root, self.cost = self.id, 0
        self.hello_at = now

    def add(self, name: str, now: float) -> StpPort:
        """A link joins."""
        used = {port.id[1] for port in self.ports.values()}
        number = next(each for each in range(1, 256) if each not in used)
        port = self.ports[name] = StpPort(name, bytes((PORT_PRIORITY, number)), now)
        self.say(port, now)
        return port

    def remove(self, name: str, now: float) -> None:
        """A link leaves, or may not take part any more."""
        if self.ports.pop(name, None) is not None:
            self.elect(now)

    # --- messages

    def receive(self, name: str, frame: bytes, now: float) -> None:
        """A frame to the group from a link."""
        port = self.ports.get(name)
        if port is None or frame[LLC_AT:BPDU_AT] != LLC or len(frame) < BPDU_AT + 4:
            return
        kind = frame[BPDU_AT + 3]
        port.received += 1
        if kind == TYPE_CHANGE:
            port.edge = False
            self.changed()
            return
        if kind not in (TYPE_CONFIG, TYPE_RAPID) or len(frame) < BPDU_AT + CONFIG.size:
            return
        _, _, _, flags, root, cost, bridge, sender, age, max_age, _, _ = CONFIG.unpack_from(frame, BPDU_AT)
        if age >= max_age:
            return
        port.edge &= bridge == self.id
        vector = (root, cost, bridge, sender)
        if port.heard is None or vector <= port.heard or vector[2:] == port.heard[2:]:
            port.heard = vector
            port.expires = now + (max_age - age) / SECOND
        if flags & TOPOLOGY_CHANGE:
            self.changed()
        self.elect(now)
        if port.role == "root":
            self.hello(now)

    def hello(self, now: float) -> None:
        """Say what the tree is, where it is this bridge's to say."""
        self.hello_at = now
        for port in self.ports.values():
            if port.role == "designated":
                self.say(port, now)

    def say(self, port: StpPort, now: float) -> None:
        """One message."""
        age = 0 if self.root == self.id else SECOND
        times = (age, int(MAX_AGE_S) * SECOND, int(HELLO_S) * SECOND, int(FORWARD_DELAY_S) * SECOND)
        message = LLC + CONFIG.pack(0, 0, TYPE_CONFIG, 0, self.root, self.cost, self.id, port.id, *times)
        frame = GROUP + self.mac + len(message).to_bytes(2, "big") + message
        port.sent += 1
        self.send(port.name, frame.ljust(60, b"\0"))

    # --- the tree

    def elect(self, now: float) -> None:
        """Who is the root, by which link, and which links this bridge speaks for."""
        best, root_port = (self.id, 0, self.id, b"", b""), None
        for port in self.ports.values():
            if port.heard is not None and port.heard[2] != self.id:
                root, cost, bridge, sender = port.heard
                way = (root, cost + COST, bridge, sender, port.id)
                if way < best:
                    best, root_port = way, port
        self.root, self.cost = best[0], best[1]
        for port in self.ports.values():
            mine = (self.root, self.cost, self.id, port.id)
            if port is root_port:
                self.play(port, "root", now)
            elif port.heard is None or mine <= port.heard:
                self.play(port, "designated", now)
            else:
                self.play(port, "blocked", now)

    def play(self, port: StpPort, role: str, now: float) -> None:
        """A link's role is this one now."""
        before, port.role = port.state, role
        if role == "blocked":
            port.state = "blocking"
        elif before == "blocking":
            port.state = "listening"
        if port.state != before:
            port.since = now
            if before == "forwarding":
                self.changed()

    def tick(self, now: float) -> None:
        """Time has passed: messages are repeated and forgotten, links go on to their next state."""
        late = [port for port in self.ports.values() if port.heard is not None and now >= port.expires]
        for port in late:
            port.heard = None
        if late:
            self.elect(now)
        if self.root == self.id and now - self.hello_at >= HELLO_S:
            self.hello(now)
        for port in self.ports.values():
            if port.state == "listening" and port.edge and now - port.since >= EDGE_S:
                port.state, port.since = "forwarding", now
            elif port.state in ("listening", "learning") and now - port.since >= FORWARD_DELAY_S:
                port.state = "learning" if port.state == "listening" else "forwarding"
                port.since = now
