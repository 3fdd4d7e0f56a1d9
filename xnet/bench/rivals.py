"""What a user would take instead of xnet, as setups of two guests: VDE, Open vSwitch in user space, pasta, socat.

::

    vde     a: eth0 = TAP -- vde_plug2tap -- vde_switch -- vde_plug2tap -- TAP = eth0 :b
    ovs     a: eth0 = TAP ---- ovs-vswitchd, datapath_type=netdev, no kernel module ---- TAP = eth0 :b
    pasta   a: eth0 = TAP ---- pasta, which ends a's TCP and UDP and opens sockets of its own in ---- :b
    socat   a: eth0 = TAP -- socat -- UNIX SEQPACKET socket -- socat -- TAP = eth0 :b

Nothing of the system's is touched: sockets, database and pid files lie in a tmpfs that only these processes see
(`Den`), namespaces are anonymous, no daemon detaches, all die with the bench. What fails to start says so in its own
words; what is not installed is told apart by `Rival.missing`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xnet.bench.namespaces import Namespace
from xnet.bench.setup import PREFIX_LEN, Setup, Tool, address_of, end, wait_connected
from xnet.bench.setups import NamespaceSetup, give_address, kernel_setup, namespaces
from xnet.errors import HostError

OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
READY_S = 10.0


class Den:
    """A mount namespace with a ``/run`` of its own; a context manager whose tools end with it, the last one first."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.tools: list[Tool] = []
        script = "mount -t tmpfs tmpfs /run && echo ready && exec sleep infinity"
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.stack.callback(end, self.holder)

    def __enter__(self) -> Den:
        assert self.holder.stdout is not None
        words = self.holder.stdout.readline()
        if words != "ready\n":
            self.stack.close()
            raise HostError(f"bench: a mount namespace: {words.strip()}", call="unshare")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def run(self, space: Namespace, argv: Sequence[str]) -> Tool:
        """Start a tool in a network namespace and in here."""
        tool = space.start(["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *argv])
        self.stack.callback(end, tool)
        return tool

    def pump(self, space: Namespace, argv: Sequence[str]) -> None:
        """Start one of the processes that move the frames."""
        self.tools.append(self.run(space, argv))

    def ask(self, space: Namespace, argv: Sequence[str]) -> None:
        """Run a tool to its end; `HostError` with its words if it fails."""
        tool = self.run(space, argv)
        words = tool.communicate(timeout=READY_S)[0]
        if tool.returncode:
            raise HostError(f"{argv[0]}: {' '.join(words.split())}", call=argv[0])

    def wait(self, what: str, there: Callable[[], bool]) -> None:
        """Return when `there` is true; `HostError` with the words of a pump that ended, or after `READY_S`."""
        until = time.monotonic() + READY_S
        while not there():
            for tool in self.tools:
                if tool.poll() is not None:
                    assert tool.stdout is not None
                    raise HostError(f"{what}: ended: {' '.join(tool.stdout.read().split())[-300:]}")
            if time.monotonic() > until:
                raise HostError(f"{what}: not there after {READY_S:g} s")
            time.sleep(0.02)

    def has(self, path: str) -> bool:
        """Whether a path exists in here."""
        return Path(f"/proc/{self.holder.pid}/root{path}").exists()

    def pids(self) -> tuple[int, ...]:
        """The processes that move the frames."""
        return tuple(tool.pid for tool in self.tools)


def has_link(space: Namespace, name: str = "eth0") -> bool:
    """Whether there is a link of that name in the namespace."""
    with space.start(["ip", "link", "show", "dev", name]) as tool:
        tool.communicate()
    return tool.returncode == 0


@contextmanager
def vde_setup() -> Iterator[Setup]:
    """A VDE switch and a plug into a TAP for each guest. The switch ends with its standard input: a FIFO of its own."""
    with namespaces() as (guests, dom0), Den() as den:
        switch = "mkfifo /run/in && exec vde_switch --sock /run/ctl --rcfile /dev/null <>/run/in"
        den.pump(dom0, ["sh", "-c", switch])
        den.wait("vde_switch", lambda: den.has("/run/ctl/ctl"))
        for guest, space in guests.items():
            den.pump(space, ["vde_plug2tap", "--sock", "/run/ctl", "eth0"])
            den.wait("vde_plug2tap", lambda space=space: has_link(space))  # type: ignore[misc]
            give_address(space, guest)
        yield connected("vde", den, guests)


@contextmanager
def socat_setup() -> Iterator[Setup]:
    """A socat for each guest between its TAP and a UNIX socket that keeps the frames apart (type 5: SEQPACKET)."""
    ends = {"a": "UNIX-LISTEN:/run/frames,type=5", "b": "UNIX-CONNECT:/run/frames,type=5"}
    with namespaces() as (guests, _), Den() as den:
        for guest, space in guests.items():
            tun = f"TUN:{address_of(guest)}/{PREFIX_LEN},tun-name=eth0,tun-type=tap,iff-no-pi,iff-up"
            den.pump(space, ["socat", "-b", "65536", ends[guest], tun])
            if guest == "a":
                den.wait("socat", lambda: den.has("/run/frames"))
        for space in guests.values():
            den.wait("socat", lambda space=space: has_link(space))  # type: ignore[misc]
        yield connected("socat", den, guests)


@contextmanager
def ovs_setup() -> Iterator[Setup]:
    """Open vSwitch with its datapath in user space; its TAPs are moved into the guests."""
    ctl = ["ovs-vsctl", "--db=unix:/run/db.sock", "--timeout=10"]
    with namespaces() as (guests, dom0), Den() as den:
        den.ask(dom0, ["ovsdb-tool", "create", "/run/conf.db", OVS_SCHEMA])
        den.pump(dom0, _ovs("ovsdb-server", "--remote=punix:/run/db.sock", "/run/conf.db"))
        den.wait("ovsdb-server", lambda: den.has("/run/db.sock"))
        den.ask(dom0, [*ctl, "--no-wait", "init"])
        den.pump(dom0, _ovs("ovs-vswitchd", "unix:/run/db.sock"))
        den.ask(dom0, [*ctl, "add-br", "xenbr0", "--", "set", "bridge", "xenbr0", "datapath_type=netdev"])
        for guest in guests:
            den.ask(
                dom0, [*ctl, "add-port", "xenbr0", f"tap{guest}", "--", "set", "interface", f"tap{guest}", "type=tap"]
            )
        for guest, space in guests.items():
            den.wait("ovs-vswitchd", lambda guest=guest: has_link(dom0, f"tap{guest}"))  # type: ignore[misc]
            dom0.ip(f"link set tap{guest} netns {space.path} name eth0")
            give_address(space, guest)
        yield connected("ovs", den, guests)


def _ovs(daemon: str, *arguments: str) -> list[str]:
    options = ["--no-chdir", f"--unixctl=/run/{daemon}.ctl", "--pidfile=/run/" + daemon + ".pid", "-vconsole:err"]
    return ["env", "OVS_RUNDIR=/run", daemon, *options, "-vsyslog:off", *arguments]


@contextmanager
def pasta_setup() -> Iterator[Setup]:
    """pasta between guest a and the network of b: no frames there, it answers for b and speaks by sockets."""
    none = [each for option in "tuTU" for each in (f"-{option}", "none")]
    with namespaces() as (guests, _), Den() as den:
        a, b = guests["a"], guests["b"]
        b.ip("link add eth0 type bridge")
        give_address(b, "b")
        den.ask(b, ["sh", "-c", f"touch /run/a && mount --bind {a.path} /run/a"])
        den.ask(b, ["sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"])
        place = ["--interface", "eth0", "--ns-ifname", "eth0", "--runas", "0", "--netns", "/run/a", *none]
        address = [
            "--address",
            address_of("a"),
            "--netmask",
            str(PREFIX_LEN),
            "--gateway",
            "10.77.0.254",
            "--ipv4-only",
        ]
        den.pump(b, ["pasta", "--foreground", "--log-file", "/run/log", "--config-net", *place, *address])
        den.wait("pasta", lambda: has_link(a))
        yield connected("pasta", den, guests)


def connected(name: str, den: Den, guests: dict[str, Namespace]) -> Setup:
    """The setup, when the guests reach each other."""
    setup = NamespaceSetup(name, den.pids(), guests)
    wait_connected(setup)
    return setup


@dataclass(slots=True, frozen=True)
class Rival:
    """Something to compare with: `tools` it is made of, Debian's `package` of them, and what is different there."""

    name: str
    setup: Callable[[], AbstractContextManager[Setup]]
    tools: tuple[str, ...]
    package: str
    note: str

    def missing(self) -> str | None:
        """What to do before it can be compared; None if it is installed."""
        installed = all(map(shutil.which, self.tools))
        return None if installed else f"not installed: apt install {self.package}"

    def version(self) -> str:
        """Debian's version of it, which is the whole difference with some; unknown where there is no dpkg."""
        try:
            asked = subprocess.run(["dpkg-query", "-W", self.package], capture_output=True, text=True, check=False)
        except OSError:
            return f"{self.package} of unknown version"
        return " ".join(asked.stdout.split()) or f"{self.package} of unknown version"


RIVALS = (
    Rival(
        "kernel",
        kernel_setup,
        ("ip",),
        "iproute2",
        "veth and bridge: no user space; the frames move in the senders' system calls and softirqs, CPU not counted",
    ),
    Rival(
        "vde",
        vde_setup,
        ("vde_switch", "vde_plug2tap"),
        "vde2",
        "VDE switch and two plugs: TAPs without vnet header, so the guests' kernels sum and segment",
    ),
    Rival(
        "ovs",
        ovs_setup,
        ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"),
        "openvswitch-switch",
        "Open vSwitch, datapath_type=netdev as it is by default: TAPs without vnet header; no DPDK",
    ),
    Rival(
        "pasta",
        pasta_setup,
        ("pasta",),
        "passt",
        "pasta: one TAP only; it ends the guest's TCP and UDP itself and speaks by sockets of its own: no frames at b",
    ),
    Rival(
        "socat",
        socat_setup,
        ("socat",),
        "socat",
        "two socats and a UNIX socket: TAPs without vnet header, so the guests' kernels sum and segment",
    ),
)
