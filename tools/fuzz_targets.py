"""Fuzz targets: each takes any bytes, and raises when what they do to the code is not what may be.

What a hostile peer or a careless user can write ends here in an answer or in an error of ours; anything else is a
finding. ``scripts/fuzz`` lets atheris look for bytes that get further (`tools/fuzz.py`); the findings are kept as cases
in ``tests/fuzz``, which every run of the tests goes through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xnet.abi.xen import DOMID_SELF, PAGE_SIZE
from xnet.abi.xen.netif import RING_SLOTS, RX_SLOT_SIZE, TX_SLOT_SIZE, XEN_NETIF_MAX_TX_SIZE
from xnet.control.config import parse_lab
from xnet.control.reader import LabError
from xnet.control.vifspec import parse_xl
from xnet.errors import ConfigError
from xnet.frame import Frames
from xnet.hv.api import CopyOp
from xnet.netif.assemble import assemble
from xnet.netif.gather import BadRing, Packet, take
from xnet.netif.slots import Gather, frames
from xnet.netif.transport.copy import singly
from xnet.xenstore import Server
from xnet.xenstore.wire import Parser, encode

DOMID: Final = 7
MOST: Final = 64
ROOM: Final = 1 << 20
BASE: Final = 1 << 20


def gather(data: bytes) -> None:
    """tx slots: packets that hold what they say, or the verdict that no driver writes such a thing; C agrees."""
    data = data[: len(data) // TX_SLOT_SIZE * TX_SLOT_SIZE][: RING_SLOTS * TX_SLOT_SIZE]
    found, ops = Frames(), list[CopyOp]()
    answers, slots, size = Gather(DOMID, False).burst(data, MOST, ROOM, BASE, found, ops)
    try:
        packets, taken = take(data, MOST, ROOM)
    except BadRing:
        packets, taken = take(data[: slots * TX_SLOT_SIZE], MOST, ROOM) if slots else ([], 0)
    assert taken * TX_SLOT_SIZE <= len(data)
    assert sum(len(packet.slots) for packet in packets) == taken * TX_SLOT_SIZE
    for packet in packets:
        check_packet(packet)
    sure = packets[: len(found)]
    assert b"".join(packet.answers for packet in sure) == answers
    assert [(packet.word, packet.length) for packet in sure] == [(word, length) for word, length, _ in found]
    assert sum(op.length for op in ops) == sum(packet.length for packet in sure) <= size


def check_packet(packet: Packet) -> None:
    """Its fragments are within their pages and make up its length; every slot has an answer."""
    assert len(packet.answers) == len(packet.slots)
    assert 0 <= packet.extras < len(packet.slots) // TX_SLOT_SIZE
    if not packet.error:
        parts = singly(packet.segments)
        assert sum(size for _, _, size in parts) == packet.length <= XEN_NETIF_MAX_TX_SIZE
        assert all(0 <= offset <= PAGE_SIZE - size for _, offset, size in parts)


def rx(data: bytes) -> None:
    """rx slots: frames whose pieces are within the pages of their slots; C agrees where it is sure."""
    first = data[0] if data else 0
    data = data[1 : 1 + len(data[1:]) // RX_SLOT_SIZE * RX_SLOT_SIZE][: RING_SLOTS * RX_SLOT_SIZE]
    if not data:
        return
    found, bad = assemble(data, first, BASE)
    assert len(found) + bad <= len(data) // RX_SLOT_SIZE
    for _, length, pieces in found:
        assert sum(size for _, size, _, _ in pieces) == length <= XEN_NETIF_MAX_TX_SIZE
        for addr, size, domid, _ in pieces:
            assert domid == DOMID_SELF
            assert BASE <= addr <= BASE + RING_SLOTS * PAGE_SIZE - size
    sure = frames(data, first, BASE)
    if sure is not None:
        assert (list(sure), bad) == (list(found), 0)


def xenstore(data: bytes) -> None:
    """A client's bytes: whatever they are, the store answers in messages, and another client is served as before."""
    server = Server()
    server.introduce(DOMID)
    rogue, good = server.connect(DOMID), server.connect(0, privileged=True)
    good.receive(encode(11, 1, 0, b"/local/domain/0/name\0Domain-0"))
    at = 0
    while at < len(data) and not rogue.closed:
        size = 1 + data[at]
        rogue.receive(data[at + 1 : at + 1 + size])
        at += 1 + size
        messages = Parser().feed(rogue.take())
        assert all(len(message.payload) <= 4096 for message in messages)
    good.take()
    good.receive(encode(2, 2, 0, b"/local/domain/0/name\0"))
    [answer] = Parser().feed(good.take())
    assert answer.payload == b"Domain-0"
    rogue.close()
    assert server.statistics().watches == 0


def lab(data: bytes) -> None:
    """A lab file: a lab, or errors that say where and why, a line each."""
    try:
        parse_lab(data.decode(errors="replace"), "fuzz.toml")
    except LabError as error:
        for problem in error.problems:
            one_line(problem)


def vif(data: bytes) -> None:
    """A vif as xl writes it: a table, or what becomes an error of one line."""
    try:
        parse_xl(data.decode(errors="replace"))
    except ValueError as error:
        one_line(ConfigError("", str(error)))


def one_line(error: ConfigError) -> None:
    """An error says something, on one line, whatever it quotes."""
    assert len(str(error).splitlines()) == 1, f"more than a line: {error}"


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "gather": gather,
    "rx": rx,
    "xenstore": xenstore,
    "lab": lab,
    "vif": vif,
}
