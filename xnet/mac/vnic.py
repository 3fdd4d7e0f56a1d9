"""Vnic: a MAC client with an address of its own, and the Link of one netback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from xnet.frame import Chain, Client
from xnet.frame.chain import POLLED
from xnet.mac.lanes import Lanes, Row
from xnet.mac.port import Port
from xnet.mac.stage import Guard, Stage
from xnet.mac.vswitch import Switch

ROOM: Final = 1 << 16
"""Frames a vnic always takes: a switch port accepts, and its receivers drop by name."""


class Vnic(Port):
    """One port of a switch. It is in the table from its making until `close`, with a client or without.

    ``ipackets rbytes``   frames and bytes toward the client, ``opackets obytes`` away from it: a frame that is not
    yet segmented is one packet. ``oerrors``: larger than the link, or no whole Ethernet header. ``txerrors``: tagged,
    and not its to tag. ``no_client``: came while nobody was attached.
    """

    def __init__(
        self,
        name: str,
        switch: Switch,
        mac: bytes,
        *,
        vid: int = 0,
        mtu: int | None = None,
        all_multicast: bool = True,
    ) -> None:
        """`vid` 1 to 4094, or 0 for untagged; `mtu` at most the link's, which is the default. MacError."""
        self.name = name
        self.mac = bytes(mac)
        self.macs = (self.mac,)
        self.vid = vid
        self.mtu = switch.mtu if mtu is None else mtu
        self.heads_only = True
        self.all_multicast = all_multicast
        self.joined: set[bytes] = set()
        self.filtered = True
        self.promiscuous = False
        self.ipackets = self.rbytes = self.opackets = self.obytes = 0
        self.counters = dict.fromkeys(("oerrors", "txerrors", "no_client"), 0)
        self.up = True
        """Its link state; down, it has no client."""
        self.guard: Guard | None = None
        """What it may send; None: anything."""
        self.out: Stage | None = None
        """What frames pass on their way to `send`; None: nothing."""
        self.into: Stage | None = None
        """What frames pass on their way to `deliver`; None: nothing."""
        self._lanes = Lanes()
        self._client: Client | None = None
        self._attached: Client | None = None
        self._switch = switch
        switch.add(self)
        self._open = True

    def tx(self, chain: Chain) -> None:  # hot: 0.5 us a frame
        """Frames away from the guest; once closed, nowhere."""
        if not self._open:
            return
        chain.came &= POLLED  # whatever it was before: from here on it is a client's
        if self.guard is not None:
            chain = self.guard.passed(chain)
            if not chain.frames:
                return
        if self.out is None:
            self._switch.tx(self, chain)
        else:
            self.out.take(chain)

    def send(self, chain: Chain) -> None:
        """Through the switch: where `out` hands frames on."""
        if self._open:
            self._switch.tx(self, chain)

    def sent(self, frames: int, size: int) -> None:  # hot
        """Count frames away from the guest, and their bytes: the switch took them."""
        self.opackets += frames
        self.obytes += size
        self._lanes.sent(frames, size)

    def sent_group(self, frames: int, size: int) -> None:
        """So many of those were for a group."""
        self._lanes.sent_group(frames, size)

    def group(self, frames: int, size: int) -> None:
        """So many of the chain that comes next are for a group."""
        self._lanes.group(frames, size)

    def rx(self, chain: Chain) -> None:  # hot: 0.05 us a frame
        """Frames toward the guest: the switch delivers here."""
        if self._client is None:
            self._lanes.forget()
        else:
            self._lanes.take(chain)
        if self.guard is not None:
            self.guard.learn(chain)
        if self.into is None:
            self.deliver(chain)
        else:
            self.into.take(chain)

    def deliver(self, chain: Chain) -> None:  # hot
        """To the client: where `into` hands frames on."""
        client = self._client
        if client is None:
            self.counters["no_client"] += len(chain.frames)
            return
        self.ipackets += len(chain.frames)
        self.rbytes += chain.size()
        client.rx(chain)

    def room(self) -> int:
        """Always plenty: one stalled guest must not block another."""
        return ROOM

    def client_ready(self) -> None:
        """Only a wire that is this vnic's alone has waited."""
        self._switch.port_ready(self)

    def backlog(self) -> int:
        """Packets that wait behind it."""
        return 0 if self._client is None else self._client.backlog()

    def alone(self, alone: bool) -> None:
        """Whether the wire is its own."""
        self._lanes.alone(alone)

    def attach(self, client: Client | None) -> None:
        """Plug the guest's end in, or out with None."""
        self._attached = client
        self._client = client if self.up else None
        self._listen()
        self.client_ready()

    def carrier(self, on: bool) -> None:
        """The link state: down, frames for the client are for nobody."""
        self.up = on
        self.attach(self._attached)

    def follow(self, groups: frozenset[bytes] | None) -> None:
        """The groups the guest is in: the switch delivers no others. None: it is in all of them."""
        self.all_multicast = groups is None
        self.joined = set(groups or ())
        self._switch.regroup()
        self._listen()

    def join(self, group: bytes) -> None:
        """Take a multicast group's frames; needed only without `all_multicast`."""
        self.joined.add(bytes(group))
        self._switch.regroup()

    def leave(self, group: bytes) -> None:
        """Take them no longer; nothing happens when it was not joined."""
        self.joined.discard(bytes(group))
        self._switch.regroup()

    def filter(self, on: bool) -> None:
        """Link property ``promisc-filtered``: off, a client that wants all groups gets all frames, whosever."""
        self.filtered = on
        self._listen()

    def _listen(self) -> None:
        """Whether it is promiscuous may have changed."""
        promiscuous = self._client is not None and self.all_multicast and not self.filtered
        if promiscuous != self.promiscuous:
            self.promiscuous = promiscuous
            self._switch.listens()

    def give(self, others: Iterable[bytes]) -> None:
        """Link property ``secondary-macs``: these addresses besides its own. MacError."""
        self._switch.give(self, others)

    def close(self) -> None:
        """Leave the switch; the address is free again."""
        self.attach(None)
        if self._open:
            self._open = False
            self._switch.remove(self)

    def lanes(self, caps: Mapping[str, int] | None = None) -> dict[str, list[Row]]:
        """What dlstat shows lane by lane. `caps`: what they count, ``rxsdrops txsdrops blkcnt ublkcnt``."""
        found = caps or {}
        return self._lanes.rows(*(found.get(name, 0) for name in ("rxsdrops", "txsdrops", "blkcnt", "ublkcnt")))

    def statistics(self) -> dict[str, int]:
        """Counters since the vnic was made."""
        return {name: getattr(self, name) for name in ("ipackets", "rbytes", "opackets", "obytes")} | self.counters
