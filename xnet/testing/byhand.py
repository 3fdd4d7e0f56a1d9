"""Drivers that keep no rule: a frontend and a backend that do what a test tells them, byte by byte.

`FrontByHand` takes the place of a guest's netfront: it makes the rings, writes whatever keys, puts raw slots on the tx
ring and publishes any index. `BackByHand` takes the place of dom0's netback: it maps the frontend's rings and answers
as it is told, late, out of order, or with lies. Neither reacts to anything by itself. Both go through the domain's own
doors (`hv.api.Xen`, xenstore), so that grants, ports and permissions are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE, NETTXF_more_data
from xnet.abi.xen.ring import HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, nr_ents
from xnet.engine.xen_host import GuestDomain
from xnet.hv.api import Mapping, Xen
from xnet.testing.world import World, single
from xnet.xenstore import Write

Fragment = tuple[bytes, int]
"""Bytes, and where in a page of their own they lie."""


class RawRing:
    """A ring's page, without any of the ring's rules."""

    def __init__(self, page: memoryview, slot_size: int) -> None:
        self.page = page
        self.slot_size = slot_size
        self.entries = nr_ents(slot_size)
        self.indices = page[:16].cast("I")
        """req_prod, req_event, rsp_prod, rsp_event."""

    def slot(self, index: int) -> memoryview:
        """The slot of a free-running index."""
        at = HEADER_SIZE + (index % self.entries) * self.slot_size
        return self.page[at : at + self.slot_size]

    def release(self) -> None:
        """Let go of the page."""
        self.indices.release()
        self.page.release()


class FrontByHand:
    """A guest's frontend. Pages are granted when they are made, and stay so until `close`."""

    def __init__(
        self, world: World, guest: GuestDomain, handle: int = 0, *, start: int = 0, queue: int | None = None
    ) -> None:
        """`start`: where all four ring indices begin (an old ring that goes on). `queue`: which of several; each has a
        hand of its own."""
        self.world = world
        self.guest = guest
        self.xen: Xen = guest.domain
        self.home = f"device/vif/{handle}"
        self.place = "" if queue is None else f"queue-{queue}/"
        """Where the keys of the rings are."""
        self.granted: list[tuple[int, int]] = []
        """(reference, address) of every page given to the backend."""
        self.woken = {"tx": 0, "rx": 0}
        """Events that came."""
        self.tx_ref, tx_page = self.give()
        self.rx_ref, rx_page = self.give()
        window = self.xen.window
        self.tx = RawRing(window[tx_page : tx_page + PAGE_SIZE], TX_REQUEST.size)
        self.rx = RawRing(window[rx_page : rx_page + PAGE_SIZE], RX_REQUEST.size)
        for ring in (self.tx, self.rx):
            ring.indices[REQ_PROD] = ring.indices[RSP_PROD] = start
            ring.indices[REQ_EVENT] = ring.indices[RSP_EVENT] = (start + 1) & 0xFFFFFFFF
        self.tx_prod = self.tx_cons = self.rx_prod = self.rx_cons = start
        self.buffers: dict[int, int] = {}
        """Address of the buffer posted in each rx slot."""
        self.ports: list[int] = []

    def give(self, data: bytes = b"", offset: int = 0, *, readonly: bool = False) -> tuple[int, int]:
        """A fresh page, granted to dom0, with `data` from `offset` on: (reference, address)."""
        xen = self.xen
        addr, ref = xen.alloc_pages(1), xen.alloc_grefs(1)
        xen.window[addr + offset : addr + offset + len(data)] = data
        xen.grant(ref, xen.prepare_grants(0, addr, 1, readonly=readonly))
        self.granted.append((ref, addr))
        return ref, addr

    # --- xenstore

    def connect(self, *, split: bool = False, keys: dict[str, str | None] | None = None, state: str = "4") -> None:
        """Ports, keys and `state`, then let the world run. `keys` replaces some, or with None leaves them out."""
        xen = self.xen
        self.ports = [xen.alloc_unbound(0) for _ in range(2 if split else 1)]
        for way, port in zip(("tx", "rx"), (self.ports[0], self.ports[-1]), strict=True):
            xen.set_handler(port, self.counter("both" if not split else way))
        here = self.place
        said: dict[str, str | None] = {f"{here}tx-ring-ref": str(self.tx_ref), f"{here}rx-ring-ref": str(self.rx_ref)}
        if split:
            said |= {f"{here}event-channel-tx": str(self.ports[0]), f"{here}event-channel-rx": str(self.ports[1])}
        else:
            said[f"{here}event-channel"] = str(self.ports[0])
        said |= dict.fromkeys(("request-rx-copy", "feature-rx-notify", "feature-sg"), "1")
        said |= dict.fromkeys(("feature-gso-tcpv4", "feature-gso-tcpv6", "feature-ipv6-csum-offload"), "1")
        for key, value in (said | (keys or {})).items():
            if value is not None:
                self.write(key, value)
        self.write("state", state)

    def write(self, key: str, value: str) -> None:
        """Write a key as the guest, and let the world run."""
        self.guest.client.session.run(single(Write(f"{self.home}/{key}", value)))
        self.world.step()

    def counter(self, way: str) -> Any:
        """An event handler that counts."""

        def woken() -> None:
            for name in self.woken if way == "both" else (way,):
                self.woken[name] += 1

        return woken

    # --- tx: away from the guest

    def put(self, *slots: bytes) -> None:
        """Raw tx slots at the next indices, unpublished."""
        for data in slots:
            slot = self.tx.slot(self.tx_prod)
            slot[:] = data.ljust(len(slot), b"\0")
            self.tx_prod = (self.tx_prod + 1) & 0xFFFFFFFF

    def publish(self, index: int | None = None) -> None:
        """Set req_prod (to any index), notify, and let the world run."""
        self.tx.indices[REQ_PROD] = self.tx_prod if index is None else index & 0xFFFFFFFF
        self.xen.send(self.ports[0])
        self.world.step()

    def frame(
        self,
        fragments: Sequence[Fragment],
        *,
        flags: int = 0,
        extras: Sequence[bytes] = (),
        first_id: int = 100,
        size: int | None = None,
    ) -> list[bytes]:
        """The slots of a packet: a page and a request a fragment, extras second. `size`: what the first one claims."""
        slots = []
        for number, (data, offset) in enumerate(fragments):
            ref, _ = self.give(data, offset, readonly=True)
            more = NETTXF_more_data if number < len(fragments) - 1 else 0
            claimed = len(data)
            if number == 0:
                claimed = sum(len(part) for part, _ in fragments) if size is None else size
            slots.append(TX_REQUEST.pack(ref, offset, (flags if number == 0 else 0) | more, first_id + number, claimed))
        slots[1:1] = extras
        return slots

    def answers(self) -> list[tuple[int, int]]:
        """(id, status) of the tx responses that came since the last look."""
        found = []
        while self.tx_cons != self.tx.indices[RSP_PROD]:
            found.append(TX_RESPONSE.unpack_from(self.tx.slot(self.tx_cons)))
            self.tx_cons = (self.tx_cons + 1) & 0xFFFFFFFF
        return found

    # --- rx: toward the guest

    def post(self, count: int, *, first_id: int = 0, refs: Iterable[int] = (), readonly: bool = False) -> None:
        """Post rx buffers, fresh pages but for those references that are given, notify, and let the world run."""
        given = iter(refs)
        for number in range(count):
            ref = next(given, None)
            if ref is None:
                ref, addr = self.give(readonly=readonly)
                self.buffers[self.rx_prod % self.rx.entries] = addr
            self.rx.slot(self.rx_prod)[:] = RX_REQUEST.pack((first_id + number) & 0xFFFF, 0, ref)
            self.rx_prod = (self.rx_prod + 1) & 0xFFFFFFFF
        self.rx.indices[REQ_PROD] = self.rx_prod
        self.xen.send(self.ports[-1])
        self.world.step()

    def arrived(self) -> list[tuple[int, int, int, int, bytes]]:
        """(id, offset, flags, status, bytes) of the rx responses since the last look; an extra's are its raw bytes."""
        found = []
        while self.rx_cons != self.rx.indices[RSP_PROD]:
            ident, offset, flags, status = RX_RESPONSE.unpack(self.rx.slot(self.rx_cons))
            addr = self.buffers.get(self.rx_cons % self.rx.entries, 0) + offset
            found.append((ident, offset, flags, status, bytes(self.xen.window[addr : addr + max(0, status)])))
            self.rx_cons = (self.rx_cons + 1) & 0xFFFFFFFF
        return found

    def raw(self, index: int) -> bytes:
        """The rx slot at an index, as it is."""
        return bytes(self.rx.slot(index))

    # --- the end

    def take_back(self, since: int = 2) -> None:
        """End the grants of the pages given, the first `since` (the rings) excepted, and free them."""
        for ref, addr in self.granted[since:]:
            entry = self.xen.prepare_grants(0, addr, 1, readonly=False)
            assert self.xen.end_grant(ref, entry), f"the backend still uses grant {ref}"
            self.xen.free_grefs(ref, 1)
            self.xen.free_pages(addr, 1)
        del self.granted[since:]

    def close(self) -> None:
        """Give back ports, pages and references. The backend must have let go."""
        self.tx.release()
        self.rx.release()
        for port in self.ports:
            self.xen.close_port(port)
        self.ports.clear()
        self.take_back(0)


class BackByHand:
    """dom0's backend for a netfront: offers what it is told, maps the rings, and answers when a test says so."""

    def __init__(self, world: World, guest: GuestDomain, handle: int = 0, *, queue: int | None = None) -> None:
        """`queue`: which of several; each has a hand of its own."""
        self.world = world
        self.xen: Xen = world.host.dom0
        self.domid = guest.domain.domid
        self.home = f"/local/domain/0/backend/vif/{self.domid}/{handle}"
        self.front = f"/local/domain/{self.domid}/device/vif/{handle}"
        self.place = self.front if queue is None else f"{self.front}/queue-{queue}"
        """Where the frontend tells of the rings."""
        self.mappings: list[Mapping] = []
        self.ports: list[int] = []
        self.woken = {"tx": 0, "rx": 0}
        self.start_again()

    def start_again(self) -> None:
        """Forget where we were in the rings: the next ones begin at 0."""
        self.tx_cons = self.tx_rsp = self.rx_rsp = 0

    def offer(self, **features: str) -> None:
        """Write features (underscores for dashes, ``feature-`` left out), InitWait, and let the world run."""
        offered = {"rx_copy": "1", "sg": "1", "gso_tcpv4": "1", "gso_tcpv6": "1", "ipv6_csum_offload": "1"} | features
        for name, value in offered.items():
            self.world.write(f"{self.home}/feature-{name.replace('_', '-')}", value)
        self.switch("2")

    def switch(self, state: str) -> None:
        """Write our state and let the world run."""
        self.world.write(f"{self.home}/state", state)
        self.world.step()

    def attach(self) -> None:
        """Map the rings and bind the channels that the frontend told of."""
        keys = self.world.keys(self.place)
        for name in ("tx-ring-ref", "rx-ring-ref"):
            self.mappings.append(self.map(int(keys[name] or 0), readonly=False))
        window = self.xen.window
        pages = [window[ring.addr : ring.addr + PAGE_SIZE] for ring in self.mappings]
        self.tx, self.rx = RawRing(pages[0], TX_REQUEST.size), RawRing(pages[1], RX_REQUEST.size)
        shared = keys.get("event-channel")
        remote = [shared] if shared else [keys["event-channel-tx"], keys["event-channel-rx"]]
        self.ports = [self.xen.bind_interdomain(self.domid, int(port or 0)) for port in remote]
        for way, port in zip(("tx", "rx"), (self.ports[0], self.ports[-1]), strict=True):
            self.xen.set_handler(port, self.counter(way))

    def connect(self, **features: str) -> None:
        """Offer, attach, and be Connected; the frontend has been started."""
        self.offer(**features)
        self.attach()
        self.switch("4")

    def counter(self, way: str) -> Any:
        """An event handler that counts."""

        def woken() -> None:
            self.woken[way] += 1

        return woken

    def map(self, ref: int, *, readonly: bool) -> Mapping:
        """One page of the guest in our window; the caller unmaps it."""
        [result] = self.xen.map_grants(self.domid, [ref], readonly=readonly)
        assert isinstance(result, Mapping), f"reference {ref} cannot be mapped (GNTST {result})"
        return result

    def requests(self) -> list[bytes]:
        """Raw tx slots published since the last look."""
        found = []
        while self.tx_cons != self.tx.indices[REQ_PROD]:
            found.append(bytes(self.tx.slot(self.tx_cons)))
            self.tx_cons = (self.tx_cons + 1) & 0xFFFFFFFF
        return found

    def respond(self, *answers: tuple[int, int]) -> None:
        """Answer tx requests by (id, status), notify, and let the world run."""
        for ident, status in answers:
            TX_RESPONSE.pack_into(self.tx.slot(self.tx_rsp), 0, ident, status)
            self.tx_rsp = (self.tx_rsp + 1) & 0xFFFFFFFF
        self.tx.indices[RSP_PROD] = self.tx_rsp
        self.xen.send(self.ports[0])
        self.world.step()

    def fill(self, *slots: bytes | tuple[bytes, int, int]) -> None:
        """Answer rx requests in order, each by (bytes, offset, flags) or a raw slot, notify, and let the world run."""
        for given in slots:
            slot = self.rx.slot(self.rx_rsp)
            if isinstance(given, bytes):
                slot[:] = given.ljust(len(slot), b"\0")
            else:
                data, offset, flags = given
                ident, _, ref = RX_REQUEST.unpack(slot)
                page = self.map(ref, readonly=False)
                self.xen.window[page.addr + offset : page.addr + offset + len(data)] = data
                self.xen.unmap_grants([page.handle])
                slot[:] = RX_RESPONSE.pack(ident, offset, flags, len(data))
            self.rx_rsp = (self.rx_rsp + 1) & 0xFFFFFFFF
        self.rx.indices[RSP_PROD] = self.rx_rsp
        self.xen.send(self.ports[-1])
        self.world.step()

    def detach(self) -> None:
        """Close the channels, unmap the rings."""
        for port in self.ports:
            self.xen.close_port(port)
        if self.mappings:
            self.tx.release()
            self.rx.release()
            self.xen.unmap_grants([ring.handle for ring in self.mappings])
        self.mappings.clear()
        self.ports.clear()
