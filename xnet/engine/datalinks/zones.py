"""Zones: which vnics are interfaces of somebody's namespace (link property ``zone``), and their TAPs.

A zone is dom0, a guest, or a namespace that ``ip netns`` knows. Of a guest that is not running it is a wish: the
interface appears when the guest boots, and again after a reboot. The property is never kept, as on Solaris.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xnet.engine.datalinks import words
from xnet.engine.datalinks.model import Datalink
from xnet.engine.datalinks.words import Status
from xnet.engine.zone import ZoneTap, give, is_absent, zone_fd
from xnet.errors import HostError

if TYPE_CHECKING:
    from xnet.engine.machine import Machine

ZONE = "zone "
"""Before a zone's name, in `Datalink.user`."""


class Zones:
    """The TAPs by vnic."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.taps: dict[Datalink, ZoneTap] = {}
        self.addresses: dict[Datalink, Sequence[str]] = {}
        """Of every vnic that has a zone, there or not."""

    async def put(self, link: Datalink, zone: str | None, ip: Sequence[str] = ()) -> None:
        """Have the interface in this zone, with these addresses; None: in none. Status."""
        if link.user and not link.user.startswith(ZONE):
            raise Status(words.EBUSY)
        before, addresses = link.user.removeprefix(ZONE), self.addresses.pop(link, ())
        await self.take_back(link)
        link.user = ""
        if zone is None:
            return
        try:
            await self.enter(link, zone, ip)
        except Status:
            if before:
                await self.enter(link, before, addresses)
            raise

    async def enter(self, link: Datalink, zone: str, ip: Sequence[str]) -> None:
        """It was in no zone, and is now in this one. Status."""
        if not is_absent(self.machine, zone):
            await self.give(link, zone, ip)
        link.user = ZONE + zone
        self.addresses[link] = tuple(ip)

    def of(self, zone: str) -> list[Datalink]:
        """What is, or is to be, in a zone."""
        return [link for link in self.addresses if link.user == ZONE + zone]

    async def left(self, zone: str) -> None:
        """A guest ends: a TAP would keep its namespace."""
        for link in self.of(zone):
            await self.take_back(link)

    async def entered(self, zone: str) -> None:
        """A guest is there (again): its interfaces, too. What cannot be is told."""
        for link in self.of(zone):
            try:
                await self.give(link, zone, self.addresses[link])
            except Status as why:
                self.machine.on_event(f"{zone}: no interface {link.name}: {why}")

    async def give(self, link: Datalink, zone: str, ip: Sequence[str]) -> None:
        """Make the interface. Status."""
        assert link.vnic is not None, "only a vnic or VLAN has the property"
        machine = self.machine
        try:
            fd = zone_fd(machine, zone)
            try:
                self.taps[link] = await give(
                    link.vnic, fd, host=machine.host, turn=machine.turn, ip=ip, alias=machine.alias
                )
            finally:
                os.close(fd)
        except HostError as error:
            raise Status(str(error)) from None

    async def take_back(self, link: Datalink) -> None:
        """It goes, if there is one."""
        tap = self.taps.pop(link, None)
        if tap is not None:
            await tap.take_back()

    async def close(self) -> None:
        """All of them."""
        for link in list(self.taps):
            await self.take_back(link)
