"""The store's Unix socket with Debian's own tools, and with clients that behave badly."""

from __future__ import annotations

import asyncio
import shutil
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from xnet.abi.xen import xs_wire as xs
from xnet.engine.xenstored import XenstoreSocket
from xnet.errors import HostError
from xnet.xenstore import Conversation, Server, Write, local_session
from xnet.xenstore.toolstack import add_vif, introduce_dom0, introduce_domain
from xnet.xenstore.wire import Message, Parser, encode

pytestmark = pytest.mark.integration

needs_tools = pytest.mark.skipif(shutil.which("xenstore-ls") is None, reason="needs xenstore-utils")

LISTING = Path(__file__).parent / "data" / "xenstore-ls.txt"


class Host:
    """A store on a socket, and ways to talk to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = Server()
        self.session = local_session(self.server)
        self.socket = XenstoreSocket(self.server, path)

    def run(self, conversation: Conversation[object]) -> None:
        done: list[object] = []
        self.session.run(conversation, done.append)
        assert not isinstance(done[0], Exception)

    async def start_tool(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        environment = {"XENSTORED_PATH": str(self.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return await asyncio.create_subprocess_exec(*words, env=environment, stdout=pipe, stderr=pipe)

    async def tool(self, *words: str) -> tuple[int, str]:
        """A real tool's exit status and what it printed."""
        process = await self.start_tool(*words)
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 10)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def ask(
        self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader, *requests: bytes, events: int = 0
    ) -> list[Message]:
        """A reply to each request, and so many events."""
        writer.write(b"".join(requests))
        parser = Parser()
        got: list[Message] = []
        while len(got) < len(requests) + events:
            data = await asyncio.wait_for(reader.read(65536), 5)
            assert data, "the store hung up"
            got += parser.feed(data)
        return got


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path / "xenstored.sock")
    await host.socket.start()
    with host.socket:
        yield host
    assert not host.path.exists()
    await asyncio.sleep(0)  # the loop's own farewell to the clients that were cut
    assert host.server.statistics().connections == 1


def write(path: str, value: str) -> Conversation[None]:
    yield Write(path, value)


@needs_tools
async def test_ls_shows_a_guest_as_on_a_real_host(host: Host) -> None:
    host.run(introduce_dom0(memory_kib=1024))
    host.run(introduce_domain(1, name="a", uuid="5e1f", memory_kib=32768, store_frame=77, store_port=1))
    host.run(add_vif(1, 0, mac="00:16:3e:00:00:01", bridge="xenbr0"))
    expected = [line for line in LISTING.read_text().splitlines() if not line.startswith("#")]
    status, out = await host.tool("xenstore-ls", "-f", "-p")
    assert (status, out.splitlines()) == (0, expected)
    status, out = await host.tool("xenstore-ls", "/local/domain/1/memory")
    assert (status, out) == (0, 'static-max = "32768"\ntarget = "32768"\nvideoram = "0"\n')


@needs_tools
async def test_the_tools_read_write_list_and_remove(host: Host) -> None:
    for words, expected in (
        ("xenstore-write /a/b 1 /a/c two", (0, "")),
        ("xenstore-read /a/b /a/c", (0, "1\ntwo\n")),
        ("xenstore-read -p /a/b", (0, "/a/b: 1\n")),
        ("xenstore-read /missing", (1, "")),
        ("xenstore-list /a", (0, "b\nc\n")),
        ("xenstore-list /missing", (1, "")),
        ("xenstore-exists /a/b", (0, "")),
        ("xenstore-exists /a/x", (1, "")),
        ("xenstore-rm /a/b", (0, "")),
        ("xenstore-exists /a/b", (1, "")),
        ("xenstore-write relative 5", (0, "")),
        ("xenstore-read /local/domain/0/relative", (0, "5\n")),
        ("xenstore-read /bad//path", (1, "")),
    ):
        assert await host.tool(*words.split()) == expected, words


@needs_tools
async def test_chmod_changes_permissions_and_below_them(host: Host) -> None:
    host.run(write("/a/b/c", "1"))
    assert (await host.tool("xenstore-chmod", "/a", "r0", "b7"))[0] == 0
    assert (await host.tool("xenstore-chmod", "-r", "/a/b", "n7", "r8"))[0] == 0
    _, out = await host.tool("xenstore-ls", "-f", "-p", "/a")
    assert out.splitlines() == ['/a/b = ""   (n7,r8)', '/a/b/c = "1"   (n7,r8)']
    _, out = await host.tool("xenstore-ls", "-f", "-p")
    assert '/a = ""   (r0,b7)' in out.splitlines()


@needs_tools
async def test_watch_prints_what_changes(host: Host) -> None:
    process = await host.start_tool("xenstore-watch", "-n", "3", "/a")
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 5)]
    host.run(write("/a/b", "1"))
    lines.append(await asyncio.wait_for(process.stdout.readline(), 5))
    host.run(write("/elsewhere", "1"))
    host.run(write("/a/c/d", "1"))
    lines.append(await asyncio.wait_for(process.stdout.readline(), 5))
    assert [line.decode().strip() for line in lines] == ["/a", "/a/b", "/a/c/d"]
    assert await asyncio.wait_for(process.wait(), 5) == 0


@needs_tools
async def test_ls_reads_a_directory_larger_than_a_payload(host: Host) -> None:
    names = [f"child-{number:05}" for number in range(1000)]
    for name in names:
        host.run(write(f"/big/{name}", ""))
    status, out = await host.tool("xenstore-list", "/big")
    assert (status, out.splitlines()) == (0, names)


async def test_only_root_and_its_group_may_open_the_socket(host: Host) -> None:
    assert stat.S_IMODE(host.path.stat().st_mode) == 0o660


async def test_a_dead_process_s_socket_gives_way_and_a_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "xenstored.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await (store := XenstoreSocket(Server(), path)).start()
    store.close()
    store.close()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(HostError) as error:
        await XenstoreSocket(Server(), path).start()
    assert str(path) in str(error.value)
    assert path.read_text() == "precious"


async def test_closing_cuts_the_clients_off(tmp_path: Path) -> None:
    host = Host(tmp_path / "xenstored.sock")
    await host.socket.start()
    reader, writer = await asyncio.open_unix_connection(host.path)
    await host.ask(writer, reader, encode(xs.XS_WATCH, 1, 0, b"/a\0t\0"), events=1)
    host.socket.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert (host.server.statistics().watches, host.server.statistics().connections) == (0, 1)


async def test_pipelined_requests_are_answered_in_order(host: Host) -> None:
    reader, writer = await asyncio.open_unix_connection(host.path)
    requests = [encode(xs.XS_WRITE, n, 0, b"/n\0%d" % n) for n in range(50)]
    requests += [encode(xs.XS_READ, 99, 0, b"/n\0")]
    got = await host.ask(writer, reader, *requests)
    assert [message.req_id for message in got] == [*range(50), 99]
    assert got[-1].payload == b"49"
    writer.close()
    await writer.wait_closed()


async def test_who_sends_rubbish_loses_only_its_own_connection(host: Host) -> None:
    good_reader, good = await asyncio.open_unix_connection(host.path)
    (ok, first) = await host.ask(good, good_reader, encode(xs.XS_WATCH, 1, 0, b"/a\0t\0"), events=1)
    assert (ok.payload, first.payload) == (b"OK\0", b"/a\0t\0")
    reader, bad = await asyncio.open_unix_connection(host.path)
    await host.ask(bad, reader, encode(xs.XS_TRANSACTION_START, 1, 0, b"\0"))
    bad.write(b"\xff" * 64)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    bad.close()
    assert host.server.statistics().transactions == 0
    host.run(write("/a", "1"))
    data = await asyncio.wait_for(good_reader.readexactly(16 + 5), 5)
    assert data[16:] == b"/a\0t\0"
    good.close()
    await good.wait_closed()


@pytest.mark.slow
async def test_a_client_that_does_not_read_holds_nobody_up(host: Host) -> None:
    """It pipelines reads of a large value and takes no reply: it is not read from, the others are served."""
    host.run(write("/big", "v" * 4000))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        await loop.sock_connect(deaf, str(host.path))
        request = encode(xs.XS_READ, 1, 0, b"/big\0") * 1000
        with pytest.raises(asyncio.TimeoutError):
            for _ in range(1000):
                await asyncio.wait_for(loop.sock_sendall(deaf, request), 0.3)
        reader, writer = await asyncio.open_unix_connection(host.path)
        (reply,) = await host.ask(writer, reader, encode(xs.XS_READ, 7, 0, b"/big\0"))
        assert reply.payload == b"v" * 4000
        answered = host.server.requests
        assert answered < 20_000
        received = 0
        while host.server.requests == answered:  # it starts to read, and is read from again
            received += len(await asyncio.wait_for(loop.sock_recv(deaf, 65536), 5))
        assert received > 0
        writer.close()
        await writer.wait_closed()
