"""Running labs for tests with real traffic: two guests over every flavour of netback, and tools run in them.

Tools go into a guest the way ``xnet exec`` and ``xnet demo`` go: all its namespaces (net, mnt, pid, uts), entered by
descriptor. Every test runs on both event loops (see tests/conftest.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from xnet.engine.lab import BridgeSpec, DomainSpec, EtherstubSpec, Lab, LinkSpec, VifSpec
from xnet.engine.machine import Machine
from xnet.host import guest_command

TIMEOUT_S = 40.0
"""A tool that takes longer hangs."""


@dataclass(slots=True, frozen=True)
class Wire:
    """One way from guest to guest: its interface in the guests, its subnets, and its bridge in dom0 if it has one."""

    name: str
    device: str
    v4: str
    v6: str
    bridge: str | None

    @property
    def handle(self) -> int:
        """Number of the vif."""
        return int(self.device.removeprefix("eth"))

    def at(self, family: int, host: int) -> str:
        """A host's address: 4 or 6, number."""
        return f"{self.v4 if family == 4 else self.v6}{host}"


WIRES = (
    Wire("xnbu", "eth0", "10.0.0.", "fd00::", "xenbr0"),
    Wire("etherstub", "eth1", "10.1.0.", "fd01::", None),
    Wire("link", "eth2", "10.2.0.", "fd02::", "xenbr1"),
)
DOM0 = 254
"""dom0's host number on every bridge; a guest's is its place in the lab, from 1."""

PEER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("peer.py")))
"""A script of ours that sends and takes random bytes, as a command line."""

Features = Mapping[str, bool]


def lab_of(
    *names: str,
    mtu: int = 1500,
    frontend: Mapping[str, Features] | None = None,
    backend: Mapping[str, Features] | None = None,
    tx_mode: str = "copy",
    memory: int = 32 << 20,
    sysctl: Mapping[str, str] | None = None,
    lab: str = "test",
) -> Lab:
    """Guests with a vif on each of `WIRES`; features by guest. No IPv6 below its smallest MTU."""

    def addresses(wire: Wire, host: int) -> tuple[str, ...]:
        return (f"{wire.v4}{host}/24", f"{wire.v6}{host}/64")[: 2 if mtu >= 1280 else 1]

    def vif(wire: Wire, guest: str, host: int) -> VifSpec:
        return VifSpec(
            mac=f"00:16:3e:00:{wire.handle:02x}:{host:02x}",
            ip=addresses(wire, host),
            bridge="xenbr0" if wire.name == "xnbu" else None,
            link={"etherstub": "stub0", "link": "net0"}.get(wire.name),
            mtu=mtu,
            tx_mode="map" if tx_mode == "map" else "copy",
            frontend_features=dict((frontend or {}).get(guest, {})),
            backend_features=dict((backend or {}).get(guest, {})),
        )

    return Lab(
        name=lab,
        domains=tuple(
            DomainSpec(
                name, memory=memory, vifs=tuple(vif(wire, name, host) for wire in WIRES), sysctl=dict(sysctl or {})
            )
            for host, name in enumerate(names, 1)
        ),
        bridges=tuple(BridgeSpec(wire.bridge, addresses(wire, DOM0), mtu) for wire in WIRES if wire.bridge),
        etherstubs=(EtherstubSpec("stub0", mtu),),
        links=(LinkSpec("net0", "xenbr1", mtu),),
    )


class Background:
    """A tool that runs on; `lines` is what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.news = asyncio.Event()
        self.reader = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        """Keep what it says, to its end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
            self.news.set()
        self.news.set()

    async def says(self, what: str, times: int = 1) -> None:
        """Wait until so many of its lines hold `what`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while sum(what in line for line in self.lines) < times:
                    assert not self.reader.done(), f"ended before saying {what!r}: {self.lines}"
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            pytest.fail(f"did not say {what!r}: {self.lines}")

    async def end(self, number: int = signal.SIGKILL) -> list[str]:
        """Signal what runs in the guest, wait for it and for all it started; its lines."""
        if self.process.returncode is None:
            for pid in inside(self.process.pid) or [self.process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self.process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.reader
        return self.lines


def inside(nsenter: int) -> list[int]:
    """nsenter's child, which is what runs in the guest; nothing where the tool itself was started.

    The child is what to kill: with nsenter dead its corpse is left to the machine's pid 1, and a guest's end waits for
    that one to bury it.
    """
    with suppress(OSError):
        if Path(f"/proc/{nsenter}/comm").read_text() == "nsenter\n":
            return [int(pid) for pid in Path(f"/proc/{nsenter}/task/{nsenter}/children").read_text().split()]
    return []


class Running:
    """A lab that is up, and tools in its domains."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    async def spawn(self, where: str, *argv: str) -> Background:
        """A tool in a domain (``""``: on this machine), in a session of its own."""
        command, fds = guest_command(self.machine.namespace_fds(where), argv) if where else (list(argv), ())
        return Background(
            await asyncio.create_subprocess_exec(
                *command,
                pass_fds=fds,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **self.environment()},
            )
        )

    def environment(self) -> dict[str, str]:
        """Where the lab's xenstore is, for xenstore-utils."""
        if self.machine.run_dir is None:
            return {}
        return {"XENSTORED_PATH": str(self.machine.run_dir / "xenstored.sock")}

    async def run(self, where: str, *argv: str, status: int | None = 0, timeout_s: float = TIMEOUT_S) -> str:
        """All a tool says; it must end with that exit status (None: any)."""
        tool = await self.spawn(where, *argv)
        try:
            async with asyncio.timeout(timeout_s):
                await tool.process.wait()
                await tool.reader
        except TimeoutError:
            pytest.fail(f"{where}: {' '.join(argv)} did not end in {timeout_s:.0f} s: {tool.lines}")
        finally:
            await tool.end()
        said = "\n".join(tool.lines)
        assert status is None or tool.process.returncode == status, f"{where}: {' '.join(argv)}: {said}"
        return said

    @asynccontextmanager
    async def background(self, where: str, *argv: str, says: str = "") -> AsyncIterator[Background]:
        """A tool beside others, ready once it has said `says`, killed at the end."""
        tool = await self.spawn(where, *argv)
        try:
            if says:
                await tool.says(says)
            yield tool
        finally:
            await tool.end()

    async def swap(self, one: str, other: str, address: str, length: int) -> None:
        """So many random bytes from one domain to the other, and back on the same connection: none is changed."""
        async with self.background(other, *PEER, "serve", str(length), says="listening") as server:
            said = await self.run(one, *PEER, "swap", address, str(length))
            await server.says("sent")
        _, sent, _, took = said.split()
        assert server.lines[-1] == f"sent {took} took {sent}"

    def vif(self, guest: str, wire: Wire) -> dict[str, dict[str, int]]:
        """Counters of both ends of a guest's vif."""
        found: dict[str, dict[str, int]] = self.machine.statistics()["vifs"][f"{guest}/{wire.handle}"]
        return found


Boot = Callable[..., AbstractAsyncContextManager[Running]]
MakeLab = Callable[..., Lab]


@asynccontextmanager
async def booted(lab: Lab, run_dir: Path | None = None) -> AsyncIterator[Running]:
    """A lab with every vif Connected; ended, it has nothing left on its books."""
    said: list[str] = []
    async with Machine(lab, on_event=said.append, run_dir=run_dir) as machine:
        await machine.wait_connected()
        running = Running(machine)
        yield running
        assert (await machine.check())["problems"] == []
        del running.machine  # pytest keeps what a test was given, and it would keep the machine's memory
        assert not [line for line in said if "Error" in line], "\n".join(said)
    assert machine.leaks == []


@pytest.fixture
def boot() -> Boot:
    """``async with boot(lab) as running``."""
    return booted


@pytest.fixture
def lab() -> MakeLab:
    """Makes a lab with guests of the names given; see `lab_of`."""
    return lab_of


@pytest.fixture
def peer() -> tuple[str, ...]:
    """The command line of peer.py."""
    return PEER


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Guests a and b on every wire, shared by the tests of a module: they leave it as it was."""
    lab = lab_of("a", "b", sysctl={"net.ipv4.icmp_echo_ignore_broadcasts": "0"})
    async with booted(lab, tmp_path_factory.mktemp("run")) as running:
        yield running


@pytest.fixture
def wires() -> tuple[Wire, ...]:
    """All ways between guests."""
    return WIRES


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each way between guests."""
    found = request.param
    assert isinstance(found, Wire)
    return found


@pytest.fixture(params=[wire for wire in WIRES if wire.bridge], ids=lambda wire: wire.name)
def dom0_wire(request: pytest.FixtureRequest) -> Wire:
    """Each way to dom0."""
    found = request.param
    assert isinstance(found, Wire)
    return found
