"""Real tools in guests: ping and iperf3 started through a guest's namespaces, and what they measured."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xnet.errors import XnetError

if TYPE_CHECKING:
    from xnet.host.netns import NamespaceFds

PACKAGES = {"ping": "iputils-ping", "iperf3": "iperf3", "nsenter": "util-linux"}
"""Tool -> the Debian package that brings it."""
SLACK_S = 15.0
"""How much longer than it was told a tool may take."""
PINGS = 20
UDP_BPS = 50_000_000
UDP_LEN = 1400
UDP_LOSS_MAX_PERCENT = 25.0
"""UDP is fed at `UDP_BPS` in datagrams of `UDP_LEN` bytes; it has passed if it lost no more than this: on
a busy machine the receiver's socket buffer, some 20 ms of that rate, overflows by itself."""

RECEIVED = re.compile(r"(\d+) packets transmitted, (\d+) received")
RTT = re.compile(r"= ([\d.]+)/([\d.]+)/([\d.]+)")


@dataclass(slots=True, frozen=True)
class Outcome:
    """What a tool measured; None where it measures no such thing. `problem`: why it counts as not passed, or ""."""

    gbps: float | None = None
    loss_percent: float | None = None
    rtt_ms: float | None = None
    problem: str = ""


def need_tools(*tools: str) -> None:
    """XnetError with the way to get them, when tools are missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(PACKAGES[tool] for tool in missing)
        raise XnetError(f"{', '.join(missing)} not found: sudo apt-get install {packages}")


async def start(fds: NamespaceFds, argv: Sequence[str]) -> asyncio.subprocess.Process:
    """Start a tool in a guest, in a session of its own: `end` it."""
    from xnet.host.enter import guest_command

    command, passed = guest_command(fds, argv)
    return await asyncio.create_subprocess_exec(
        *command,
        pass_fds=passed,
        start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a tool that still runs, and wait for it."""
    from xnet.host.enter import end_guest_command

    if process.returncode is None:
        end_guest_command(process.pid)
    await process.wait()


async def output(fds: NamespaceFds, argv: Sequence[str], timeout_s: float) -> tuple[str, str]:
    """(stdout, stderr) of a tool that runs in a guest to its end. XnetError when it takes longer than it may."""
    process = await start(fds, argv)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise XnetError(f'"{" ".join(argv)}" did not end in {timeout_s:.0f} s') from None
    finally:
        await end(process)
    return out.decode(errors="replace"), err.decode(errors="replace")


async def ping(fds: NamespaceFds, address: str) -> Outcome:
    """Ping an address from a guest; it has passed if every echo came back."""
    argv = ["ping", "-q", "-n", "-c", str(PINGS), "-i", "0.02", "-W", "2", address]
    out, err = await output(fds, argv, SLACK_S)
    return ping_outcome(out, err)


def ping_outcome(out: str, err: str) -> Outcome:
    """What the last lines of ping(8) say."""
    counts, times = RECEIVED.search(out), RTT.search(out)
    if counts is None:
        return Outcome(problem=last_line(err or out) or "ping said nothing")
    sent, received = int(counts[1]), int(counts[2])
    problem = "" if received == sent else f"{received} of {sent} echoes came back"
    return Outcome(
        loss_percent=100 * (sent - received) / sent, rtt_ms=float(times[2]) if times else None, problem=problem
    )


@asynccontextmanager
async def iperf_server(fds: NamespaceFds) -> AsyncIterator[None]:
    """An iperf3 server in a guest, listening on IPv4 and IPv6."""
    process = await start(fds, ["iperf3", "-s", "--forceflush"])
    assert process.stdout is not None
    drain: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(SLACK_S):
            while b"listening" not in (line := await process.stdout.readline()):
                if not line:
                    assert process.stderr is not None
                    said = (await process.stderr.read()).decode(errors="replace")
                    raise XnetError(f"iperf3 -s: {last_line(said)}")
        drain = asyncio.create_task(swallow(process.stdout))
        yield
    except TimeoutError:
        raise XnetError("iperf3 -s does not listen") from None
    finally:
        if drain is not None:
            drain.cancel()
        await end(process)


async def swallow(stream: asyncio.StreamReader) -> None:
    """Read what nobody wants, so that its writer never waits."""
    while await stream.read(1 << 16):
        pass


async def iperf(fds: NamespaceFds, address: str, time_s: int, *, udp: bool = False, back: bool = False) -> Outcome:
    """iperf3 from a guest to a server (with `back`: the server sends)."""
    argv = ["iperf3", "-J", "-c", address, "-t", str(time_s), "--connect-timeout", "3000"]
    argv += ["-u", "-b", str(UDP_BPS), "-l", str(UDP_LEN)] if udp else []
    argv += ["-R"] if back else []
    out, err = await output(fds, argv, time_s + SLACK_S)
    try:
        report = json.loads(out)
    except ValueError:
        return Outcome(problem=last_line(err or out) or "iperf3 said nothing")
    return udp_outcome(report) if udp else tcp_outcome(report)


def tcp_outcome(report: dict[str, Any]) -> Outcome:
    """What an iperf3 report says about TCP: bits that arrived."""
    if "error" in report:
        return Outcome(problem=str(report["error"]))
    received = report["end"]["sum_received"]
    problem = "" if received["bytes"] > 0 else "nothing arrived"
    return Outcome(gbps=received["bits_per_second"] / 1e9, problem=problem)


def udp_outcome(report: dict[str, Any]) -> Outcome:
    """What an iperf3 report says about UDP: bits that arrived, datagrams that did not."""
    if "error" in report:
        return Outcome(problem=str(report["error"]))
    total = report["end"]["sum"]
    packets, lost = total["packets"], total["lost_packets"]
    if not packets or lost >= packets:
        return Outcome(loss_percent=100.0, problem="nothing arrived")
    loss = 100 * lost / packets
    problem = f"{loss:.1f} % lost" if loss > UDP_LOSS_MAX_PERCENT else ""
    return Outcome(gbps=total["bits_per_second"] / 1e9 * (packets - lost) / packets, loss_percent=loss, problem=problem)


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
