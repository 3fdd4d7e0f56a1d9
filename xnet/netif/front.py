"""Netfront: the guest's end of one vif, from its directory in xenstore to a connected queue and back.

Order (real-world recording: Linux 6.1's xen-netfront): wait for the backend's InitWait; look at what it offers; make
rings, grants and ports; write the keys in one transaction; Connected. It may use the rings at once: what it sends
before the backend has bound its port is pending there. When the backend closes, the frontend answers Closed; when the
backend is Closed or gone, it takes back its pages and grants, for not before has the backend let go of them. When a
backend comes back to InitWait, or `open` is called, it starts again from Initialising.
"""

from __future__ import annotations

from xnet.abi.xen.xenbus import XenbusState
from xnet.errors import XnetError
from xnet.frame.offload import Accepts
from xnet.hv.api import Xen
from xnet.netif.counters import Counters
from xnet.netif.device import Device, Observer
from xnet.netif.features import ADDRESS, MTU_WITHOUT_SG, OFFLOAD_KEYS, Features, agree, describe, flag, number, rx_mode
from xnet.netif.front_ctrl import FrontControl
from xnet.netif.front_queue import FrontQueue
from xnet.netif.gather import guarded
from xnet.netif.joined import Multicast
from xnet.netif.nic import Nic
from xnet.netif.profile import LINUX, FrontProfile, both, told
from xnet.netif.shaped import front_queue
from xnet.xenstore import Conversation, Read, Rm, Session, Write, in_transaction
from xnet.xenstore.xenbus import dev_error, read_state

S = XenbusState
ENOENT, ENODEV = 2, 19
HEADROOM = "feature-xdp-headroom"
OUT: dict[XenbusState | None, XenbusState] = {
    S.Connected: S.Closing,
    S.Closing: S.Closed,
    S.Closed: S.Initialising,
}
"""What a frontend writes to get a backend out of an old connection, by the backend's state (Windows)."""


class Netfront(Device):
    """One vif's frontend. The nic is told when there is a queue to put frames into."""

    def __init__(
        self,
        xen: Xen,
        session: Session,
        handle: int,
        nic: Nic,
        *,
        features: Features = Features(multicast_control=False, ctrl_ring=False),  # noqa: B008 (frozen)
        profile: FrontProfile = LINUX,
        headroom: int = 0,
        observe: Observer | None = None,
    ) -> None:
        super().__init__(xen, session, f"device/vif/{handle}", f"d{xen.domid}: device/vif/{handle}", observe)
        self.handle = handle
        self.nic = nic
        self.profile = profile
        self.failed = profile.failed
        self.features = both(features, profile.takes)
        """What it takes from the backend."""
        self.sends = both(features, profile.sends)
        """What it uses of the backend's offer."""
        self.doubt = ""
        """Why this backend may turn us away, if it does."""
        self.queues: list[FrontQueue] = []
        self.accepts: Accepts | None = None
        """What the connected backend takes."""
        self.rx_mode = "copy"
        """How frames get into the guest; agreed on connect."""
        self.multicast = Multicast(self)
        self.control: FrontControl | None = None
        self.headroom = headroom
        """Bytes it wants free in front of the data in each rx page."""
        self.broken = False
        self.bounces = False
        """The backend is not trusted; known on connect."""
        self.used = False
        """The nic has the queues."""
        self.most_queues = 0
        """Directories of queues there may be in ours."""
        self.written: tuple[str, ...] = ()
        """Keys and directories of ours, of this connection."""
        self.found_old = profile.drives
        """Whatever the backend is in may be an old connection."""
        self.wanted_open = True
        self.counters = Counters("tx_errors", "tx_oversize", "rx_errors")

    def start(self) -> None:
        """The directory is there: find the backend and follow it."""
        self.busy = True
        self.session.run(self.probe(), self.looked)

    def probe(self) -> Conversation[None]:
        """Where the backend is; from now on its state is watched."""
        self.peer = number((yield Read(f"{self.nodename}/backend-id")))
        self.otherend = (yield Read(f"{self.nodename}/backend")) or ""
        self.watch(f"{self.otherend}/state")
        if self.profile.disconnect_key:
            self.watch(f"{self.nodename}/disconnect")

    def reconcile(self) -> Conversation[None]:
        """Do what the backend's state calls for."""
        backend = yield from read_state(self.otherend)
        if self.found_old and self.wanted_open and (yield from self.lead(backend)):
            return
        if backend in self.profile.connects_at and self.wanted_open:
            if self.state is S.Closed:
                yield from self.switch(S.Initialising)
            if self.state is S.Initialising:
                yield from self.connect()
        elif backend is S.Connected and self.state is S.Connected:
            if self.profile.waits:
                self.use()
            self.nic.carrier(not (self.profile.disconnect_key and (yield Read(f"{self.nodename}/disconnect")) == "1"))
            self.reason = self.doubt = ""
        elif backend is S.Reconfigured and self.state is S.Reconfiguring:
            yield from self.switch(S.Connected)
        elif backend in (S.Closing, S.Closed, S.Unknown):
            if backend is S.Closing:
                self.quiesce()  # it may still hold our pages: they are ours again when it is Closed, or gone
            else:
                self.disconnect()
            if self.state is S.Connected and self.doubt and backend is not S.Unknown:
                self.note(f"the backend closed instead of connecting: {self.doubt}")
                yield from dev_error(self.nodename, ENODEV, self.reason)
            if self.state in (S.Connected, S.Closing):
                yield from self.switch(S.Closed)

    def lead(self, backend: XenbusState | None) -> Conversation[bool]:
        """A backend that is still in a connection before ours is shown the way out of it; whether it was."""
        wanted = OUT.get(backend)
        if wanted is S.Initialising and not number((yield Read(f"{self.otherend}/online"))):
            wanted = None
        self.found_old = wanted in (S.Closing, S.Closed)
        if wanted is not None:
            yield from self.switch(wanted)
        return wanted is not None

    def connect(self) -> Conversation[None]:
        """Everything from the backend's offer to our Connected."""
        profile = self.profile
        if not (yield from self.choose_rx_mode()):
            return
        if not (yield from self.identify()):
            return
        split = self.parse((yield Read(f"{self.otherend}/feature-split-event-channels"))) and (
            self.features.split_event_channels
        )
        offered = yield Read(f"{self.otherend}/multi-queue-max-queues")
        yield from self.multicast.negotiate()
        control = self.features.ctrl_ring and self.parse((yield Read(f"{self.otherend}/feature-ctrl-ring")))
        self.disconnect()
        count = max(1, min(len(self.nic.devices), profile.queues, number(offered, 1)))
        for index in range(count):
            self.make_queue(index, bool(split), alone=count == 1)
        if control:
            self.make_control()
        keys = told(self.keys(count if self.says_queues(offered, count) else 0), profile.keys)
        if not profile.keys and self.features.xdp_headroom and self.parse((yield Read(f"{self.otherend}/{HEADROOM}"))):
            keys = {"xdp-headroom": str(self.headroom), **keys}

        def write() -> Conversation[None]:
            for name, value in keys.items():
                yield Write(f"{self.nodename}/{name}", value)
            yield from self.forget(keys)
            if profile.state_within and (yield Read(f"{self.nodename}/state")) is not None:
                yield Write(f"{self.nodename}/state", S.Connected.value)

        yield from in_transaction(write)
        self.written = tuple(dict.fromkeys(name.partition("/")[0] for name in keys))
        offers: dict[str, str | None] = {}
        for name in OFFLOAD_KEYS:
            offers[name] = flag(self.parse((yield Read(f"{self.otherend}/{name}"))))
        self.accepts = agree(offers, self.sends)
        if not profile.waits:
            self.use()
        if profile.state_within:
            self.state = S.Connected
            self.changed()
        else:
            yield from self.switch(S.Connected)

    def forget(self, keys: dict[str, str]) -> Conversation[None]:
        """Remove what a connection before wrote and this one does not: another backend, another number of queues."""
        homes = {name.partition("/")[0] for name in keys}
        old = ["tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx", "event-channel-rx"]
        old += ["request-multicast-control", "xdp-headroom", "ctrl-ring-ref", "event-channel-ctrl"]
        for name in (*old, *(f"queue-{index}" for index in range(self.most_queues))):
            if name not in homes and (yield Read(f"{self.nodename}/{name}")) is not None:
                yield Rm(f"{self.nodename}/{name}")
        self.most_queues = max(self.most_queues, len(self.queues) if "queue-0" in homes else 0)

    def choose_rx_mode(self) -> Conversation[bool]:
        """Copy or flip; False: the backend does neither of what we are able to."""
        modes: dict[str, str | None] = {}
        for name in ("feature-rx-copy", "feature-rx-flip"):
            text = yield Read(f"{self.otherend}/{name}")
            modes[name] = None if text is None else flag(self.parse(text))
        self.doubt = ""
        try:
            self.rx_mode = rx_mode(modes, self.features)
        except XnetError as error:
            if self.profile.needs_rx_copy:
                self.fail(ENODEV, str(error))
                return False
            self.rx_mode, self.doubt = "copy", str(error)
        return True

    def parse(self, text: str | None) -> bool:
        """A feature of the backend's, as this frontend reads it; absent ones are off."""
        return text is not None and self.profile.parse(text)

    def says_queues(self, offered: str | None, count: int) -> bool:
        """Whether the number of queues is told."""
        when = self.profile.says_queues
        return when == "always" or (when == "offered" and offered is not None) or (when == "many" and count > 1)

    def identify(self) -> Conversation[bool]:
        """Who we are: the MAC address, and the MTU where it is asked for. False: without an address we are nobody."""
        mac = None
        for end in self.profile.mac:
            mac = mac or (yield Read(f"{self.nodename if end == 'front' else self.otherend}/mac"))
        if mac is None or not ADDRESS.fullmatch(mac):
            self.fail(ENOENT, f"parsing {self.nodename}/mac")
            return False
        mtu = number((yield Read(f"{self.nodename}/mtu"))) or MTU_WITHOUT_SG if self.profile.mtu_key else None
        self.nic.identify(mac, mtu)
        self.bounces = self.profile.bounces and (yield Read(f"{self.nodename}/trusted")) == "0"
        return True

    def use(self) -> None:
        """The nic may use the queues from now on."""
        if self.queues and self.accepts is not None and not self.used:
            self.used = True
            for queue in self.queues:
                queue.accepts = self.accepts
            self.nic.connected(self.queues, self.accepts)
            self.multicast.begin()
            if self.control is not None:
                self.control.steer(range(len(self.queues)))

    def make_queue(self, index: int, split: bool, *, alone: bool) -> None:
        """Rings, buffers, and a port for both or one each way."""
        xen = self.xen
        ports = [xen.alloc_unbound(self.peer) for _ in range(2 if split else 1)]
        self.ports += ports
        tx_port, rx_port = ports[0], ports[-1]
        queue = front_queue(
            xen,
            self.peer,
            self.profile.shape,
            flip=self.rx_mode == "flip",
            bounce=self.bounces,
            fail=self.rogue,
            device=self.nic.devices[index],
            tx_port=tx_port,
            rx_port=rx_port,
            counters=self.counters if alone else Counters(),
        )
        self.queues.append(queue)
        self.broken = self.used = False

        if split:
            xen.set_handler(tx_port, guarded(queue.on_tx, self.rogue))
            xen.set_handler(rx_port, guarded(queue.on_rx, self.rogue))
        else:
            xen.set_handler(tx_port, guarded(queue.on_both, self.rogue))

    def make_control(self) -> None:
        """The control ring, with a port of its own."""
        port = self.xen.alloc_unbound(self.peer)
        self.ports.append(port)
        self.control = FrontControl(
            self.xen, self.peer, port, self.counters, lambda text: self.xen.console(f"{self.name}: {text}")
        )
        self.xen.set_handler(port, guarded(self.control.on_event, self.rogue))

    def keys(self, count: int) -> dict[str, str]:
        """What a connecting frontend writes, in Linux's order. `count`: the number of queues it tells, 0 for none."""
        keys = {"multi-queue-num-queues": str(count)} if count else {}
        for index, queue in enumerate(self.queues):
            home = f"queue-{index}/" if len(self.queues) > 1 else ""
            keys[f"{home}tx-ring-ref"], keys[f"{home}rx-ring-ref"] = str(queue.refs), str(queue.refs + 1)
            if queue.tx_port != queue.rx_port:
                keys[f"{home}event-channel-tx"] = str(queue.tx_port)
                keys[f"{home}event-channel-rx"] = str(queue.rx_port)
            else:
                keys[f"{home}event-channel"] = str(queue.tx_port)
        keys["request-rx-copy"] = flag(self.rx_mode == "copy")
        keys["feature-rx-notify"] = flag(self.features.rx_notify)
        keys |= self.features.offload_keys()
        if self.multicast.asked:
            keys["request-multicast-control"] = "1"
        if self.control is not None:
            keys |= {"ctrl-ring-ref": str(self.control.refs), "event-channel-ctrl": str(self.control.port)}
        return keys

    # --- by request

    def close(self) -> None:
        """Shut down in order, as a driver that is unloaded: Closing, and Closed when the backend has followed."""
        self.wanted_open = False

        def closing() -> Conversation[None]:
            yield from self.switch(S.Closing)
            for name in self.written if self.profile.forgets else ():
                yield Rm(f"{self.nodename}/{name}")

        if self.state is S.Connected:
            self.session.run(closing(), self.watched)

    def reserve(self, headroom: int) -> None:
        """Want other headroom: Reconfiguring until the backend gives it. Nothing happens if it cannot be asked for."""
        self.headroom = headroom

        def reconfiguring() -> Conversation[None]:
            yield Write(f"{self.nodename}/xdp-headroom", str(headroom))
            yield from self.switch(S.Reconfiguring)

        if self.state is S.Connected and "xdp-headroom" in self.written:
            self.session.run(reconfiguring(), self.watched)

    def open(self) -> None:
        """Come back after `close`."""
        self.wanted_open = True

        def initialising() -> Conversation[None]:
            yield from self.switch(S.Initialising)
            self.look()

        self.session.run(initialising(), self.watched)

    def resume(self) -> None:
        """The domain slept, and who knows what became of the rings: connect anew. The old ones are given back when the
        backend has let go of them."""
        self.quiesce()
        self.open()

    # --- the end

    def quiesce(self) -> None:
        """Take the queues from the nic and look at the rings no more."""
        if self.queues:
            self.nic.disconnected()
            for port in self.ports:
                self.xen.set_handler(port, None)

    def disconnect(self) -> None:
        """Be done with the queues; give back pages, references and ports."""
        if self.queues:
            self.quiesce()
        for queue in self.queues:
            queue.close()
            if queue.counters is not self.counters:
                self.counters.add(queue.counters)
        self.queues.clear()
        if self.control is not None:
            self.control.close()
            self.control = None
        self.release_ports()
        self.accepts = None

    def rogue(self, reason: str) -> None:
        """A broken backend: use nothing more of this connection (Linux's `broken`)."""
        if self.broken:
            return
        self.broken = True
        self.quiesce()
        self.note(f"{reason}; broken until it reconnects")

    def stop(self) -> None:
        """The domain goes: no more looks, everything given back."""
        self.unwatch()
        self.disconnect()

    @property
    def queue(self) -> FrontQueue | None:
        """The first one, or the only one."""
        return self.queues[0] if self.queues else None

    def statistics(self) -> dict[str, int]:
        """Counters since the device was made, of all its queues; errors by cause."""
        return self.counters.statistics({queue.counters for queue in self.queues} - {self.counters})

    def agreed(self) -> dict[str, bool]:
        """What is agreed toward the backend."""
        if self.accepts is None:
            return {}
        return describe(self.accepts) | {
            "multicast-control": self.multicast.asked,
            "ctrl-ring": self.control is not None,
        }

    @property
    def pages(self) -> int:
        """Of the guest's memory, each with a grant reference, that this connection has."""
        return sum(queue.pages for queue in self.queues) + (0 if self.control is None else self.control.pages)
