"""The setups a lab is compared with: the kernel's own veth and bridge, and the raw relay.

::

    kernel        a: eth0 = veth ---- bridge ---- veth = eth0 :b
    relay, xnbu   a: eth0 = TAP -- relay -- TAP vifa -- bridge -- TAP vifb -- relay -- TAP = eth0 :b    (two hops)
    relay, xnbo   a: eth0 = TAP ------------------- relay ------------------- TAP = eth0 :b             (one hop)

The relay is one process for both hops, as a lab's engine is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xnet.bench.namespaces import Namespace
from xnet.bench.setup import ADDRESS, GUESTS, PREFIX_LEN, Setup, Tool, end, wait_connected
from xnet.errors import HostError

HERE = Path(__file__).parent


@dataclass(slots=True, frozen=True)
class NamespaceSetup:
    """Two guests that are bare namespaces."""

    name: str
    pid: int | None
    guests: dict[str, Namespace]

    def exec(self, guest: str, argv: Sequence[str]) -> Tool:
        """Start `argv` in the guest's network namespace; it dies with this process."""
        return self.guests[guest].start(argv)

    def address(self, guest: str) -> str:
        """The guest's IPv4 address."""
        return ADDRESS[guest]


@dataclass(slots=True, frozen=True)
class Relay:
    """A relay that can be started: `argv` before the fds it joins; `keep`, descriptors it needs to start."""

    kind: str
    argv: tuple[str, ...]
    keep: tuple[int, ...] = ()

    def start(self, fds: Sequence[int]) -> Tool:
        """Join the fds pairwise until the returned process' standard input is closed, at the latest by our end."""
        return subprocess.Popen(
            [*self.argv, *map(str, fds)], pass_fds=(*fds, *self.keep), stdin=subprocess.PIPE, text=True
        )


def python_relay() -> Relay:
    """The relay in Python, run by this interpreter without site packages."""
    return Relay("python", (sys.executable, "-I", "-S", str(HERE / "relay.py")))


@contextmanager
def c_relay() -> Iterator[Relay | None]:
    """The relay in C, compiled now; None if there is no compiler. The program is a deleted file: nothing to clean."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="xnet-bench-") as directory:
        program = f"{directory}/relay"
        command = [compiler, "-O2", "-o", program, str(HERE / "relay.c")]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise HostError(f"bench: {' '.join(command)}: {built.stderr.strip()}", call="cc")
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Relay("c", (f"/proc/self/fd/{fd}",), (fd,))
    finally:
        os.close(fd)


@contextmanager
def kernel_setup() -> Iterator[Setup]:
    """veth pairs into a Linux bridge in a namespace between the guests; the same for both flavours."""
    with _namespaces() as (guests, dom0):
        dom0.ip("link add xenbr0 type bridge", "link set xenbr0 up")
        for guest, space in guests.items():
            dom0.ip(f"link add veth{guest} type veth peer name eth0 netns {space.path}")
            dom0.ip(f"link set veth{guest} master xenbr0 up")
            _address(space, guest)
        setup = NamespaceSetup("kernel", None, guests)
        wait_connected(setup)
        yield setup


@contextmanager
def relay_setup(flavour: str, relay: Relay, name: str = "relay") -> Iterator[Setup]:
    """The guests' TAPs joined by a relay: over vif TAPs in a bridge (``xnbu``), or to each other (``xnbo``)."""
    with _namespaces() as (guests, dom0), ExitStack() as taps:

        def tap(space: Namespace, link: str) -> int:
            return taps.enter_context(closing(space.open_tap(link))).fd

        fds = []
        if flavour == "xnbu":
            dom0.ip("link add xenbr0 type bridge", "link set xenbr0 up")
        for guest, space in guests.items():
            fds.append(tap(space, "eth0"))
            _address(space, guest)
            if flavour == "xnbu":
                fds.append(tap(dom0, f"vif{guest}"))
                dom0.ip(f"link set vif{guest} master xenbr0 up")
        pump = relay.start(fds)
        try:
            taps.close()  # the relay's copies are the only ones left: the TAPs end with it
            setup = NamespaceSetup(name, pump.pid, guests)
            wait_connected(setup)
            yield setup
        finally:
            end(pump)


@contextmanager
def _namespaces() -> Iterator[tuple[dict[str, Namespace], Namespace]]:
    """A namespace for each guest and one for dom0."""
    with ExitStack() as stack:
        guests = {guest: stack.enter_context(closing(Namespace())) for guest in GUESTS}
        yield guests, stack.enter_context(closing(Namespace()))


def _address(space: Namespace, guest: str) -> None:
    space.ip(f"address add {ADDRESS[guest]}/{PREFIX_LEN} dev eth0", "link set eth0 up")
