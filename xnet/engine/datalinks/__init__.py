"""Datalinks: dom0's links, etherstubs, vnics, VLANs and flows, as dladm and flowadm know them.

`registry` holds the links by name and does what needs no operating system; `properties` says what can be set and does
it; `manager.Datalinks` is the door: one method a subcommand, the same for the command line, the lab file and programs;
`show` is what they all look like; `store` keeps what was made without -t; `words` are the errors, in libdladm's words.
"""

from xnet.engine.datalinks.manager import Datalinks
from xnet.engine.datalinks.words import DatalinkError

__all__ = ["DatalinkError", "Datalinks"]
