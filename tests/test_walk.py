"""The walk of a frame, step by step: from one guest's kernel to the other's, and what each step leaves behind.

The guests' kernels are the test; the descriptors of steps 1, 2, 9, 10 and 12 are `tests/engine/test_edge.py`'s. What
lies between is the machine itself, stopped after every step.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xnet.abi.xen.event_channel import EVTCHN_PENDING
from xnet.abi.xen.grant_table import GRANT_ENTRY_V1, GTF_permit_access, GTF_readonly
from xnet.abi.xen.netif import EXTRA_GSO, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xnet.abi.xen.ring import REQ_EVENT, REQ_PROD, RSP_PROD
from xnet.frame import CSUM_BLANK, DATA_VALIDATED, GSO_SIZE_SHIFT, GSO_TCPV4, Chain
from xnet.hv import Domain
from xnet.netif import FrontQueue
from xnet.testing import Vif, World
from xnet.testing.frames import tcp

pytestmark = pytest.mark.integration

MSS = 1448
WORD = CSUM_BLANK | DATA_VALIDATED | GSO_TCPV4 | MSS << GSO_SIZE_SHIFT
FRAME = tcp(bytes(range(256)) * 36, blank=True)
"""A segmentation offload frame of three pages: four slots with its extra."""
PAGES = 3
RINGFUL = 256


class Stage:
    """Two guests on one wire, and the questions the steps ask."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.one, self.two = world.pair()
        self.dom0 = world.host.dom0
        self.one_grants, self.two_grants = len(self.granted(self.one)), len(self.granted(self.two))

    def queue(self, vif: Vif) -> FrontQueue:
        assert vif.netfront.queue is not None
        return vif.netfront.queue

    def granted(self, vif: Vif) -> dict[int, tuple[int, int, int]]:
        """Reference -> entry (flags, domid, frame) of what the guest lets dom0 do, read from its table's bytes."""
        domain = vif.guest.domain
        start = domain.grant_table_pfn * 4096
        table = domain.window[start : start + len(domain.grant_table.frames) * 4096]
        return {ref: entry for ref, entry in enumerate(GRANT_ENTRY_V1.iter_unpack(table)) if entry[0]}

    def pending(self, domain: Domain, port: int) -> bool:
        """The port's pending bit, read from the domain's shared_info."""
        byte = domain.window[domain.shared_info_pfn * 4096 + EVTCHN_PENDING + port // 8]
        return bool(byte >> port % 8 & 1)

    def turn(self) -> None:
        """One domain's turn."""
        self.world.host.hypervisor.step(1)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with World() as world:
        yield Stage(world)


def test_the_twelve_steps(stage: Stage) -> None:
    one, two, dom0 = stage.one, stage.two, stage.dom0
    front, rear = stage.queue(one), stage.queue(two)
    hypervisor = stage.world.host.hypervisor

    # 1. the netfront has room
    room = front.reserve()
    assert room is not None
    addr, size = room
    assert size >= 65535

    # 2. the frame is read into the guest's own pages: what the guest's window shows is what the machine holds
    front.memory[addr : addr + len(FRAME)] = FRAME
    pfn = (front.tx_addr >> 12) + front.tx_head
    frames = one.guest.domain.physmap.mfn[pfn : pfn + PAGES].tolist()
    assert b"".join(bytes(hypervisor.machine.page(mfn)) for mfn in frames)[: len(FRAME)] == FRAME

    # 3. the burst over, the netfront grants the pages used, and writes a request a page and the extra; nothing is
    # published yet
    front.commit(WORD, [len(FRAME)])
    front.stage()
    fresh = [entry for ref, entry in stage.granted(one).items() if ref >= front.tx_refs]
    assert fresh == [(GTF_permit_access | GTF_readonly, 0, mfn) for mfn in frames]
    slots = [bytes(front.tx_ring.read(i, 1)) for i in range(4)]
    _, offset, flags, first_id, size = TX_REQUEST.unpack(slots[0])
    assert (offset, flags, size) == (0, 1 | 2 | 4 | 8, len(FRAME)), "the first carries the whole length"
    assert EXTRA_GSO.unpack_from(slots[1]) == (1, 0, MSS, 1, 0, 0)
    assert [TX_REQUEST.unpack(slot)[4] for slot in slots[2:]] == [4096, len(FRAME) - 8192]
    assert front.tx_ring.indices[REQ_PROD] == 0

    # 4. published: the pending bit is set, dom0 is on the run queue, nobody has run
    back_port = one.netback.ports[0]
    assert not stage.pending(dom0, back_port)
    front.flush()
    assert front.tx_ring.indices[REQ_PROD] == 4
    assert stage.pending(dom0, back_port)
    assert len(hypervisor.runqueue) == 1
    assert one.hub.sent == []

    # 5. to 11. happen in dom0's one turn; the link looks in between
    copies = next(s for s in hypervisor.statistics() if s.domid == 0).copies
    seen: list[str] = []
    tx, rx = one.hub.tx, one.hub.peers[0].client
    assert rx is not None

    def link(chain: Chain) -> None:
        """Where step 8 leads."""
        # 6. fetched: one batch of copies, the bytes are in dom0's own pages, the word has come along
        now = next(s for s in hypervisor.statistics() if s.domid == 0).copies
        assert now - copies == PAGES
        [frame] = chain.frames
        assert frame[:2] == (WORD, len(FRAME))
        assert chain.tobytes(frame) == FRAME
        assert chain.memory is dom0.window
        assert front.tx_ring.indices[RSP_PROD] == 0, "the frame goes first, the answer after it"
        seen.append("link")
        # 8. to 10. handed on: a peer on the same link, whose guest has posted buffers
        assert rx.room() == RINGFUL
        tx(chain)
        seen.append("delivered")

    one.hub.tx = link  # type: ignore[method-assign]
    # 5. dom0's upcall finds the netback
    stage.turn()
    assert seen == ["link", "delivered"]
    # 7. answered, every slot: the id of each request, NULL for the extra; the guest has been notified
    answers = [TX_RESPONSE.unpack_from(front.tx_ring.read(i, 1)) for i in range(4)]
    assert answers[0] == (first_id, 0)
    assert answers[1][1] == 1
    assert answers[2:] == [(first_id + 1, 0), (first_id + 2, 0)]
    assert front.tx_ring.indices[RSP_PROD] == 4
    assert stage.pending(one.guest.domain, one.netfront.ports[0])
    assert len(stage.granted(one)) == stage.one_grants + PAGES, "the guest has not looked yet"
    assert not stage.pending(dom0, back_port)
    assert front.tx_ring.indices[REQ_EVENT] == 5, "the netback sleeps until the next request"

    # 9. what leaves by a descriptor leaves with the word that says what is left to do
    assert one.hub.sent == [(WORD, FRAME)]

    # 11. copied into the pages the other guest posted, an extra second
    rx_slots = [bytes(rear.rx_ring.read(i, 1)) for i in range(4)]
    assert RX_RESPONSE.unpack(rx_slots[0]) == (0, 0, 1 | 2 | 4 | 8, 4096)
    assert EXTRA_GSO.unpack(rx_slots[1]) == (1, 0, MSS, 1, 0, 0)
    assert [RX_RESPONSE.unpack(slot) for slot in rx_slots[2:]] == [(2, 0, 4, 4096), (3, 0, 0, len(FRAME) - 8192)]
    assert rear.rx_ring.indices[RSP_PROD] == 4
    assert two.guest.domain.window[rear.rx_addr : rear.rx_addr + 4096] == FRAME[:4096]

    # 12. both guests are notified; each has its turn
    assert stage.pending(two.guest.domain, two.netfront.ports[-1])
    assert two.wire.received == []
    stage.world.step()
    assert two.wire.received == [(WORD, FRAME)]
    assert rear.rx_ring.indices[REQ_PROD] == RINGFUL + 4, "its buffers are posted again"
    assert len(stage.granted(two)) == stage.two_grants
    assert len(stage.granted(one)) == stage.one_grants, "the grants of the frame have ended"
    assert front.tx_ring.free_requests() == RINGFUL
    assert not front.in_flight


def test_step_1_without_room_nothing_is_read(stage: Stage) -> None:
    queue = stage.queue(stage.one)
    while queue.reserve() is not None:
        queue.commit(0, [60])
    queue.stage()
    assert queue.tx_ring.free_requests() == 19, "the largest frame and its extra, as Linux counts"
    queue.flush()
    stage.world.step()
    assert queue.reserve() is not None


def test_step_4_a_second_burst_before_dom0_runs_is_the_same_event(stage: Stage) -> None:
    stage.one.wire.send(FRAME, word=WORD)
    stage.one.wire.send(FRAME, word=WORD)
    assert len(stage.world.host.hypervisor.runqueue) == 1
    stage.turn()
    assert len(stage.one.hub.sent) == 2


def test_step_6_without_room_on_the_link_the_ring_is_left_alone(stage: Stage) -> None:
    stage.one.hub.space = 0
    stage.one.wire.send(FRAME, word=WORD)
    stage.world.step()
    queue = stage.queue(stage.one)
    assert queue.tx_ring.indices[RSP_PROD] == 0
    assert stage.one.netback.queues[0].tx_ring.req_cons == 0


def test_step_7_a_response_for_every_id_also_when_the_packet_is_dropped(stage: Stage) -> None:
    stage.one.wire.send(b"too short")
    stage.one.wire.send(FRAME, word=WORD)
    stage.world.step()
    assert stage.queue(stage.one).tx_ring.indices[RSP_PROD] == 5
    assert stage.one.netfront.statistics()["tx_errors"] == 1
    assert [frame for _, frame in stage.two.wire.received] == [FRAME]


def test_step_11_a_failed_copy_is_an_error_in_that_response(stage: Stage) -> None:
    queue = stage.queue(stage.two)
    domain = stage.two.guest.domain
    domain.window[domain.grant_table_pfn * 4096 + queue.rx_refs * 8] |= GTF_readonly
    stage.one.wire.send(FRAME[:60])
    stage.turn()
    _, _, _, status = RX_RESPONSE.unpack(queue.rx_ring.read(0, 1))
    assert status < 0
    stage.world.step()
    assert stage.two.wire.received == []
    assert stage.two.netfront.statistics()["rx_errors"] == 1
