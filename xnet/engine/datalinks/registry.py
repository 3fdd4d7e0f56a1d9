"""Datalinks: all of dom0's links by name, and what dladm does to them.

Each method is one subcommand: it does all of it or raises DatalinkError in dladm's words and has changed nothing. What
is not `temporary` is kept (see `store`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from xnet.engine.datalinks import words
from xnet.engine.datalinks.model import CLIENTS, LOWER, Datalink
from xnet.engine.datalinks.store import Store
from xnet.engine.datalinks.words import DatalinkError, Status
from xnet.frame import Link, is_multicast, mac_bytes
from xnet.mac import Etherstub, LowerLink, MacError, Vnic, format_mac, is_legal_name, random_mac
from xnet.mac.bridge import DEFAULT_TAG
from xnet.mac.vswitch import VID_MAX

ETHERSTUB_MTU = 9000
VLAN_PPA = 1000
"""What dladm multiplies a VID with for the name of a VLAN that was given none."""

Mac = dict[str, Any]
"""How a vnic's address is chosen: ``type`` auto, fixed, random, factory or vrrp, with address, prefix or vrid and
af."""


class Registry:
    """The links by name. `changed` is called with a line for people."""

    def __init__(self, store: Store, *, dice: random.Random | None = None) -> None:
        self.links: dict[str, Datalink] = {}
        self.store = store
        self.dice = dice or random.Random()
        self.taken: Callable[[str], bool] = lambda name: name in self.links
        """Whether anything of dom0 has this name."""

    # --- finding

    def find(self, name: str) -> Datalink:
        """The link of this name. DatalinkError."""
        if name not in self.links:
            raise DatalinkError(f"invalid link name '{name}'")
        return self.links[name]

    def lower(self, name: str) -> Datalink:
        """A link that vnics can be over. DatalinkError; Status for one that is there and cannot."""
        link = self.find(name)
        if link.kind not in LOWER:
            raise Status(words.EINVAL)
        if link.user:
            raise Status(words.EBUSY)
        return link

    def over(self, name: str) -> list[Datalink]:
        """The links that are over this one."""
        return [link for link in self.links.values() if name in link.over and link.kind != "bridge"]

    def check_new(self, name: str) -> None:
        """A name for a new link. DatalinkError for what is none; Status for one that is taken."""
        if not is_legal_name(name):
            raise DatalinkError(f"invalid link name '{name}'")
        if self.taken(name):
            raise Status(words.EEXIST)

    def add(self, link: Datalink, record: dict[str, Any] | None = None) -> Datalink:
        """It is there."""
        self.links[link.name] = link
        if record is not None and not link.temporary:
            self.store.put(link.name, record)
        return link

    # --- lower links

    def add_phys(self, name: str, mtu: int, mac: bytes, uplink: Link | None, device: str = "") -> Datalink:
        """A link whose wire is there."""
        switch = LowerLink(name, mtu=mtu, mac=mac).switch
        if uplink is not None:
            switch.connect(uplink)
        return self.add(Datalink(name, "phys", switch=switch, uplink=uplink, device=device or name, mac=mac))

    def add_etherstub(self, name: str, mtu: int = ETHERSTUB_MTU, *, temporary: bool = True) -> Datalink:
        """A switch with no wire."""
        record = {"do": "create-etherstub", "name": name}
        return self.add(Datalink(name, "etherstub", temporary, switch=Etherstub(name, mtu=mtu).switch), record)

    def create_etherstub(self, name: str, *, temporary: bool = False) -> Datalink:
        """A switch with no wire, of a name as dladm wants it."""
        try:
            self.check_new(name)
        except Status as why:
            raise DatalinkError("etherstub creation failed", why.status) from None
        return self.add_etherstub(name, temporary=temporary)

    def delete_etherstub(self, name: str, *, temporary: bool = False) -> None:
        """Take an etherstub away that nothing is over."""
        if name not in self.links and not temporary and self.store.drop(name):
            return
        link = self.find(name)
        if link.kind != "etherstub":
            raise DatalinkError(f"'{name}' is not an etherstub")
        if self.over(name) or link.user or link.bridge:
            raise DatalinkError("vnic deletion failed", words.EBUSY)
        self.forget(link, temporary)

    def forget(self, link: Datalink, temporary: bool) -> None:
        """It is there no more."""
        del self.links[link.name]
        if not temporary:
            self.store.drop(link.name)

    # --- vnics

    def create_vnic(
        self,
        name: str,
        over: str,
        *,
        mac: Mac | None = None,
        vid: int = 0,
        force: bool = False,
        temporary: bool = False,
    ) -> Datalink:
        """A client with an address of its own on a lower link."""
        try:
            self.check_new(name)
            lower = self.lower(over)
            address, kind = self.choose(mac or {"type": "auto"})
            vnic = self.plug(name, lower, address, vid)
        except Status as why:
            raise DatalinkError(f"vnic creation over {over} failed", why.status) from None
        link = Datalink(name, "vnic", temporary, (over,), mac=address, mac_type=kind, vnic=vnic, forced=force)
        record = {"do": "create-vnic", "name": name, "over": over, "vid": vid, "force": force}
        return self.add(link, record | {"mac": kept(mac or {}, address)})

    def create_vlan(
        self, name: str | None, over: str, vid: int, *, force: bool = False, temporary: bool = False
    ) -> Datalink:
        """A client with the lower link's own address, in a VLAN."""
        if not 1 <= vid <= VID_MAX:
            raise DatalinkError(f"invalid VLAN identifier '{vid}'")
        name = name or vlan_name(over, vid)
        try:
            self.check_new(name)
            lower = self.lower(over)
            vnic = self.plug(name, lower, lower.mac or self.stub_mac(lower), vid)
        except Status as why:
            raise DatalinkError("create operation failed", why.status) from None
        link = Datalink(name, "vlan", temporary, (over,), mac=vnic.mac, vnic=vnic, forced=force)
        return self.add(link, {"do": "create-vlan", "name": name, "over": over, "vid": vid, "force": force})

    def stub_mac(self, lower: Datalink) -> bytes:
        """An etherstub's own address, once somebody needs it: all its VLANs share it."""
        assert lower.switch is not None, "a lower link has one"
        lower.mac = lower.switch.reserved = random_mac(self.dice)
        return lower.mac

    def plug(self, name: str, lower: Datalink, mac: bytes, vid: int) -> Vnic:
        """A client of the switch. Status."""
        switch = lower.switch
        assert switch is not None, "vnics are over what has a switch"
        if not 0 <= vid <= VID_MAX:
            raise DatalinkError(f"invalid VLAN identifier '{vid}'")
        if vid and vid == int(lower.values.get("default_tag", [DEFAULT_TAG])[0]):
            raise DatalinkError(f"VLAN over '{lower.name}' may not use default_tag ID (see dladm(1M))")
        try:
            return Vnic(name, switch, mac, vid=vid)
        except MacError as error:
            raise Status(error.status) from None

    def choose(self, mac: Mac) -> tuple[bytes, str]:
        """The address for a vnic, and its type as `show-vnic` prints it. Status."""
        how, text = mac.get("type", "auto"), str(mac.get("address", ""))
        if how == "fixed" or (how == "random" and text):  # a random one that was kept is that one
            address = mac_bytes(text)
            if address is None:
                raise Status(words.MAC_INVALID)
            return address, how
        if how == "vrrp":
            family = {"inet": 1, "inet6": 2}.get(str(mac.get("af")))
            vrid = mac.get("vrid")
            if family is None or not isinstance(vrid, int) or not 1 <= vrid <= 255:
                raise Status(words.EINVAL)
            return bytes((0, 0, 0x5E, 0, family, vrid)), f"vrrp, {vrid}/{mac['af']}"
        if how == "factory":
            raise Status(words.NO_FACTORY)
        if how not in ("auto", "random"):
            raise Status(words.MAC_INVALID)
        prefix = prefix_bytes(str(mac["prefix"])) if mac.get("prefix") else None
        return (random_mac(self.dice) if prefix is None else random_mac(self.dice, prefix)), "random"

    def delete_client(self, name: str, *, kind: str = "vnic", temporary: bool = False) -> None:
        """Take a vnic or VLAN away that nobody uses; one that is only kept, from what is kept."""
        if name not in self.links and not temporary and self.store.drop(name):
            return
        link = self.find(name)
        if link.kind != kind:
            raise DatalinkError(f"'{name}' is not a {kind}")
        what = "vnic deletion failed" if kind == "vnic" else "delete operation failed"
        if link.user:
            raise DatalinkError(what, words.EBUSY)
        if link.resources is not None and link.resources.table.flows:
            raise DatalinkError(what, words.ENOTEMPTY)
        self.unplug(link)
        self.forget(link, temporary)

    def release(self, name: str) -> None:
        """Its user is done with a vnic that was made for it: it goes."""
        link = self.links.pop(name)
        self.unplug(link)

    def lend(self, link: Datalink, user: str) -> None:
        """A whole link is somebody's: its wire is not its switch's any more."""
        assert link.switch is not None, "a lower link has one"
        link.switch.connect(None)
        link.user = user

    def take_back(self, name: str) -> None:
        """It is not."""
        link = self.links[name]
        assert link.switch is not None, "a lower link has one"
        assert link.uplink is not None, "and had a wire"
        link.user = ""
        link.uplink.carrier(True)
        link.switch.connect(link.uplink)

    def unplug(self, link: Datalink) -> None:
        """Its client leaves the switch."""
        assert link.vnic is not None, "a vnic or VLAN"
        if link.resources is not None:
            link.resources.close()
        link.vnic.close()

    def modify_vnic(self, name: str, *, over: str = "", mac: Mac | None = None, vid: int | None = None) -> None:
        """Another lower link, address or VID for a vnic that nobody uses (Solaris 11)."""
        link = self.find(name)
        if link.kind not in CLIENTS:
            raise DatalinkError(f"'{name}' is not a vnic")
        before = link.vnic
        assert before is not None, "a vnic has a client"
        try:
            if link.user or link.resources is not None:
                raise Status(words.EBUSY)
            lower = self.lower(over or link.over[0])
            address, kind = self.choose(mac) if mac else (link.mac, link.mac_type)
            wanted = before.vid if vid is None else vid
            before.close()
            try:
                link.vnic = self.plug(name, lower, address, wanted)
            except BaseException:
                link.vnic = self.plug(name, self.find(link.over[0]), link.mac, before.vid)
                raise
        except Status as why:
            raise DatalinkError("vnic modification failed", why.status) from None
        link.over, link.mac, link.mac_type = (lower.name,), address, kind
        if name in self.store.records:
            record = self.store.records[name]
            record |= {"over": lower.name, "vid": wanted}
            if mac:
                record["mac"] = kept(mac, address)
            self.store.save()

    # --- names

    def rename(self, old: str, new: str) -> None:
        """A vanity name for a link."""
        link = self.find(old)
        try:
            self.check_new(new)
            if link.user or link.bridge:
                raise Status(words.EBUSY)
        except Status as why:
            raise DatalinkError("rename operation failed", why.status) from None
        self.links = {new if name == old else name: each for name, each in self.links.items()}
        link.name = new
        if link.switch is not None:
            link.switch.name = new
        if link.vnic is not None:
            link.vnic.name = new
        for each in self.links.values():
            each.over = tuple(new if name == old else name for name in each.over)
        self.store.rename(old, new)


def kept(mac: Mac, address: bytes) -> Mac:
    """The way an address was chosen, so that the same one comes of it again."""
    how = mac.get("type", "auto")
    return {**mac, "type": "random" if how == "auto" else how, "address": format_mac(address)}


def vlan_name(over: str, vid: int) -> str:
    """``e1000g0`` and 5: ``e1000g5000``."""
    base = over.rstrip("0123456789")
    unit = int(over[len(base) :] or 0)
    if unit >= VLAN_PPA:
        raise DatalinkError(f"invalid link name '{over}'")
    return f"{base}{vid * VLAN_PPA + unit}"


def prefix_bytes(text: str) -> bytes:
    """The beginning of an address, as ``-r`` takes it. Status."""
    octets = text.split(":")
    try:
        prefix = bytes(int(octet, 16) for octet in octets)
    except ValueError:
        raise Status(words.MAC_INVALID) from None
    if not 1 <= len(prefix) <= 5 or is_multicast(prefix.ljust(6, b"\1")):
        raise Status(words.MAC_INVALID)
    return prefix
