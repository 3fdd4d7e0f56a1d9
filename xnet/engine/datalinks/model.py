"""A datalink: what dladm lists in one row, of whatever class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xnet.frame import Link
from xnet.mac import Switch, Vnic
from xnet.mac.resources import Resources

Kind = Literal["phys", "aggr", "vlan", "vnic", "etherstub", "bridge"]

LOWER: frozenset[Kind] = frozenset({"phys", "aggr", "etherstub"})
"""What a vnic can be over."""
SPEED_MBPS = 10_000
"""What a TAP says of itself."""
CLIENTS: frozenset[Kind] = frozenset({"vnic", "vlan"})


@dataclass(slots=True, eq=False)
class Datalink:
    """One of them. A phys, aggr or etherstub has a `switch`, a vnic or vlan is a client of one."""

    name: str
    kind: Kind
    temporary: bool = False
    """It is not kept."""
    over: tuple[str, ...] = ()
    switch: Switch | None = None
    uplink: Link | None = None
    """The wire under a phys, or the aggregation."""
    device: str = ""
    """Its Linux device."""
    mac: bytes = b""
    """The link's own address, or the client's."""
    mac_type: str = "fixed"
    vnic: Vnic | None = None
    resources: Resources | None = None
    """Caps and flows of a client, once it has any."""
    forced: bool = False
    """Made with -f, for its frames may be too large for the wire."""
    user: str = ""
    """Who has it open: a vif, a zone; nobody else may."""
    bridge: str = ""
    """The bridge it is in, or stands for."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """Properties that were set."""

    @property
    def mtu(self) -> int:
        """Bytes of payload; 0 for what stands for a bridge without links."""
        if self.vnic is not None:
            return self.vnic.mtu
        return self.switch.mtu if self.switch is not None else 0

    @property
    def vid(self) -> int:
        """0: none."""
        return self.vnic.vid if self.vnic is not None else 0
