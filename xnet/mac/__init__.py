"""Floor 5: Crossbow. Vnics on lower links, and the implicit switch between them.

A lower link (a real link with an uplink, or an etherstub, which has none) owns one `Switch`: a static table from
(destination MAC, VID) to vnic. It changes only when a vnic comes or goes; nothing is learned from frames, so a guest
that invents addresses harms nobody, and unknown unicast never reaches another guest: it goes to the wire, and on an
etherstub it vanishes. A `Vnic` is the Link of one guest's netback (xnbo): tx goes through the switch, which turns it
into rx of other vnics and tx of the uplink, in the sender's turn and without a copy.

Who takes group frames: every vnic of the VID but the sender gets broadcasts, and multicasts it has joined. A guest's
real stack does not tell its joins before multicast control is negotiated, so a vnic takes all multicast until told
otherwise (`Vnic.all_multicast`), as xnbo opens its MAC client promiscuously for such a guest. IPv6 needs it.

VLANs: a vnic with a VID sends and sees plain frames, the wire carries them tagged; VIDs never mix. A vnic that is
alone on its link owns it: its frames go straight to the wire, all that comes is its own.

A switch never refuses: what the receiver cannot queue, the receiver drops and counts. Offload words travel along, so
guests on one host exchange large frames, unsegmented and unsummed, as far as the receiving netback accepts them.
"""

from xnet.mac.address import MacError, format_mac, is_legal_name, random_mac, vnic_name
from xnet.mac.link import Etherstub, LowerLink
from xnet.mac.port import Port
from xnet.mac.vnic import Vnic
from xnet.mac.vswitch import Switch

__all__ = [
    "Etherstub",
    "LowerLink",
    "MacError",
    "Port",
    "Switch",
    "Vnic",
    "format_mac",
    "is_legal_name",
    "random_mac",
    "vnic_name",
]
