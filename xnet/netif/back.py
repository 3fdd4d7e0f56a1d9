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
from dataclasses import replace
from typing import Literal

from xnet.abi.xen import PAGE_SIZE
from xnet.abi.xen.netif import RX_SLOT_SIZE, TX_SLOT_SIZE
from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import XnetError
from xnet.frame import ETH_HLEN, Link
from xnet.frame.arena import Arena
from xnet.frame.clock import Clock
from xnet.frame.ether import VLAN_HLEN
from xnet.frame.offload import Accepts
from xnet.hv.api import Mapping, Xen
from xnet.netif.back_queue import BackQueue
from xnet.netif.counters import Counters
from xnet.netif.credit import parse_rate
from xnet.netif.ctrl import BackControl
from xnet.netif.device import Device, Observer
from xnet.netif.features import HEADROOM, Features, agree, describe, flips, headroom, number
from xnet.netif.gather import guarded
from xnet.netif.hashing import Hashing
from xnet.netif.lanes import Lanes
from xnet.netif.multicast import REQUEST, MulticastControl
from xnet.netif.patience import DRAIN_S, STALL_S, Patience
from xnet.netif.place import ControlPlace, Said, bind, map_ring, read_said
from xnet.netif.profile import LINUX_BACK, BackProfile, both, offer, offered
from xnet.netif.transport import CopyFetch, Deliver, MapFetch, deliverer
from xnet.netif.unplugged import Unplugged
from xnet.ring import BackRing
from xnet.xenstore import Conversation, Read, Session
from xnet.xenstore.toolstack import hotplug_connected, hotplug_failed
from xnet.xenstore.xenbus import path_to, read_state, switch_state

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
    """One vif's backend. `hotplug` is called when a link is wanted, and answers by `plug`; `gone` when it is over.
    `vnic`: that link will be one (xnbo)."""

    def __init__(
        self,
        xen: Xen,
        session: Session,
        domid: int,
        handle: int,
        *,
        arena: Arena,
        clock: Clock,
        hotplug: Callable[[Netback], None],
        gone: Callable[[Netback], None],
        features: Features = Features(),  # noqa: B008 (frozen)
        tx_mode: Literal["copy", "map"] = "copy",
        profile: BackProfile = LINUX_BACK,
        vnic: bool = False,
        max_queues: int = 1,
        drain_s: float = DRAIN_S,
        stall_s: float = STALL_S,
        observe: Observer | None = None,
    ) -> None:
        super().__init__(xen, session, f"backend/vif/{domid}/{handle}", f"vif{domid}.{handle}", observe)
        self.domid = domid
        self.handle = handle
        self.arena = arena
        self.clock = clock
        self.hotplug = hotplug
        self.gone = gone
        self.profile = profile
        self.failed = profile.failed
        self.features = offered(profile, features)
        """What it takes from the guest, and how frames get there."""
        self.sends = both(features, profile.sends)
        """What it uses of what the guest takes."""
        if vnic and not profile.blank_to_guest:
            self.sends = replace(self.sends, csum_offload=False, ipv6_csum_offload=False)
        self.tx_mode = profile.tx_mode or tx_mode
        self.max_queues = 1 if profile.keys else max_queues  # only Linux's says how many it has
        self.link: Link | None = None
        self.cable = True  # between us and the link
        self.carrier = False
        """The link knows that frames for the guest may get there."""
        self.drain_s, self.stall_s = drain_s, stall_s
        self.queues: list[BackQueue] = []
        self.lanes: list[Link] = []
        """For each queue, its way through the link."""
        self.rings: list[Mapping] = []
        self.accepts: Accepts | None = None
        """What the connected frontend takes."""
        self.rate: tuple[int, int] | None = None
        """What the guest may send: (bytes, in usec); None: as much as it likes."""
        self.flips = False
        """Frames get into the guest by page flipping, not by copy."""
        self.multicast = MulticastControl(self.features)
        self.headroom = 0
        """Bytes left free in front of the data in each of the guest's pages, as it asked."""
        self.hashing = Hashing()
        """Which flows the guest wants hashed, and where it wants them."""
        self.disabled = False
        self.counters = Counters("tx_errors", "rx_drops", "rx_defer")

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

        yield from offer(home, self.profile, self.features, self.max_queues)
        yield from self.switch(S.InitWait)
        self.watch(f"{home}/hotplug-status")
        self.watch(f"{home}/rate")
        self.watch(f"{self.otherend}/state")
        if self.multicast.any_time:
            self.watch(f"{self.otherend}/{REQUEST}")
        self.hotplug(self)

    def plug(self, link: Link) -> None:
        """Hotplug made the link (vif-bridge: a TAP in a bridge; vif-vnic: a vnic)."""
        self.link = link
        self.session.run(hotplug_connected(self.nodename), self.watched)

    def hotplug_failed(self, reason: str) -> None:
        """Hotplug could not."""
        self.note(f"hotplug: {reason}")
        self.session.run(hotplug_failed(self.nodename, reason), self.watched)

    # --- following the frontend

    def reconcile(self) -> Conversation[None]:
        """Go where the frontend's state wants us, one visible state at a time."""
        self.limit(parse_rate((yield Read(f"{self.nodename}/rate"))))
        if self.queues and self.multicast.any_time and self.multicast.asked((yield Read(f"{self.otherend}/{REQUEST}"))):
            self.plugged(self.cable)
        frontend = yield from read_state(self.otherend)
        if frontend is None:
            raise XnetError(f"{self.otherend}/state is no state")
        if frontend is S.Reconfiguring and self.queues:
            yield from self.reconfigure()
        wanted = WANTED.get(frontend)
        if wanted is None:
            return
        if wanted is S.InitWait and (self.state is S.Connected or self.queues):
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
        if not self.queues:
            said = yield from read_said(self.otherend, self.max_queues, ctrl_ring=self.features.ctrl_ring)
            if self.link is None:
                return  # hotplug-status is watched
            self.attach_rings(said)
        status = yield Read(f"{self.nodename}/hotplug-status")
        if status == "connected":
            yield from self.switch(S.Connected)

    def attach_rings(self, said: Said) -> None:
        """Map the rings, bind the ports, build the queues and plug them into the link. XnetError: nothing is held."""
        assert self.link is not None, "rings are attached after hotplug"
        try:
            keys, places, count = said.keys, said.queues, len(said.queues)
            self.accepts = agree(keys, self.sends)
            if self.profile.sdu:
                self.accepts = replace(self.accepts, max_frame=self.profile.sdu + ETH_HLEN + VLAN_HLEN)
            self.flips = flips(keys["request-rx-copy"], self.features)
            self.multicast.asked(keys[REQUEST])
            self.headroom = headroom(keys[HEADROOM], self.features, flips=self.flips)
            if said.control is None or any(queue >= count for queue in self.hashing.mapping):
                self.hashing = Hashing()  # a driver before us was told of it by another connection
            if said.control is not None:
                self.attach_control(said.control, count)
            self.lanes = self.link.ways(1) if count == 1 else [*Lanes(self.link, count, self.hashing).lanes]
            for place, lane in zip(places, self.lanes, strict=True):
                pages = self.map_rings([place.tx_ref, place.rx_ref])
                tx = BackRing.attach_at_rsp_prod(pages[0], TX_SLOT_SIZE)
                rx = BackRing.attach_at_rsp_prod(pages[1], RX_SLOT_SIZE)
                ports = [place.tx_port, place.rx_port]
                self.build_queue(tx, rx, lane, ports, notified=bool(number(keys["feature-rx-notify"])))
            self.plugged(self.cable)
        except XnetError:
            self.disconnect()
            raise

    def attach_control(self, place: ControlPlace, queues: int) -> None:
        """Map and bind the control ring, by which the guest sets how flows are hashed."""
        [page] = self.map_rings([place.ref])
        port = bind(self.xen, self.peer, place.port)
        self.ports.append(port)
        control = BackControl(
            self.xen,
            self.peer,
            page,
            port,
            arena=self.arena,
            hashing=self.hashing,
            queues=queues,
            changed=self.deliver_anew,
        )
        self.xen.set_handler(port, guarded(control.on_event, self.rogue))

    def limit(self, rate: tuple[int, int] | None) -> None:
        """What the toolstack says the guest may send."""
        if rate != self.rate:
            self.rate = rate
            for queue in self.queues:
                queue.limit(rate, self.clock)

    def map_rings(self, refs: list[int]) -> list[memoryview]:
        """The frontend's ring pages in our window."""
        pages = []
        for ref in refs:
            ring = map_ring(self.xen, self.peer, ref)
            self.rings.append(ring)
            pages.append(self.xen.window[ring.addr : ring.addr + PAGE_SIZE])
        return pages

    def build_queue(self, tx: BackRing, rx: BackRing, lane: Link, remote: list[int], *, notified: bool) -> None:
        """Bind the channels (one, or one each way) and start."""
        assert self.accepts is not None, "features are agreed before the queue"
        xen = self.xen
        ports = []
        for port in dict.fromkeys(remote):
            ports.append(bind(xen, self.peer, port))
            self.ports.append(ports[-1])
        tx_port, rx_port = ports[0], ports[-1]
        copy = self.tx_mode == "copy"
        queue = BackQueue(
            xen,
            tx,
            rx,
            link=lane,
            fetcher=CopyFetch(xen, self.peer, self.arena, lane.heads_only) if copy else MapFetch(xen, self.peer),
            deliverer=self.deliverer(),
            arena=self.arena,
            accepts=self.accepts,
            tx_port=tx_port,
            rx_port=rx_port,
            fail=self.rogue,
            counters=self.counters if len(self.lanes) == 1 else Counters(),
            patience=Patience(self.clock, self.drain_s, self.stall_s, notified),
            carrier=self.set_carrier,
            regroup=self.multicast.regroup if self.multicast.offered else None,
        )
        self.queues.append(queue)
        queue.limit(self.rate, self.clock)
        if tx_port == rx_port:
            xen.set_handler(tx_port, guarded(queue.on_both, self.rogue))
        else:
            xen.set_handler(tx_port, guarded(queue.on_tx, self.rogue))
            xen.set_handler(rx_port, guarded(queue.on_rx, self.rogue))

    def plugged(self, cable: bool) -> None:
        """The cable between us and the link is in, or out: then nothing passes, either way."""
        self.cable = cable
        for queue, lane in zip(self.queues, self.lanes, strict=True):
            queue.link = lane if cable else Unplugged(self.counters)
            lane.attach(self.multicast.client(queue, self.counters) if cable else None)
        self.multicast.follow(self.link)
        for queue in self.queues:
            guarded(queue.recover, self.rogue)()
            queue.link_ready()
        self.set_carrier()

    def set_carrier(self) -> None:
        """Tell the link whether frames for the guest may get there: it is connected, and no queue of it stalls."""
        ready = bool(self.queues) and not any(queue.patience.stalled for queue in self.queues)
        on = ready and self.cable and not self.disabled
        if on != self.carrier and self.link is not None:
            self.carrier = on
            self.link.carrier(on)

    def reconfigure(self) -> Conversation[None]:
        """The frontend wants other headroom. Linux's netback is Connected all the same, whatever it writes."""
        self.headroom = headroom((yield Read(f"{self.otherend}/{HEADROOM}")), self.features, flips=self.flips)
        self.deliver_anew()
        yield from switch_state(self.nodename, S.Reconfigured)

    def deliverer(self) -> Deliver:
        """How frames get into the guest."""
        return deliverer(
            self.xen,
            self.peer,
            self.name,
            flips=self.flips,
            lead=self.profile.headroom,
            headroom=self.headroom,
            hashing=self.hashing,
        )

    def deliver_anew(self) -> None:
        """The guest wants its frames another way than before."""
        for queue in self.queues:
            queue.deliverer.close()
            queue.deliverer = self.deliverer()

    # --- the end

    def disconnect(self) -> None:
        """Unplug the queues; close ports, unmap rings."""
        self.unplug()
        self.multicast.forget()
        for queue in self.queues:
            queue.close()
            if queue.counters is not self.counters:
                self.counters.add(queue.counters)
        self.queues.clear()
        self.lanes.clear()
        self.set_carrier()
        self.release_ports()
        if self.rings:
            self.xen.unmap_grants([ring.handle for ring in self.rings])
        self.rings, self.accepts, self.hashing = [], None, Hashing()

    def unplug(self) -> None:
        """Take nothing from the link any more."""
        for lane in self.lanes:
            lane.attach(None)

    def rogue(self, reason: str) -> None:
        """Disable the vif: rings untouched from now on, requests unanswered, state unchanged, as Linux does it."""
        if self.disabled:
            return
        self.disabled = True
        self.unplug()
        self.set_carrier()
        for queue in self.queues:
            queue.halt()
        for port in self.ports:
            self.xen.set_handler(port, None)
        self.note(f"{reason}; disabled until it reconnects")

    def stop(self) -> None:
        """Let go of everything, the directory's watches included."""
        self.unwatch()
        self.link = None  # whoever has it next says what its carrier is
        self.disconnect()

    def tick(self) -> None:
        """Once a second."""
        for queue in self.queues:
            if not self.disabled:
                guarded(queue.tick, self.rogue)()

    def statistics(self) -> dict[str, int]:
        """Counters since the device was made, of all its queues; drops and errors by cause."""
        return self.counters.statistics({queue.counters for queue in self.queues} - {self.counters})

    def agreed(self) -> dict[str, bool]:
        """What is agreed toward the guest."""
        if self.accepts is None:
            return {}
        ways = {"rx-copy": not self.flips, "rx-flip": self.flips, "multicast-control": self.multicast.filters}
        return describe(self.accepts) | ways
