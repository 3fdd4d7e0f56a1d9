from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from xnet.control.client import Client
from xnet.control.server import Server, may_ask
from xnet.engine.lab import Lab
from xnet.errors import XnetError

pytestmark = pytest.mark.integration


@pytest.fixture
async def server(tmp_path: Path, fake_machine: Any) -> AsyncIterator[Server]:
    made = Server(fake_machine(Lab(name="pair")), tmp_path / "control.sock")
    yield made
    await made.close()
    await made.close()
    assert not made.path.exists()


async def ask(server: Server, verb: str, **arguments: object) -> Any:
    def talk() -> Any:
        with Client(server.path.parent) as client:
            return client.call(verb, **arguments)

    return await asyncio.to_thread(talk)


async def raw(server: Server, data: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(data)
    writer.write_eof()
    answers = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    await writer.wait_closed()
    return answers


async def test_the_socket_is_for_root_and_its_group_only(server: Server) -> None:
    assert server.path.stat().st_mode & 0o777 == 0o660


async def test_verbs_answer_what_the_machine_says(server: Server) -> None:
    assert await ask(server, "status") == {"status": "starting", "pid": os.getpid()}
    assert (await ask(server, "list"))["domains"][1]["name"] == "a"
    assert await ask(server, "statistics") == {"vif1.0": {"frames": 7}}
    assert (await ask(server, "dmesg"))[0] == "(XEN) d1 created"


async def test_an_error_of_the_machine_reaches_the_caller(server: Server) -> None:
    with pytest.raises(XnetError, match='there is no domain "z"; there are Domain-0, a'):
        await ask(server, "fds", domain="z")


async def test_namespace_descriptors_arrive_and_close_on_exec(server: Server) -> None:
    def talk() -> dict[str, int]:
        with Client(server.path.parent) as client:
            return client.namespaces("a")

    fds = await asyncio.to_thread(talk)
    assert list(fds) == ["net", "mnt", "pid", "uts"]
    for name, fd in fds.items():
        assert os.readlink(f"/proc/self/fd/{fd}") == os.readlink(f"/proc/self/ns/{name}")
        assert not os.get_inheritable(fd)
        os.close(fd)


async def test_shutdown_is_answered_before_it_happens(server: Server) -> None:
    assert await ask(server, "end") == "ending"
    assert server.stopping.is_set()


NONSENSE = {
    "no JSON": b"hello\n",
    "no object": b"[1]\n",
    "no verb": b"{}\n",
    "unknown verb": b'{"verb": "fly"}\n',
    "not text": b"\xff\xfe\n",
}


@pytest.mark.parametrize("request_", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_answered_by_an_error_and_the_server_goes_on(server: Server, request_: bytes) -> None:
    answers = await raw(server, request_ + b'{"verb": "status"}\n')
    assert "error" in answers[0]
    assert answers[1]["result"]["status"] == "starting"


async def test_a_request_that_never_ends_is_hung_up_on(server: Server) -> None:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b"x" * 300_000)
    with pytest.raises(ConnectionError):
        await writer.drain()
        await reader.readexactly(1)
        raise ConnectionError
    writer.close()
    assert (await ask(server, "status"))["status"] == "starting"


async def test_a_client_that_goes_away_disturbs_nobody(server: Server) -> None:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(os.fspath(server.path))
    peer.send(b'{"verb": "list"}\n{"ver')
    peer.close()
    assert (await ask(server, "status"))["status"] == "starting"


async def test_closing_hangs_up_on_clients(server: Server) -> None:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b'{"verb": "status"}\n')
    await reader.readline()
    await server.close()
    assert await reader.read() == b""
    writer.close()


class Peer:
    """A socket whose other end is a process of this user and group."""

    def __init__(self, uid: int, gid: int) -> None:
        self.credentials = (1, uid, gid)

    def getsockopt(self, *_: object) -> bytes:
        import struct

        return struct.pack("iII", *self.credentials)


@pytest.mark.parametrize(
    ("uid", "gid", "allowed"),
    [(0, 1, True), (os.geteuid(), 1, True), (4321, os.getegid(), True), (4321, 4321, False)],
)
def test_only_root_the_own_user_and_the_own_group_may_ask(uid: int, gid: int, allowed: bool) -> None:
    assert may_ask(Peer(uid, gid)) is allowed  # type: ignore[arg-type]


async def test_a_lab_that_does_not_listen_is_named(tmp_path: Path) -> None:
    with pytest.raises(XnetError, match="the engine does not listen"):
        Client(tmp_path)


async def test_an_engine_that_hangs_is_noticed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(os.fspath(tmp_path / "control.sock"))
        deaf.listen()
        with Client(tmp_path, timeout_s=0.05) as client, pytest.raises(XnetError, match="does not answer"):
            client.call("status")
