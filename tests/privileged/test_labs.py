"""What a lab file says comes true; labs beside each other; many guests in one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xnet.engine.lab import BridgeSpec, DomainSpec, Lab, VifSpec

if TYPE_CHECKING:
    from tests.privileged.conftest import Boot, MakeLab, Running, Wire

pytestmark = pytest.mark.privileged


async def reaches(running: Running, where: str, address: str, count: int = 2) -> bool:
    """Whether every echo comes back; one after another, since of several ping does not wait long for the last one."""
    for _ in range(count):
        said = await running.run(where, "ping", "-n", "-q", "-c", "1", "-W", "10", address, status=None)
        print(where, said)
        if "1 received" not in said:
            return False
    return True


async def reaches_in_time(running: Running, where: str, address: str) -> bool:
    """The same where the host may be busy for longer than Linux asks for an address (3 s): it asks again."""
    for _ in range(5):
        if await reaches(running, where, address):
            return True
    return False


async def in_json(running: Running, where: str, *argv: str) -> Any:
    return json.loads(await running.run(where, "ip", "-j", *argv))


async def test_vifs_are_eth0_eth1_eth2_with_the_addresses_of_the_lab(
    boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]
) -> None:
    async with boot(lab("a")) as running:
        shown = {link["ifname"]: link for link in await in_json(running, "a", "address")}
        assert set(shown) == {"lo", "eth0", "eth1", "eth2"}
        assert "UP" in shown["lo"]["flags"]
        for wire in wires:
            device = shown[wire.device]
            assert {"UP", "LOWER_UP"} <= set(device["flags"])
            assert device["address"] == f"00:16:3e:00:{wire.handle:02x}:01"
            found = {
                f"{each['local']}/{each['prefixlen']}" for each in device["addr_info"] if each["scope"] == "global"
            }
            assert found == {f"{wire.v4}1/24", f"{wire.v6}1/64"}
            assert not any(each.get("tentative") for each in device["addr_info"])


async def test_routes_and_settings_of_the_lab_hold_and_dom0_routes(boot: Boot) -> None:
    """a and b are on different bridges; dom0 forwards between them once it is told to."""
    lab = Lab(
        "routed",
        domains=tuple(
            DomainSpec(
                name,
                vifs=(VifSpec(f"00:16:3e:00:00:0{n}", (f"10.{n}.0.1/24", f"fd0{n}::1/64"), bridge=f"br{n}"),),
                gateway=(f"10.{n}.0.254", f"fd0{n}::254"),
                sysctl={"net.ipv4.ip_default_ttl": f"{40 + n}"},
            )
            for n, name in ((1, "a"), (2, "b"))
        ),
        bridges=tuple(BridgeSpec(f"br{n}", (f"10.{n}.0.254/24", f"fd0{n}::254/64")) for n in (1, 2)),
    )
    async with boot(lab) as running:
        assert (await in_json(running, "a", "route", "show", "default"))[0]["gateway"] == "10.1.0.254"
        assert (await in_json(running, "b", "-6", "route", "show", "default"))[0]["gateway"] == "fd02::254"
        assert await running.run("b", "sysctl", "-n", "net.ipv4.ip_default_ttl") == "42"
        assert not await reaches(running, "a", "10.2.0.1")
        await running.run("dom0", "sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        assert await reaches(running, "a", "10.2.0.1")
        assert await reaches(running, "b", "fd01::1")
        assert "ttl=40" in await running.run("b", "ping", "-n", "-c", "1", "10.1.0.1")  # 41 at a, less dom0's hop


async def test_an_mtu_without_scatter_gather_is_1500(boot: Boot, lab: MakeLab) -> None:
    async with boot(lab("a", "b", mtu=9000, backend={"a": {"sg": False}})) as running:
        assert (await in_json(running, "a", "link", "show", "eth0"))[0]["mtu"] == 1500
        assert (await in_json(running, "b", "link", "show", "eth0"))[0]["mtu"] == 9000
        assert await reaches(running, "a", "10.0.0.2")


async def test_two_labs_in_one_process_do_not_mix(boot: Boot, lab: MakeLab, wires: tuple[Wire, ...]) -> None:
    async with boot(lab("a", "b", "c", lab="one")) as one, boot(lab("a", "b", lab="two")) as two:
        for wire in wires:
            for running in (one, two):
                assert await reaches(running, "a", wire.at(4, 2))
            assert await reaches(one, "a", wire.at(4, 3))
            assert not await reaches(two, "a", wire.at(4, 3), count=1)
    assert "vif1.0" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def two_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Labs one and two, each in a process of its own, with guests and addresses of the same names; one has c too."""
    monkeypatch.setenv("XNET_RUN", str(tmp_path / "run"))
    for name, guests in (("one", "abc"), ("two", "ab")):
        lines = ['[[bridge]]\nname = "xenbr0"']
        for n, guest in enumerate(guests, 1):
            lines.append(f'[[domain]]\nname = "{guest}"\nvif = [{{ bridge = "xenbr0", ip = "10.0.0.{n}/24" }}]')
        (tmp_path / f"{name}.toml").write_text("\n".join(lines))
    try:
        for name in ("one", "two"):
            assert xnet("up", str(tmp_path / f"{name}.toml"))[0] == 0
        yield
    finally:
        assert xnet("down", "--all") == (0, "", "")
        assert not list((tmp_path / "run").iterdir())


def xnet(*arguments: str) -> tuple[int, str, str]:
    """A command line's exit status and what it said."""
    done = subprocess.run([sys.executable, "-m", "xnet", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_two_labs_in_two_processes_do_not_mix(two_engines: None) -> None:
    ping = ["ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "0.5"]
    for name, address, status in (
        ("one", "10.0.0.2", 0),
        ("two", "10.0.0.2", 0),
        ("one", "10.0.0.3", 0),
        ("two", "10.0.0.3", 1),
    ):
        assert xnet("exec", "--lab", name, "a", "--", *ping, address)[0] == status
    assert "one" in xnet("exec", "a", "--", "true")[2]  # which lab? it names them
    for name, guests in (("one", ["dom0", "a", "b", "c"]), ("two", ["dom0", "a", "b"])):
        listed = json.loads(xnet("list", "--lab", name, "--json")[1])
        assert [domain["name"] for domain in listed["domains"]] == guests


def test_exec_passes_exit_status_and_signals_on(two_engines: None) -> None:
    run = ("exec", "--lab", "two", "b", "--")
    assert xnet(*run, "sh", "-c", "exit 7")[0] == 7
    assert xnet(*run, "sh", "-c", "kill -TERM $$")[0] == 143
    assert xnet(*run, "no-such-command")[0] == 127
    assert (
        xnet(*run, "sh", "-c", "hostname; cat /sys/class/net/eth0/address; ls /proc | grep -c '^[0-9]*$'")[1].split()[0]
        == "b"
    )


def resident_mib() -> dict[str, int]:
    """This process' resident memory by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if line.startswith(("VmRSS", "Rss"))}


@pytest.mark.slow
async def test_fifty_guests_all_reach_dom0_and_each_other(boot: Boot) -> None:
    names = [f"g{n}" for n in range(1, 51)]
    lab = Lab(
        "fifty",
        domains=tuple(
            DomainSpec(name, vifs=(VifSpec(f"00:16:3e:00:00:{n:02x}", (f"10.0.0.{n}/24",), bridge="xenbr0"),))
            for n, name in enumerate(names, 1)
        ),
        bridges=(BridgeSpec("xenbr0", ("10.0.0.254/24",)),),
    )
    before = resident_mib()
    async with boot(lab) as running:
        print(before, resident_mib())
        for start in range(0, 50, 10):
            batch = names[start : start + 10]
            answers = await asyncio.gather(*(reaches_in_time(running, name, "10.0.0.254") for name in batch))
            assert all(answers), (batch, answers)
        assert await reaches_in_time(running, "g1", "10.0.0.50")
        assert await reaches_in_time(running, "g50", "10.0.0.1")
        print(resident_mib())
