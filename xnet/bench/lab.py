"""The lab as a setup: a lab file of its own, run and entered by the commands a user has.

``xnet run`` rather than ``xnet up``: a child in the foreground ends with the bench, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from xnet.bench.setup import PREFIX_LEN, Setup, Tool, address_of, end, guests_of, wait_connected
from xnet.errors import HostError

MTU = 1500
"""That of every setup of the bench; an etherstub's default is 9000."""
XNET = (sys.executable, "-P", "-m", "xnet")
"""The command, whether or not it is installed in the path; -P: not whatever lies in the current directory."""
SWITCH = {
    "xnbu": ('[[bridge]]\nname = "xenbr0"\n', 'bridge = "xenbr0"'),
    "xnbo": (f'[[etherstub]]\nname = "stub0"\nmtu = {MTU}\n', 'link = "stub0"'),
}
VARIANTS = {
    "flip": 'rx_mode = "flip"',
    "map": 'tx_mode = "map"',
    "queues": "queues = 2",
    "software": "features = { sg = false, gso-tcpv4 = false, gso-tcpv6 = false, csum-offload = false }",
}
"""Ways that are not the default, by the keys of a vif: page flipping, mapping, two queues, no offload at either end."""
IDLE = '[[vnic]]\nname = "idle{}"\nover = "stub0"\n'
CROSSBOW = {
    "vnics16": ("", "".join(map(IDLE.format, range(14)))),
    "vnics256": ("", "".join(map(IDLE.format, range(254)))),
    "cap": ('maxbw = "900G"', ""),
    "flows": (
        "",
        "".join(
            f'[[flow]]\nname = "{guest}{port}"\nlink = "{guest}/0"\ntransport = "tcp"\nlocal_port = {port}\n'
            for guest in "ab"
            for port in (22, 80, 443, 5201)
        ),
    ),
}
"""Ways of xnbo's own, by the keys of a vif and the tables of the file: idle vnics up to so many on the link; a cap that
is never reached; a flow table, of which one flow is iperf3's."""
START_S = 20.0
"""How long the guests of one pair may take; each further one adds a little."""


def lab_file(name: str, flavour: str, variant: str = "", pairs: int = 1) -> str:
    """A lab of pairs of guests on one switch; everything not needed to reach each other is left at its default, but for
    what the variant is about."""
    switch, plug = SWITCH[flavour]
    keys, tables = CROSSBOW.get(variant, (VARIANTS.get(variant, ""), ""))
    plug += f", {keys}" if keys else ""
    domains = "".join(
        f'\n[[domain]]\nname = "{guest}"\ntype = "pv"\nvif = [{{ {plug}, ip = "{address_of(guest)}/{PREFIX_LEN}" }}]\n'
        for guest in guests_of(pairs)
    )
    return f'[lab]\nname = "{name}"\n\n{switch}{tables}{domains}'


@dataclass(slots=True, frozen=True)
class LabSetup:
    """A running lab: `engine` is its one process, `said` the file its output goes to."""

    lab: str
    engine: Tool
    said: IO[str]
    name: str = "lab"

    @property
    def pids(self) -> tuple[int, ...]:
        """The engine."""
        return (self.engine.pid,)

    def exec(self, guest: str, argv: Sequence[str], keep: Sequence[int] = ()) -> Tool:
        """Start `argv` in the guest by ``xnet exec``; `HostError` with the engine's last words if it has ended."""
        if self.engine.poll() is not None:
            self.said.seek(0)
            raise HostError(f"bench: the lab ended: {' '.join(self.said.read().split())[-500:]}")
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *XNET, "exec", "--lab", self.lab, guest, "--", *argv],
            pass_fds=keep,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def address(self, guest: str) -> str:
        """The guest's IPv4 address."""
        return address_of(guest)


@contextmanager
def lab_setup(flavour: str, variant: str = "", pairs: int = 1) -> Iterator[Setup]:
    """A lab of its own name, up until the block is left; its file is gone as soon as the guests are connected."""
    name = "-".join(filter(None, ("bench", str(os.getpid()), flavour, variant, str(pairs) if pairs > 1 else "")))
    with tempfile.TemporaryFile("w+") as said:
        with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".toml") as file:
            file.write(lab_file(name, flavour, variant, pairs))
            file.flush()
            engine = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *XNET, "run", file.name],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
            setup = LabSetup(name, engine, said, variant or "lab")
            try:
                wait_connected(setup, START_S + pairs, guests_of(pairs)[-2:])
            except BaseException:
                end(engine)
                raise
        try:
            yield setup
        finally:
            end(engine, grace_s=5.0)
