"""`ends.c` in Python, for where there is no gcc: the same arguments, the same lines, stands alone.

``echo PORT``, ``ask ADDRESS PORT SECONDS``, ``sink PORT SECONDS GATE...``, ``source ADDRESS PORT GATE...``
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable

BLOCK = bytearray(128 * 1024)
MEET_S, RETRY_S, TICK_S = 20.0, 0.02, 0.05


def prepare(end: socket.socket) -> socket.socket:
    """Set what both ends of every connection have."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return end


def listening(port: str) -> socket.socket:
    """A socket that takes connections at `port`."""
    listener = prepare(socket.socket())
    listener.bind(("", int(port)))
    listener.listen(8)
    return listener


def connected(address: str, port: str) -> socket.socket:
    """A connection to the other end, which may not be listening yet."""
    until = time.monotonic() + MEET_S
    while True:
        end = prepare(socket.socket())
        try:
            end.connect((address, int(port)))
            return end
        except OSError:
            end.close()
            if time.monotonic() > until:
                raise
        time.sleep(RETRY_S)


def echo(port: str) -> None:
    """A byte back for each that comes."""
    end = listening(port).accept()[0]
    while byte := end.recv(1):
        end.send(byte)


def ask(address: str, port: str, seconds: str) -> None:
    """A byte, its answer, the next byte."""
    end, turns, clock = connected(address, port), [], time.perf_counter_ns
    before = clock()
    until = before + int(float(seconds) * 1e9)
    while before < until:
        end.send(b"x")
        if not end.recv(1):
            raise ConnectionError("no answer")
        now = clock()
        turns.append(now - before)
        before = now
    turns.sort()
    p50, p99 = (turns[len(turns) * part // 100] / 1e3 for part in (50, 99))
    say(json.dumps({"turns": len(turns), "p50_us": p50, "p99_us": p99}))


def say(line: str) -> None:
    """A line that is read at once."""
    print(line, flush=True)


def wait_at(gate: int) -> None:
    """Return when the pipe's writer has closed it."""
    while os.read(gate, 1):
        pass


def take(listener: socket.socket, seconds: float) -> None:
    """One stream, for as long as it takes from now; a source that does not come is no bytes."""
    start, received = time.monotonic_ns(), 0
    until = start + int(seconds * 1e9)
    listener.settimeout(seconds)
    try:
        end = listener.accept()[0]
    except TimeoutError:
        end = socket.socket()
    with end:
        end.settimeout(TICK_S)
        while time.monotonic_ns() < until:
            try:
                got = end.recv_into(BLOCK)
            except TimeoutError:
                continue
            except OSError:
                break
            if not got:
                break
            received += got
        say(f"{start} {time.monotonic_ns()} {received}")


def sink(port: str, seconds: str, *gates: str) -> None:
    """At each gate a stream for `seconds`."""
    listener = listening(port)
    listener.accept()[0].close()
    say("ready")
    for gate in gates:
        wait_at(int(gate))
        take(listener, float(seconds))


def source(address: str, port: str, *gates: str) -> None:
    """At each gate a stream until the sink hangs up."""
    connected(address, port).close()
    say("ready")
    for gate in gates:
        wait_at(int(gate))
        with connected(address, port) as end:
            try:
                while True:
                    end.send(BLOCK)
            except OSError:
                say("done")


MODES: dict[str, tuple[Callable[..., None], int, int]] = {
    "echo": (echo, 1, 1),
    "ask": (ask, 3, 3),
    "sink": (sink, 3, 999),
    "source": (source, 3, 999),
}


def main(arguments: list[str]) -> int:
    """Run one end; exit status 2 if the arguments are none of a mode."""
    mode, least, most = MODES.get(arguments[0] if arguments else "", (echo, 1, 0))
    if not least <= len(arguments) - 1 <= most:
        print("usage: ends.py " + " | ".join(MODES) + " ...", file=sys.stderr)
        return 2
    try:
        mode(*arguments[1:])
    except OSError as error:
        print(f"ends: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
