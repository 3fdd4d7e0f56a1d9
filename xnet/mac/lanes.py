"""Lanes: what dlstat shows of the ways frames take into a MAC client, and out of it.

=======  ===================================================================================================
lane     frames
=======  ===================================================================================================
local    of another client of the same switch
sw       of a wire that the client shares: the switch looked whose they are
hw       of a wire that the client has alone: the wire's ring is its own (INDEX 0)
bcast    broadcast and multicast, from wherever
=======  ===================================================================================================

A frame is in one of them, so their sum is what came. ``intrs`` are packets of chains whose fd the event loop had woken
the engine for, ``polls`` those of chains it asked for by itself (`engine.pump`); ``ch*``: how many polled chains had up
to 10, 11 to 50 and more packets. Of a local lane it is the same with the sender's ring: a chain that its event was
for, or one that was found when that was done. A packet is a frame as the engine moves it, segmented or not.

A lane that is left (the client is not alone any more) keeps its figures: a sum never becomes less.
"""

from __future__ import annotations

from typing import Final

from xnet.frame import Chain
from xnet.frame.chain import POLLED, WIRE

SHORT: Final = 10
LONG: Final = 50
"""Up to SHORT packets, up to LONG, and more: the three kinds of chains that are told apart."""

Row = dict[str, str | int | None]


class Ring:
    """Where chains come in."""

    def __init__(self) -> None:
        self.intrs = self.polls = self.size = 0
        self.short = self.middle = self.long = 0

    def count(self, frames: int, size: int, polled: int) -> None:  # hot: once a chain
        """A chain of so many frames and bytes."""
        self.size += size
        if not polled:
            self.intrs += frames
            return
        self.polls += frames
        if frames <= SHORT:
            self.short += 1
        elif frames <= LONG:
            self.middle += 1
        else:
            self.long += 1

    def row(self, name: str, index: int | None, drops: int) -> Row:
        """As dlstat has it."""
        return {
            "id": name,
            "index": index,
            "ipkts": self.intrs + self.polls,
            "rbytes": self.size,
            "intrs": self.intrs,
            "polls": self.polls,
            "sdrops": drops,
            "ch10": self.short,
            "ch10_50": self.middle,
            "ch50": self.long,
        }


class Way:
    """Where frames go out."""

    def __init__(self) -> None:
        self.frames = self.size = 0

    def row(self, name: str, index: int | None, drops: int = 0, blocked: int = 0, unblocked: int = 0) -> Row:
        """As dlstat has it."""
        return {
            "id": name,
            "index": index,
            "opkts": self.frames,
            "obytes": self.size,
            "blkcnt": blocked,
            "ublkcnt": unblocked,
            "sdrops": drops,
        }


class Lanes:
    """Those of one client."""

    def __init__(self) -> None:
        self.local, self.software, self.hardware = Ring(), Ring(), Ring()
        self.wire = self.software
        """What frames from the wire are counted in."""
        self.out_software, self.out_hardware = Way(), Way()
        self.out = self.out_software
        self.groups_in, self.groups_out = Way(), Way()
        self.group_frames = self.group_bytes = 0
        """Of the chain that is about to come."""

    def alone(self, alone: bool) -> None:
        """Whether the wire is the client's own, from now on."""
        self.wire = self.hardware if alone else self.software
        self.out = self.out_hardware if alone else self.out_software

    def group(self, frames: int, size: int) -> None:
        """There are so many group frames in the chain that is about to come."""
        self.group_frames += frames
        self.group_bytes += size

    def take(self, chain: Chain) -> None:  # hot: once a chain
        """A chain toward the client."""
        frames, size = len(chain.frames), chain.size()
        if self.group_frames:
            frames -= self.group_frames
            size -= self.group_bytes
            self.groups_in.frames += self.group_frames
            self.groups_in.size += self.group_bytes
            self.group_frames = self.group_bytes = 0
            if not frames:
                return
        came = chain.came
        ring = self.wire if came & WIRE else self.local
        ring.count(frames, size, came & POLLED)

    def forget(self) -> None:
        """The chain that was about to come is for nobody."""
        self.group_frames = self.group_bytes = 0

    def sent(self, frames: int, size: int) -> None:  # hot: once a burst
        """Frames away from the client."""
        self.out.frames += frames
        self.out.size += size

    def sent_group(self, frames: int, size: int) -> None:
        """So many of those were for a group."""
        self.out.frames -= frames
        self.out.size -= size
        self.groups_out.frames += frames
        self.groups_out.size += size

    def rows(self, rx_drops: int = 0, tx_drops: int = 0, blocked: int = 0, unblocked: int = 0) -> dict[str, list[Row]]:
        """Lane by lane, those that are in use or were; drops and blocks are the lane's that is in use."""
        rx = [self.local.row("local", None, 0)]
        tx = []
        if self.hardware is self.wire or self.hardware.size or self.out_hardware.size:
            there = self.hardware is self.wire
            rx.append(self.hardware.row("hw", 0, rx_drops if there else 0))
            tx.append(self.out_hardware.row("hw", 0, *((tx_drops, blocked, unblocked) if there else ())))
        if self.software is self.wire or self.software.size or self.out_software.size:
            there = self.software is self.wire
            rx.append(self.software.row("sw", None, rx_drops if there else 0))
            tx.append(self.out_software.row("sw", None, *((tx_drops, blocked, unblocked) if there else ())))
        rx.append(group_row(self.groups_in))
        tx.append(self.groups_out.row("bcast", None))
        return {"rx": rx, "tx": tx}


def group_row(way: Way) -> Row:
    """Group frames toward the client: nobody says how they came."""
    unknown = dict.fromkeys(("intrs", "polls", "sdrops", "ch10", "ch10_50", "ch50"))
    return {"id": "bcast", "index": None, "ipkts": way.frames, "rbytes": way.size, **unknown}
