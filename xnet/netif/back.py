"""Netback: the backend's end of one vif, from its directory in xenstore to a connected queue.

Order (real-world recording: Linux 6.1's xen-netback): read the directory, write the features in one transaction and
the rest singly, InitWait, then the hotplug script plugs a link in and says so in ``hotplug-status``. When the
frontend is Connected: read its keys, map its rings, bind its ports; when hotplug is connected too: Connected.

What the frontend's state calls for is one table, `WANTED`; the way there is `xenbus.path_to`. A frontend that comes
back (its state Initialising again) is met by Closing, Closed, InitWait, in this order, all rights of the old
connection gone. A frontend whose directory is gone, or that closes while ``online`` is 0, ends the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RX_SLOT_SIZE, TX_SLOT_SIZE
from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import HypercallError, XnetError
from xnet.frame import Link
from xnet.frame.arena import Arena
from xnet.frame.offload import Accepts
from xnet.hv.api import Mapping, Xen
from xnet.netif.back_queue import BackQueue
from xnet.netif.counters import Counters
from xnet.netif.device import Device, Observer
from xnet.netif.features import OFFLOAD_KEYS, Features, agree, describe, flag, number
from xnet.netif.gather import guarded
from xnet.netif.transport import CopyFetch, MapFetch
from xnet.ring import BackRing
from xnet.xenstore import Conversation, Read, Session, Write, in_transaction
from xnet.xenstore.xenbus import path_to, read_state

S = XenbusState
WANTED: dict[XenbusState, XenbusState] = {
    S.Initialising: S.InitWait,
    S.Connected: S.Connected,
    S.Closing: S.Closing,
    S.Closed: S.Closed,
    S.Unknown: S.Closed,
}
"""Where a frontend's state wants the backend. Initialised, and what is not listed, changes nothing."""


class Netback(Device):
    """One vif's backend. `hotplug` is called when a link is wanted, and answers by `plug`; `gone` when it is over."""

    def __init__(
        self,
        xen: Xen,
        session: Session,
        domid: int,
        handle: int,
        *,
        arena: Arena,
        hotplug: Callable[[Netback], None],
        gone: Callable[[Netback], None],
        features: Features = Features(),  # noqa: B008 (frozen)
        tx_mode: Literal["copy", "map"] = "copy",
        observe: Observer | None = None,
    ) -> None:
        super().__init__(xen, session, f"backend/vif/{domid}/{handle}", f"vif{domid}.{handle}", observe)
        self.domid = domid
        self.handle = handle
        self.arena = arena
        self.hotplug = hotplug
        self.gone = gone
        self.features = features
        self.tx_mode = tx_mode
        self.link: Link | None = None
        self.queue: BackQueue | None = None
        self.rings: list[Mapping] = []
        self.accepts: Accepts | None = None
        """What the connected frontend takes."""
        self.disabled = False
        self.counters = Counters("tx_errors", "rx_drops", "rx_deferred")

    def start(self) -> None:
        """The directory is there: announce ourselves."""
        self.busy = True
        self.session.run(self.probe(), self.looked)

    def probe(self) -> Conversation[None]:
        """Features, InitWait, hotplug, and from now on the frontend's state is watched."""
        home = self.nodename
        self.peer = number((yield Read(f"{home}/frontend-id")))
        self.otherend = (yield Read(f"{home}/frontend")) or ""
        if not self.otherend or self.peer != self.domid:
            raise XnetError(f"{home}: no frontend, or not d{self.domid}'s")

        def features() -> Conversation[None]:
            keys = self.features.offload_keys() | {"feature-rx-copy": "1", "feature-rx-flip": "0"}
            for key, value in keys.items():
                yield Write(f"{home}/{key}", value)

        yield from in_transaction(features)
        yield Write(f"{home}/feature-split-event-channels", flag(self.features.split_event_channels))
        yield Write(f"{home}/multi-queue-max-queues", "1")
        yield from self.switch(S.InitWait)
        self.watch(f"{home}/hotplug-status")
        self.watch(f"{self.otherend}/state")
        self.hotplug(self)

    def plug(self, link: Link) -> None:
        """Hotplug found or made the link (vif-bridge: a TAP in a bridge; vif-vnic: a vnic)."""
        self.link = link
        self.session.run(self.hotplug_connected(), self.watched)

    def hotplug_connected(self) -> Conversation[None]:
        """What the hotplug script writes at its end."""
        yield Write(f"{self.nodename}/hotplug-status", "connected")

    def hotplug_failed(self, reason: str) -> None:
        """What the hotplug script writes when it could not."""

        def tell() -> Conversation[None]:
            yield Write(f"{self.nodename}/hotplug-error", reason)
            yield Write(f"{self.nodename}/hotplug-status", "error")

        self.note(f"hotplug: {reason}")
        self.session.run(tell(), self.watched)

    # --- following the frontend

    def reconcile(self) -> Conversation[None]:
        """Go where the frontend's state wants us, one visible state at a time."""
        frontend = yield from read_state(self.otherend)
        if frontend is None:
            raise XnetError(f"{self.otherend}/state is no state")
        wanted = WANTED.get(frontend)
        if wanted is None:
            return
        if wanted is S.InitWait and (self.state is S.Connected or self.queue is not None):
            yield from self.walk(S.Closed)  # it came back without closing: nothing of the old connection stays
        if wanted is S.Connected and self.state is not S.Connected:
            yield from self.walk(S.InitWait)
            yield from self.connect()
            return
        yield from self.walk(wanted)
        if wanted is S.Closed:
            online = yield Read(f"{self.nodename}/online")
            if frontend is S.Unknown or number(online) == 0:
                self.stop()
                self.gone(self)

    def walk(self, wanted: XenbusState) -> Conversation[None]:
        """Pass through every state on the way. Leaving Connected, or never reaching it, frees the rings."""
        for state in path_to(self.state, wanted):
            if state is S.Closing:
                self.disconnect()
            if state is S.InitWait:
                self.reason = ""
                self.disabled = False
            yield from self.switch(state)

    def connect(self) -> Conversation[None]:
        """The frontend is Connected: take its rings when first seen so, be Connected when hotplug is."""
        if self.queue is None:
            keys: dict[str, str | None] = {}
            names = ("multi-queue-num-queues", "request-rx-copy", "feature-rx-notify", *OFFLOAD_KEYS)
            for name in (*names, "tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx"):
                keys[name] = yield Read(f"{self.otherend}/{name}")
            if keys["event-channel-tx"] is None or keys["event-channel-rx"] is None:
                shared = yield Read(f"{self.otherend}/event-channel")
                keys["event-channel-tx"] = keys["event-channel-rx"] = shared
            if self.link is None:
                return  # hotplug-status is watched
            self.attach_rings(keys)
        status = yield Read(f"{self.nodename}/hotplug-status")
        if status == "connected":
            yield from self.switch(S.Connected)

    def attach_rings(self, keys: dict[str, str | None]) -> None:
        """Map the rings, bind the ports, build the queue and plug it into the link. XnetError: nothing is held."""
        queues = number(keys["multi-queue-num-queues"], 1)
        if queues != 1:
            raise XnetError(f"frontend asks for {queues} queues, one is offered")
        refs = [self.required(keys, "tx-ring-ref"), self.required(keys, "rx-ring-ref")]
        ports = [self.required(keys, "event-channel-tx"), self.required(keys, "event-channel-rx")]
        try:
            pages = self.map_rings(refs)
            tx = BackRing.attach_at_rsp_prod(pages[0], TX_SLOT_SIZE)
            rx = BackRing.attach_at_rsp_prod(pages[1], RX_SLOT_SIZE)
            self.accepts = agree(keys, self.features)
            self.build_queue(tx, rx, ports, notified=bool(number(keys["feature-rx-notify"])))
        except XnetError:
            self.disconnect()
            raise

    def required(self, keys: dict[str, str | None], name: str) -> int:
        """A key the frontend must have written, as a number."""
        text = keys[name]
        if text is None or not (text.isascii() and text.isdecimal()):
            raise XnetError(f"reading {self.otherend}/{name}: {'missing' if text is None else 'not a number'}")
        return int(text)

    def map_rings(self, refs: list[int]) -> list[memoryview]:
        """The frontend's ring pages in our window."""
        pages = []
        for ref in refs:
            result = self.xen.map_grants(self.peer, [ref], readonly=False)[0]
            if not isinstance(result, Mapping):
                raise XnetError(f"mapping ring reference {ref} of d{self.peer} failed (GNTST {result})")
            self.rings.append(result)
            pages.append(self.xen.window[result.addr : result.addr + PAGE_SIZE])
        return pages

    def build_queue(self, tx: BackRing, rx: BackRing, remote: list[int], *, notified: bool) -> None:
        """Bind the channels (one, or one each way) and start."""
        assert self.link is not None, "rings are attached after hotplug"
        assert self.accepts is not None, "features are agreed before the queue"
        xen = self.xen
        for port in dict.fromkeys(remote):
            try:
                self.ports.append(xen.bind_interdomain(self.peer, port))
            except HypercallError as error:
                raise XnetError(f"binding event channel {port} of d{self.peer}: {error.status}") from error
        tx_port, rx_port = self.ports[0], self.ports[-1]
        copy = self.tx_mode == "copy"
        queue = BackQueue(
            xen,
            self.peer,
            tx,
            rx,
            link=self.link,
            fetcher=CopyFetch(xen, self.peer, self.arena, self.link.heads_only) if copy else MapFetch(xen, self.peer),
            arena=self.arena,
            accepts=self.accepts,
            tx_port=tx_port,
            rx_port=rx_port,
            fail=self.rogue,
            counters=self.counters,
            notified=notified,
        )
        self.queue = queue
        if tx_port == rx_port:
            xen.set_handler(tx_port, guarded(queue.on_both, self.rogue))
        else:
            xen.set_handler(tx_port, guarded(queue.on_tx, self.rogue))
            xen.set_handler(rx_port, guarded(queue.on_rx, self.rogue))
        self.link.attach(queue)

    # --- the end

    def disconnect(self) -> None:
        """Unplug the queue; close ports, unmap rings."""
        if self.link is not None:
            self.link.attach(None)
        if self.queue is not None:
            self.queue.close()
            self.queue = None
        self.release_ports()
        if self.rings:
            self.xen.unmap_grants([ring.handle for ring in self.rings])
            self.rings.clear()
        self.accepts = None

    def rogue(self, reason: str) -> None:
        """Disable the vif: rings untouched from now on, requests unanswered, state unchanged, as Linux does it."""
        if self.disabled:
            return
        self.disabled = True
        if self.link is not None:
            self.link.attach(None)
        for port in self.ports:
            self.xen.set_handler(port, None)
        self.note(f"{reason}; disabled until it reconnects")

    def stop(self) -> None:
        """Let go of everything, the directory's watches included."""
        self.unwatch()
        self.disconnect()

    def tick(self) -> None:
        """Once a second."""
        if self.queue is not None and not self.disabled:
            guarded(self.queue.tick, self.rogue)()

    def statistics(self) -> dict[str, int]:
        """Counters since the device was made; drops and errors by cause."""
        return self.counters.statistics()

    def agreed(self) -> dict[str, bool]:
        """What is agreed toward the guest."""
        return describe(self.accepts) if self.accepts is not None else {}
