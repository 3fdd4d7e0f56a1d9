"""Labs for the experiment: one sender, several receivers, all vifs of one way; each with the traffic program in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import IO

from xnet.bench.lab import XNET
from xnet.bench.setup import end
from xnet.bench.transports.agent import Agent, end_in, start_in
from xnet.bench.transports.control import Control
from xnet.errors import HostError
from xnet.host.netns import NamespaceFds

WAYS = {
    "copy": "",
    "flip": ', rx_mode = "flip"',
    "map": ', tx_mode = "map"',
    "flip+map": ', rx_mode = "flip", tx_mode = "map"',
}
"""How frames get into guests and out of them, by the keys of a vif; what is not said is hypervisor copy."""
SENDER = "s"
MTU = 65517
"""A datagram of 65 000 bytes is one frame."""
SWITCH = {
    "xnbu": (f'[[bridge]]\nname = "xenbr0"\nmtu = {MTU}\n', 'bridge = "xenbr0"'),
    "xnbo": (f'[[etherstub]]\nname = "stub0"\nmtu = {MTU}\n', 'link = "stub0"'),
}
MEMORY = "8M"
DOM0_MEMORY = "128M"
"""Twice the default: a flipping netback stages frames in 256 pages of dom0's own, and 64 of them want 64 MiB."""
START_S = 30.0


def receivers(count: int) -> list[str]:
    """The names of the receiving guests."""
    return [f"g{number}" for number in range(1, count + 1)]


def address(number: int) -> str:
    """The address of a guest: the sender is 0, the receivers from 1 on."""
    return f"10.77.0.{number + 1}"


def mac(number: int) -> str:
    """Likewise its MAC."""
    return f"00:16:3e:77:00:{number + 1:02x}"


def lab_file(name: str, flavour: str, way: str, guests: int, heap: str) -> str:
    """The lab as TOML; an empty `heap` is the default."""
    switch, plug = SWITCH[flavour]
    lines = [f'[lab]\nname = "{name}"\n']
    lines.append(f'[dom0]\nmemory = "{DOM0_MEMORY}"\n')
    lines += [f'[machine]\nheap = "{heap}"\n'] if heap else []
    lines.append(switch)
    for number, guest in enumerate([SENDER, *receivers(guests)]):
        vif = f'{plug}, ip = "{address(number)}/24", mac = "{mac(number)}"{WAYS[way]}'
        lines.append(f'[[domain]]\nname = "{guest}"\nmemory = "{MEMORY}"\nvif = [{{ {vif} }}]\n')
    return "\n".join(lines)


@dataclass(slots=True)
class TransportLab:
    """A running lab: `engine` is its process id."""

    name: str
    way: str
    engine: int
    control: Control
    sender: Agent
    receivers: list[Agent]
    dom0: Agent

    def agents(self, count: int) -> list[Agent]:
        """Where counters are that matter with so many receivers: the sender, them, dom0."""
        return [self.sender, *self.receivers[:count], self.dom0]


@contextmanager
def transport_lab(name: str, flavour: str, way: str, guests: int, heap: str, program: int) -> Iterator[TransportLab]:
    """A lab, up and with all its agents until the block is left."""
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile("w+"))
        with tempfile.TemporaryFile("w") as file:  # it has no name, so that nothing can stay of it
            file.write(lab_file(name, flavour, way, guests, heap))
            file.flush()
            engine = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *XNET, "run", "/dev/stdin"],
                stdin=file,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        stack.callback(end, engine, 5.0)
        control = stack.enter_context(_connected(name, engine, said))
        agents = []
        for domain in [SENDER, *receivers(guests), "dom0"]:
            with closing(control.namespaces(domain)) as spaces:
                agent = Agent(domain, spaces, program)
                stack.callback(agent.close)
                agents.append(agent)
                if domain == SENDER:
                    _acquaint(spaces, guests)
        yield TransportLab(name, way, engine.pid, control, agents[0], agents[1:-1], agents[-1])


def _connected(name: str, engine: subprocess.Popen[str], said: IO[str]) -> Control:
    """The engine's door, when all vifs are connected."""
    deadline = time.monotonic() + START_S
    control = None
    while True:
        try:
            control = control or Control(name)
            if control.ask("status")["status"] == "up":
                return control
        except HostError:
            control = None
        if engine.poll() is not None or time.monotonic() > deadline:
            said.seek(0)
            raise HostError(f"bench: lab {name} does not come up: {' '.join(said.read().split())[-500:]}")
        time.sleep(0.03)


def _acquaint(sender: NamespaceFds, guests: int) -> None:
    """Tell the sender who has which address, for good: no question about it may get lost under load."""
    lines = [f"neigh replace {address(n)} lladdr {mac(n)} dev eth0 nud permanent" for n in range(1, guests + 1)]
    process = start_in(sender, ["ip", "-batch", "-"])
    try:
        said, _ = process.communicate("\n".join(lines) + "\n", timeout=START_S)
        if process.returncode:
            raise HostError(f"bench: ip neigh: {said.strip()}")
    finally:
        end_in(process)


def lab_name(way: str, heap: str) -> str:
    """A name that no other bench has."""
    return "-".join(filter(None, ("transports", str(os.getpid()), way.replace("+", ""), heap.lower())))
