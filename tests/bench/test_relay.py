"""The relays, in C and in Python, on pipes' two-way cousins: what goes in at one fd comes out at its peer's."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from xnet.bench.setup import end
from xnet.bench.setups import Relay, c_relay, python_relay

pytestmark = pytest.mark.integration


@pytest.fixture(params=["c", "python"])
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    if request.param == "python":
        yield python_relay()
        return
    with c_relay() as compiled:
        if compiled is None:
            pytest.skip("no C compiler")
        yield compiled


def wires(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Datagram pairs, ours and the relay's end, which is non-blocking as a TAP's fd is."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for ours, theirs in pairs:
        ours.settimeout(5)
        theirs.setblocking(False)
    return pairs


def test_frames_cross_to_their_peer_whole_and_in_order(relay: Relay) -> None:
    pairs = wires(4)
    pump = relay.start([theirs.fileno() for _, theirs in pairs])
    try:
        for source, target in ((0, 1), (1, 0), (2, 3), (3, 2)):
            frames = [bytes([source, number]) * size for number, size in enumerate((7, 32, 757, 32000))]
            for frame in frames:
                pairs[source][0].send(frame)
            assert [pairs[target][0].recv(70000) for _ in frames] == frames
    finally:
        end(pump)
        for pair in pairs:
            for each in pair:
                each.close()


def test_the_relay_ends_with_its_standard_input(relay: Relay) -> None:
    (ours, theirs), (ours2, theirs2) = wires(2)
    with ours, theirs, ours2, theirs2, relay.start([theirs.fileno(), theirs2.fileno()]) as pump:
        assert pump.stdin is not None
        pump.stdin.close()
        assert pump.wait(5) == 0


@pytest.mark.parametrize("fds", [[], ["3"], ["3", "4", "5"]])
def test_fds_that_are_no_pairs_are_a_usage_error(relay: Relay, fds: list[str]) -> None:
    run = subprocess.run(
        [*relay.program.argv, *fds], pass_fds=relay.program.keep, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "usage" in run.stderr


def test_the_compiled_relay_is_a_deleted_file() -> None:
    with c_relay() as compiled:
        if compiled is None:
            pytest.skip("no C compiler")
        assert os.readlink(compiled.program.argv[0]).endswith("(deleted)")
