"""Many pairs of guests at once: one TCP stream each, all started together, and what all receivers got.

One relay process joins all pairs, one engine runs all guests. The ends (`ends.c`) are started once for a setup and
wait at gates, pipes that open for all of them when we close our end: a gate a round. The aggregate is what the
receivers got from when the first began to count until the last had ended, so a late one costs, in both setups alike.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from xnet.bench.parse import Streamed, streamed
from xnet.bench.programs import Program
from xnet.bench.setup import Setup, Tool, end, guests_of
from xnet.bench.workloads import Figures, cpu_of
from xnet.errors import HostError

SIZES = (2, 8, 32)
PORT = "5203"
START_S, GRACE_S = 60.0, 20.0
"""How long the ends may take until they have met, and to end beyond the time asked for."""


@dataclass(slots=True, frozen=True)
class Streams:
    """One stream a pair, held at its gates; `gates` are our ends of the pipes, to be closed one by one."""

    setup: Setup
    sinks: list[Tool]
    sources: list[Tool]
    gates: list[int]
    seconds: float

    def run(self) -> Figures:
        """Open the next gate: aggregate ``tcp_gbps_N``, and ``tcp_cpu_s_per_gb_N`` of the process between."""
        before = cpu_of(self.setup.pids)
        os.close(self.gates.pop(0))
        until = time.monotonic() + self.seconds + GRACE_S
        got = [streamed(_line(sink, until)) for sink in self.sinks]
        after = cpu_of(self.setup.pids)
        for source in self.sources:
            _line(source, until)
        return figures(got, None if before is None or after is None else after - before)


def figures(got: Sequence[Streamed], cpu: float | None) -> Figures:
    """The figures of one round by what each receiver got and what the process between them spent."""
    payload = sum(each.payload for each in got)
    seconds = (max(each.end_ns for each in got) - min(each.start_ns for each in got)) / 1e9
    if not payload:
        raise HostError("pairs: nothing arrived")
    result = {f"tcp_gbps_{len(got)}": payload * 8 / seconds / 1e9}
    if cpu is not None:
        result[f"tcp_cpu_s_per_gb_{len(got)}"] = cpu / (payload / 1e9)
    return result


@contextmanager
def streams(setup: Setup, ends: Program, pairs: int, rounds: int, seconds: float) -> Iterator[Streams]:
    """The ends of `pairs` streams, connected once and waiting at the first of `rounds` gates."""
    with ExitStack() as stack:
        gates: list[int] = []
        theirs: list[int] = []
        for _ in range(rounds):
            reading, writing = os.pipe()
            theirs.append(reading)
            gates.append(writing)
        stack.callback(_close, gates)
        stack.callback(_close, theirs)
        names = guests_of(pairs)
        until = time.monotonic() + START_S

        def started(guest: str, argv: Sequence[str]) -> Tool:
            tool = setup.exec(guest, [*ends.argv, *argv, *map(str, theirs)], (*ends.keep, *theirs))
            stack.callback(end, tool)
            return tool

        sinks = [started(guest, ["sink", PORT, f"{seconds:g}"]) for guest in names[1::2]]
        sources = [
            started(guest, ["source", setup.address(peer), PORT])
            for guest, peer in zip(names[::2], names[1::2], strict=True)
        ]
        for tool in (*sinks, *sources):
            if (line := _line(tool, until)) != "ready":
                raise HostError(f"pairs: {line}")
        yield Streams(setup, sinks, sources, gates, seconds)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _line(tool: Tool, until: float) -> str:
    """The next line of a tool that says one and then waits; `HostError` if it ends or does not by then."""
    assert tool.stdout is not None
    fd, text = tool.stdout.fileno(), ""
    while not text.endswith("\n"):
        if not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise HostError("pairs: an end of a stream does not answer")
        data = os.read(fd, 4096).decode(errors="replace")
        if not data:
            raise HostError(f"pairs: an end of a stream is gone: {' '.join(text.split()) or 'it said nothing'}")
        text += data
    return text.strip()
