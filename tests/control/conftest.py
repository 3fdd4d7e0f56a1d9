from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xnet.engine.lab import Lab, VifSpec
from xnet.errors import XnetError


class FakeToolstack:
    """Does nothing, for domains there are."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine

    async def attach(self, name: str, plan: Callable[[str, int], VifSpec]) -> Any:
        self.machine.namespace_fds(name)
        return types.SimpleNamespace(domain=name, handle=1, device="eth1", spec=plan(name, 1))

    async def order(self, name: str, *_: object) -> None:
        self.machine.namespace_fds(name)

    create = shutdown = reboot = destroy = suspend = resume = detach = link = restart_backend = order


class FakeMachine:
    """What the control floor sees of a machine. A domain named ``stuck`` never connects, ``rude`` kills the engine,
    ``sour`` raises, ``slow`` never finishes its teardown."""

    spaces: Any
    """Its guest's namespaces, which are the test's own."""

    def __init__(self, lab: Lab, *, on_event: Callable[[str], None] | None = None, run_dir: Path | None = None) -> None:
        self.lab = lab
        self.names = [domain.name for domain in lab.domains]
        self.on_event = on_event or (lambda text: None)
        self.run_dir = run_dir
        self.looks = self.checks = 0
        self.toolstack = FakeToolstack(self)

    async def __aenter__(self) -> FakeMachine:
        self.on_event("booting")
        if self.run_dir is not None:
            (self.run_dir / "xenstored.sock").touch()
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        if "slow" in self.names:
            await asyncio.sleep(60)

    async def wait_connected(self, timeout_s: float) -> None:
        import asyncio

        if "rude" in self.names:
            os.kill(os.getpid(), 9)
        if "sour" in self.names:
            raise RuntimeError("a mistake of ours")
        if "stuck" in self.names:
            raise XnetError("vif1.0: not Connected: waits for the frontend")
        if "endless" in self.names:
            await asyncio.sleep(60)

    def describe(self) -> dict[str, Any]:
        vif = {
            "handle": 0,
            "device": "eth0",
            "mac": "00:16:3e:00:00:01",
            "ip": ["10.0.0.1/24"],
            "mtu": 1500,
            "backend": "xnbu",
            "attached": "xenbr0",
            "name": "vif1.0",
            "state": "Connected",
            "reason": "no reason at all" if "sad" in self.names else "",
            "tx_mode": "map",
            "rx_mode": "copy",
            "link": "up",
            "carrier": True,
            "xdp_headroom": 0,
            "rate": None,
            "hashing": {"algorithm": "toeplitz", "kinds": ["ipv4", "ipv4-tcp"], "key": "00" * 40, "mapping": [0, 1, 0]},
            "frontend_profile": "windows",
            "backend_profile": "xvm-2008",
            "queues": 1,
            "event_channels": 2,
            "features": {"to_backend": {"sg": True, "gso-tcpv4": False}, "to_guest": {}},
            "statistics": {"tx": {"frames": 7}},
        }
        return {
            "lab": self.lab.name,
            "domains": [
                {"name": "Domain-0", "id": 0, "type": "pv", "state": "r-----", "memory_mib": 64, "vifs": []},
                {"name": "a", "id": 1, "type": "pv", "state": "-b----", "memory_mib": 32, "vifs": [vif]},
            ],
            "bridges": [],
            "links": [],
            "etherstubs": [],
        }

    def statistics(self) -> dict[str, Any]:
        return {"vif1.0": {"frames": 7}}

    def heap(self) -> dict[str, int]:
        return {"pages": 4096, "used": 50, "free": 4046}

    def console_lines(self) -> list[str]:
        """One more every time that somebody looks."""
        self.looks += 1
        return ["(XEN) d1 created", "(XEN) vif1.0 connected", *(f"(XEN) look {n}" for n in range(2, self.looks + 1))]

    def pause(self, name: str) -> None:
        self.namespace_fds(name)
        self.on_event(f"paused {name}")

    def unpause(self, name: str) -> None:
        self.namespace_fds(name)
        self.on_event(f"unpaused {name}")

    async def check(self) -> dict[str, Any]:
        """In order the first two times."""
        self.checks += 1
        problems = ["dom0: 1 ports, 0 accounted for"] if self.checks > 2 else []
        return {"problems": problems, "domains": 2, "vifs": 1}

    def namespace_fds(self, domain: str) -> Any:
        if domain != "a":
            raise XnetError(f'there is no domain "{domain}"; there are Domain-0, a')
        return self.spaces


@pytest.fixture
def run_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where state directories are, for this test."""
    path = tmp_path / "run"
    monkeypatch.setenv("XNET_RUN", str(path))
    return path


@pytest.fixture
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeMachine]]:
    """A machine without Linux, in the place of the real one; it needs no root."""
    module = types.ModuleType("xnet.engine.machine")
    module.Machine = FakeMachine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xnet.engine.machine", module)
    monkeypatch.setattr("xnet.control.state.need_root", lambda: None)
    fds = {name: os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("net", "mnt", "pid", "uts")}
    monkeypatch.setattr(FakeMachine, "spaces", types.SimpleNamespace(**fds), raising=False)
    yield FakeMachine
    for fd in fds.values():
        os.close(fd)


@pytest.fixture
def dead_claim(run_root: Path) -> Callable[[str], None]:
    """Claims a name for a process that is killed."""

    def make(name: str) -> None:
        code = f"import os; from xnet.control.state import claim; claim({name!r}, 'x.toml'); os.kill(os.getpid(), 9)"
        done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == -signal.SIGKILL

    return make
