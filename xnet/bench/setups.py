"""The setups a lab is compared with: the kernel's own veth and bridge, and the raw relay.

::

    kernel        a: eth0 = veth ---- bridge ---- veth = eth0 :b
    relay, xnbu   a: eth0 = TAP -- relay -- TAP vifa -- bridge -- TAP vifb -- relay -- TAP = eth0 :b    (two hops)
    relay, xnbo   a: eth0 = TAP ------------------- relay ------------------- TAP = eth0 :b             (one hop)

The relay is one process for both hops, as a lab's engine is, and for as many pairs of guests as there are; over vif
TAPs all of them share the bridge.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from xnet.bench.namespaces import Namespace
from xnet.bench.programs import Program, compiled, interpreted
from xnet.bench.setup import PREFIX_LEN, Setup, Tool, address_of, end, guests_of, wait_connected


@dataclass(slots=True, frozen=True)
class NamespaceSetup:
    """Guests that are bare namespaces."""

    name: str
    pids: tuple[int, ...]
    guests: dict[str, Namespace]

    def exec(self, guest: str, argv: Sequence[str], keep: Sequence[int] = ()) -> Tool:
        """Start `argv` in the guest's network namespace; it dies with this process."""
        return self.guests[guest].start(argv, keep)

    def address(self, guest: str) -> str:
        """The guest's IPv4 address."""
        return address_of(guest)


@dataclass(slots=True, frozen=True)
class Relay:
    """A relay program: `kind` is ``c`` or ``python``."""

    kind: str
    program: Program

    def start(self, fds: Sequence[int]) -> Tool:
        """Join the fds pairwise until the returned process' standard input is closed, at the latest by our end."""
        argv, keep = self.program.argv, self.program.keep
        return subprocess.Popen([*argv, *map(str, fds)], pass_fds=(*fds, *keep), stdin=subprocess.PIPE, text=True)


def python_relay() -> Relay:
    """The relay in Python."""
    return Relay("python", interpreted("relay"))


@contextmanager
def c_relay() -> Iterator[Relay | None]:
    """The relay in C; None if there is no compiler."""
    with compiled("relay") as program:
        yield None if program is None else Relay("c", program)


@contextmanager
def kernel_setup() -> Iterator[Setup]:
    """veth pairs into a Linux bridge in a namespace between the guests; the same for both flavours."""
    with namespaces() as (guests, dom0):
        dom0.ip("link add xenbr0 type bridge", "link set xenbr0 up")
        for guest, space in guests.items():
            dom0.ip(f"link add veth{guest} type veth peer name eth0 netns {space.path}")
            dom0.ip(f"link set veth{guest} master xenbr0 up")
            give_address(space, guest)
        setup = NamespaceSetup("kernel", (), guests)
        wait_connected(setup)
        yield setup


@contextmanager
def relay_setup(flavour: str, relay: Relay, name: str = "relay", pairs: int = 1) -> Iterator[Setup]:
    """The guests' TAPs joined by a relay: over vif TAPs in a bridge (``xnbu``), or to each other (``xnbo``)."""
    with namespaces(pairs) as (guests, dom0), ExitStack() as taps:

        def tap(space: Namespace, link: str) -> int:
            return taps.enter_context(closing(space.open_tap(link))).fd

        fds = []
        if flavour == "xnbu":
            dom0.ip("link add xenbr0 type bridge", "link set xenbr0 up")
        for guest, space in guests.items():
            fds.append(tap(space, "eth0"))
            give_address(space, guest)
            if flavour == "xnbu":
                fds.append(tap(dom0, f"vif{guest}"))
                dom0.ip(f"link set vif{guest} master xenbr0 up")
        pump = relay.start(fds)
        try:
            taps.close()  # the relay's copies are the only ones left: the TAPs end with it
            setup = NamespaceSetup(name, (pump.pid,), guests)
            wait_connected(setup, between=guests_of(pairs)[-2:])
            yield setup
        finally:
            end(pump)


@contextmanager
def namespaces(pairs: int = 1) -> Iterator[tuple[dict[str, Namespace], Namespace]]:
    """A namespace for each guest and one for dom0."""
    with ExitStack() as stack:
        guests = {guest: stack.enter_context(closing(Namespace())) for guest in guests_of(pairs)}
        yield guests, stack.enter_context(closing(Namespace()))


def give_address(space: Namespace, guest: str) -> None:
    """Give the guest's ``eth0`` its address, and set it up."""
    space.ip(f"address add {address_of(guest)}/{PREFIX_LEN} dev eth0", "link set eth0 up")
