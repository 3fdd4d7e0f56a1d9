"""``xnet demo``: the whole path at work, measured, and nothing left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from xnet.control.show import Progress, as_json, coloured, strong, table
from xnet.control.traffic import Outcome, iperf, iperf_server, need_tools, ping
from xnet.control.verbs.options import json_option
from xnet.errors import XnetError

if TYPE_CHECKING:
    from xnet.engine.lab import Lab
    from xnet.engine.machine import Machine

FLAVOURS = {
    "xnbu": ("10.0.0.", "fd00::", "vifs in a Linux bridge of dom0"),
    "xnbo": ("10.1.0.", "fd01::", "vnics on a link, its uplink in another bridge of dom0"),
}
"""Flavour of netback -> its IPv4 and IPv6 subnets, and what it is."""
HOSTS = {"a": "1", "b": "2", "dom0": "254"}


@dataclass(slots=True, frozen=True)
class Run:
    """One tool's run: over which flavour of netback, what was run, what it measured, what crossed the rings."""

    over: str
    what: str
    outcome: Outcome
    crossed: dict[str, int]


@dataclass(slots=True)
class Demo:
    """What there is to tell, as it comes about; `quiet` tells nothing before the end."""

    seconds: int
    quiet: bool
    began: float = field(default_factory=time.monotonic)
    boot_s: float = 0.0
    events: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self.quiet:
            click.echo(text)

    def event(self, text: str) -> None:
        """Something happened in the machine."""
        if not self.boot_s:
            self.events.append(text)
            self.say(f"  {text}")

    def ready(self, _: str) -> None:
        """All vifs are Connected."""
        self.boot_s = time.monotonic() - self.began
        self.say(f"  every vif Connected after {self.boot_s:.2f} s")

    async def work(self, machine: Machine) -> None:
        """All traffic, one run after the other."""
        async with iperf_server(machine.namespace_fds("b")):
            for over, (_, _, what) in FLAVOURS.items():
                self.say(f"\n{strong(over)}: {what}")
                await self.flavour(machine, over)

    async def flavour(self, machine: Machine, over: str) -> None:
        """All runs over one flavour of netback."""
        v4, v6, _ = FLAVOURS[over]
        a, seconds = machine.namespace_fds("a"), self.seconds
        await self.run(machine, over, "ping a -> b, IPv4", ping(a, v4 + HOSTS["b"]))
        await self.run(machine, over, "ping a -> b, IPv6", ping(a, v6 + HOSTS["b"]))
        await self.run(machine, over, "ping a -> dom0", ping(a, v4 + HOSTS["dom0"]))
        for family, net in (("IPv4", v4), ("IPv6", v6)):
            b = net + HOSTS["b"]
            await self.run(machine, over, f"TCP a -> b, {family}", iperf(a, b, seconds))
            await self.run(machine, over, f"TCP b -> a, {family}", iperf(a, b, seconds, back=True))
        await self.run(machine, over, "UDP a -> b, IPv4", iperf(a, v4 + HOSTS["b"], seconds, udp=True))

    async def run(self, machine: Machine, over: str, what: str, tool: Awaitable[Outcome]) -> None:
        """One tool, with the counters before and after it."""
        with Progress() as progress:
            if not self.quiet:
                progress.say(f"  {what} ...")
            before = counters(machine.statistics(), over)
            outcome = await tool
            after = counters(machine.statistics(), over)
        crossed = {name: after[name] - before[name] for name in after}
        self.runs.append(Run(over, what, outcome, crossed))
        self.say(f"  {what:<18} {in_words(outcome)}")

    def passed(self) -> bool:
        """Whether all traffic passed."""
        return bool(self.runs) and not any(run.outcome.problem for run in self.runs)

    def summary(self) -> None:
        """All runs in one table."""
        names = list(self.runs[0].crossed)
        measured = ("Gbit/s", "loss %", "RTT ms")
        rows = [
            (
                run.over,
                run.what,
                number(run.outcome.gbps, 2),
                number(run.outcome.loss_percent, 1),
                number(run.outcome.rtt_ms, 2),
                *(run.crossed[name] for name in names),
            )
            for run in self.runs
        ]
        self.say("\nwhat crossed the rings of both guests' vifs, and what the hypervisor did for it:\n")
        header = ("over", "what", *measured, *(name.removeprefix("grant_").replace("_", " ") for name in names))
        table(header, rows, right=header[2:])

    def data(self) -> dict[str, Any]:
        """The same for programs."""
        boot = {"seconds": round(self.boot_s, 3), "events": self.events}
        runs = [
            {"over": run.over, "what": run.what, **asdict(run.outcome), "crossed": run.crossed} for run in self.runs
        ]
        return {"passed": self.passed(), "boot": boot, "runs": runs}


@click.command(short_help="Boot two guests, send real traffic between them, show what crossed.")
@click.option(
    "--time", "seconds", type=click.IntRange(1, 3600), default=2, show_default=True, help="Seconds per iperf3."
)
@json_option
def demo(seconds: int, want_json: bool) -> int:
    """Boot two guests on an emulated Xen host, send real ping and iperf3 between them and to dom0, show what crossed.

    Each guest has a vif in a Linux bridge (xnbu) and one on a vnic (xnbo); the traffic goes once over either. Exit
    status 0 only if all of it passed: every echo answered, TCP delivered both ways, UDP without much loss.

    Example:  sudo xnet demo
    """
    from xnet.control import daemon
    from xnet.control.state import need_root

    need_root()
    need_tools("ping", "iperf3", "nsenter")
    lab = demo_lab()
    show = Demo(seconds, want_json)
    show.say(f"{strong('booting')} guests a and b")
    signum = daemon.run(lab, show.event, show.ready, show.work)
    if signum:
        raise daemon.Interrupted(signum)
    if not show.runs:
        raise XnetError("the demo was taken down before anything was run")
    if want_json:
        as_json(show.data())
    else:
        show.summary()
        verdict = "all traffic passed" if show.passed() else "not all traffic passed"
        click.echo(f"\n{coloured(verdict, show.passed())}; nothing is left behind")
    return 0 if show.passed() else 1


def demo_lab() -> Lab:
    """Two guests with a vif over each flavour."""
    from xnet.control.config import parse_lab

    name = f"demo-{os.getpid()}"
    lines = [f'[lab]\nname = "{name}"']
    for index, (v4, v6, _) in enumerate(FLAVOURS.values()):
        lines.append(
            f'[[bridge]]\nname = "xenbr{index}"\naddress = ["{v4}{HOSTS["dom0"]}/24", "{v6}{HOSTS["dom0"]}/64"]'
        )
    lines.append('[[link]]\nname = "net0"\nbridge = "xenbr1"')
    for guest in ("a", "b"):
        vifs = [
            f'{{ {plug}, ip = ["{v4}{HOSTS[guest]}/24", "{v6}{HOSTS[guest]}/64"] }}'
            for plug, (v4, v6, _) in zip(('bridge = "xenbr0"', 'link = "net0"'), FLAVOURS.values(), strict=True)
        ]
        lines.append(f'[[domain]]\nname = "{guest}"\nvif = [{", ".join(vifs)}]')
    return parse_lab("\n".join(lines), name)


def counters(statistics: dict[str, Any], over: str) -> dict[str, int]:
    """What the vifs of one flavour, and the hypervisor for all, have counted so far, summed."""
    handle = list(FLAVOURS).index(over)
    vifs = [statistics["vifs"][f"{guest}/{handle}"] for guest in ("a", "b")]
    ends = [vif[end] for vif in vifs for end in ("netfront", "netback")]

    def total(rows: Iterable[dict[str, int]], *names: str) -> int:
        return sum(row[name] for row in rows for name in names)

    backs, domains = [vif["netback"] for vif in vifs], list(statistics["domains"].values())
    return {
        "frames": total(backs, "tx_packets", "rx_packets"),
        "slots": total(backs, "tx_slots", "rx_slots"),
        "grant_copies": total(domains, "copies"),
        "grant_maps": total(domains, "maps"),
        "bytes_copied": total(domains, "bytes_copied"),
        "notified": total(ends, "tx_notified", "rx_notified"),
        "suppressed": total(ends, "tx_suppressed", "rx_suppressed"),
    }


def in_words(outcome: Outcome) -> str:
    """A run's outcome for people."""
    parts = []
    if outcome.gbps is not None:
        parts.append(f"{outcome.gbps:6.2f} Gbit/s")
    if outcome.rtt_ms is not None:
        parts.append(f"{outcome.rtt_ms:6.2f} ms")
    if outcome.loss_percent is not None:
        parts.append(f"{outcome.loss_percent:.1f} % lost")
    if outcome.problem:
        parts.append(coloured(f"NOT PASSED: {outcome.problem}", False))
    return "  ".join(parts)


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
