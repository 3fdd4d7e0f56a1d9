"""Netfront: the guest's end of one vif, from its directory in xenstore to a connected queue and back.

Order (real-world recording: Linux 6.1's xen-netfront): wait for the backend's InitWait; look at what it offers; make
rings, grants and ports; write the keys in one transaction; Connected. It may use the rings at once: what it sends
before the backend has bound its port is pending there. When the backend closes, the frontend answers Closed; when the
backend is Closed or gone, it takes back its pages and grants, for not before has the backend let go of them. When a
backend comes back to InitWait, or `open` is called, it starts again from Initialising.
"""

from __future__ import annotations

from typing import Protocol

from xnet.abi.xen.xenbus import XenbusState
from xnet.frame import Client
from xnet.frame.offload import Accepts
from xnet.hv.api import Xen
from xnet.netif.counters import Counters
from xnet.netif.device import Device, Observer
from xnet.netif.features import OFFLOAD_KEYS, Features, agree, describe, flag, number
from xnet.netif.front_queue import FrontQueue
from xnet.netif.gather import guarded
from xnet.xenstore import Conversation, Read, Rm, Session, Write, in_transaction
from xnet.xenstore.xenbus import read_state

S = XenbusState
ENODEV = 19


class Nic(Protocol):
    """The guest's network interface above the frontend: the TAP and its kernel."""

    @property
    def device(self) -> Client:
        """Who takes the guest's frames, and is told when the queue, once full, has room."""

    def connected(self, queue: FrontQueue, accepts: Accepts) -> None:
        """The queue may be filled from now on, with what `accepts` says."""

    def carrier(self, on: bool) -> None:
        """The backend came to life, or went."""

    def disconnected(self) -> None:
        """Touch the queue no more."""


class Netfront(Device):
    """One vif's frontend. The nic is told when there is a queue to put frames into."""

    def __init__(
        self,
        xen: Xen,
        session: Session,
        handle: int,
        nic: Nic,
        *,
        features: Features = Features(),  # noqa: B008 (frozen)
        observe: Observer | None = None,
    ) -> None:
        super().__init__(xen, session, f"device/vif/{handle}", f"d{xen.domid}: device/vif/{handle}", observe)
        self.handle = handle
        self.nic = nic
        self.features = features
        self.queue: FrontQueue | None = None
        self.accepts: Accepts | None = None
        """What the connected backend takes."""
        self.broken = False
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

    def reconcile(self) -> Conversation[None]:
        """Do what the backend's state calls for."""
        backend = yield from read_state(self.otherend)
        if backend is S.InitWait and self.wanted_open:
            if self.state is S.Closed:
                yield from self.switch(S.Initialising)
            if self.state is S.Initialising:
                yield from self.connect()
        elif backend is S.Connected and self.state is S.Connected:
            self.nic.carrier(True)
            self.reason = ""
        elif backend in (S.Closing, S.Closed, S.Unknown):
            if backend is S.Closing:
                self.quiesce()  # it may still hold our pages: they are ours again when it is Closed, or gone
            else:
                self.disconnect()
            if self.state in (S.Connected, S.Closing):
                yield from self.switch(S.Closed)

    def connect(self) -> Conversation[None]:
        """Everything from the backend's offer to our Connected."""
        offered = yield Read(f"{self.otherend}/feature-rx-copy")
        if not number(offered):
            self.fail(ENODEV, "backend does not support copying receive path (feature-rx-copy)")
            return
        split = number((yield Read(f"{self.otherend}/feature-split-event-channels"))) and (
            self.features.split_event_channels
        )
        queues = yield Read(f"{self.otherend}/multi-queue-max-queues")
        self.disconnect()
        self.make_queue(bool(split))
        keys = self.keys(with_queues=queues is not None)

        def write() -> Conversation[None]:
            for name, value in keys.items():
                yield Write(f"{self.nodename}/{name}", value)
            for name in {"event-channel", "event-channel-tx", "event-channel-rx"} - keys.keys():
                if (yield Read(f"{self.nodename}/{name}")) is not None:
                    yield Rm(f"{self.nodename}/{name}")  # of a connection before, with another backend

        yield from in_transaction(write)
        offers: dict[str, str | None] = {}
        for name in OFFLOAD_KEYS:
            offers[name] = yield Read(f"{self.otherend}/{name}")
        self.accepts = agree(offers, self.features)
        if self.queue is not None:
            self.queue.accepts = self.accepts
            self.nic.connected(self.queue, self.accepts)
        yield from self.switch(S.Connected)

    def make_queue(self, split: bool) -> None:
        """Rings, buffers, and a port for both or one each way."""
        xen = self.xen
        for _ in range(2 if split else 1):
            self.ports.append(xen.alloc_unbound(self.peer))
        tx_port, rx_port = self.ports[0], self.ports[-1]
        queue = FrontQueue(
            xen,
            self.peer,
            device=self.nic.device,
            tx_port=tx_port,
            rx_port=rx_port,
            counters=self.counters,
        )
        self.queue = queue
        self.broken = False

        if split:
            xen.set_handler(tx_port, guarded(queue.on_tx, self.rogue))
            xen.set_handler(rx_port, guarded(queue.on_rx, self.rogue))
        else:
            xen.set_handler(tx_port, guarded(queue.on_both, self.rogue))

    def keys(self, *, with_queues: bool) -> dict[str, str]:
        """What a connecting frontend writes, in Linux's order."""
        assert self.queue is not None, "keys tell of a queue"
        keys = {"multi-queue-num-queues": "1"} if with_queues else {}
        keys["tx-ring-ref"], keys["rx-ring-ref"] = str(self.queue.refs), str(self.queue.refs + 1)
        if len(self.ports) == 2:
            keys["event-channel-tx"], keys["event-channel-rx"] = map(str, self.ports)
        else:
            keys["event-channel"] = str(self.ports[0])
        keys["request-rx-copy"] = "1"
        keys["feature-rx-notify"] = flag(self.features.rx_notify)
        return keys | self.features.offload_keys()

    # --- by request

    def close(self) -> None:
        """Shut down in order, as a driver that is unloaded: Closing, and Closed when the backend has followed."""
        self.wanted_open = False

        def closing() -> Conversation[None]:
            yield from self.switch(S.Closing)

        if self.state is S.Connected:
            self.session.run(closing(), self.watched)

    def open(self) -> None:
        """Come back after `close`."""
        self.wanted_open = True

        def initialising() -> Conversation[None]:
            yield from self.switch(S.Initialising)
            self.look()

        self.session.run(initialising(), self.watched)

    # --- the end

    def quiesce(self) -> None:
        """Take the queue from the nic and look at the rings no more."""
        if self.queue is not None:
            self.nic.disconnected()
            for port in self.ports:
                self.xen.set_handler(port, None)

    def disconnect(self) -> None:
        """Be done with the queue; give back pages, references and ports."""
        if self.queue is not None:
            self.quiesce()
            self.queue.close()
            self.queue = None
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

    def statistics(self) -> dict[str, int]:
        """Counters since the device was made; errors by cause."""
        return self.counters.statistics()

    def agreed(self) -> dict[str, bool]:
        """What is agreed toward the backend."""
        return describe(self.accepts) if self.accepts is not None else {}
