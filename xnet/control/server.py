"""The engine's end of control.sock: answers verbs about the machine it runs, and hands out namespace descriptors.

Sockets of our own, not asyncio's streams: those cannot send descriptors, and uvloop's hide the socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from xnet.control.vifspec import vif_of_words
from xnet.control.wire import LINE_MAX, NAMESPACES
from xnet.engine.lab import Lab, VifSpec
from xnet.errors import XnetError

CREDENTIALS = struct.Struct("iII")  # struct ucred: pid uid gid (unix(7), SO_PEERCRED)


class Namespaces(Protocol):
    """A domain's namespaces, as descriptors."""

    @property
    def net(self) -> int: ...
    @property
    def mnt(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def uts(self) -> int: ...


class Subject(Protocol):
    """What the server asks of a machine."""

    lab: Lab

    @property
    def toolstack(self) -> Orders:
        """Who does what is ordered."""

    @property
    def datalinks(self) -> Links:
        """Who does what dladm and flowadm order."""

    def describe(self) -> dict[str, Any]:
        """The machine, JSON-ready."""

    def statistics(self) -> dict[str, Any]:
        """Every counter, JSON-ready."""

    def heap(self) -> dict[str, int]:
        """The hypervisor's heap, in pages."""

    def console_lines(self) -> list[str]:
        """The hypervisor's console."""

    def pause(self, name: str) -> None:
        """Stop a guest. XnetError when there is none of that name."""

    def unpause(self, name: str) -> None:
        """Let it go on. XnetError."""

    async def check(self) -> dict[str, Any]:
        """What nobody accounts for, and counts of what is."""

    def namespace_fds(self, domain: str) -> Namespaces:
        """Where a domain lives. XnetError when there is none of that name."""


class Links(Protocol):
    """Dom0's datalinks."""

    async def do(self, request: Mapping[str, Any]) -> Any: ...


class Orders(Protocol):
    """What is done to a machine's guests; each raises XnetError when it cannot be."""

    async def create(self, name: str) -> None: ...
    async def shutdown(self, name: str) -> None: ...
    async def reboot(self, name: str) -> None: ...
    async def suspend(self, name: str) -> None: ...
    async def resume(self, name: str) -> None: ...
    async def destroy(self, name: str) -> None: ...
    async def attach(self, name: str, plan: Callable[[str, int], VifSpec]) -> Any: ...
    async def detach(self, name: str, which: str) -> None: ...
    async def link(self, name: str, which: str, up: bool) -> None: ...
    async def restart_backend(self, name: str, which: str) -> None: ...


class Refused(XnetError):
    """A request that makes no sense; told to the client."""


class Server:
    """Listens on `path` until `close`. `stopping` is set when a client asked for the end."""

    def __init__(self, machine: Subject, path: Path) -> None:
        self.machine = machine
        self.path = path
        self.stopping = asyncio.Event()
        self.status = "starting"
        self.connections: set[asyncio.Task[None]] = set()
        self.verbs: dict[str, Callable[[dict[str, Any]], tuple[Any, list[int]]]] = {
            "status": lambda _: ({"status": self.status, "pid": os.getpid()}, []),
            "list": lambda _: (machine.describe(), []),
            "statistics": lambda _: (machine.statistics(), []),
            "heap": lambda _: (machine.heap(), []),
            "dmesg": lambda _: (machine.console_lines(), []),
            "pause": lambda request: self.order(machine.pause, request),
            "unpause": lambda request: self.order(machine.unpause, request),
            "fds": self.fds,
            "end": self.end,
        }
        self.orders: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, Any]]] = {
            "create": lambda request: machine.toolstack.create(word(request, "domain")),
            "shutdown": lambda request: machine.toolstack.shutdown(word(request, "domain")),
            "reboot": lambda request: machine.toolstack.reboot(word(request, "domain")),
            "suspend": lambda request: machine.toolstack.suspend(word(request, "domain")),
            "resume": lambda request: machine.toolstack.resume(word(request, "domain")),
            "destroy": lambda request: machine.toolstack.destroy(word(request, "domain")),
            "link": self.link,
            "check": lambda _: machine.check(),
            "datalink": lambda request: machine.datalinks.do(request),
            "network-attach": self.attach,
            "network-detach": lambda request: machine.toolstack.detach(word(request, "domain"), word(request, "vif")),
            "restart-backend": lambda request: machine.toolstack.restart_backend(
                word(request, "domain"), word(request, "vif")
            ),
        }
        """What takes its time."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o117)  # the socket is born 0660, never a moment wider
        try:
            self.socket.bind(os.fspath(path))
        finally:
            os.umask(before)
        self.socket.listen(64)
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.socket, self.accept)

    async def close(self) -> None:
        """Stop listening and hang up. Twice is allowed."""
        if self.socket.fileno() < 0:
            return
        self.loop.remove_reader(self.socket)
        self.socket.close()
        self.path.unlink(missing_ok=True)
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    def accept(self) -> None:
        """Take a connection in, if its user may."""
        try:
            peer, _ = self.socket.accept()
        except OSError:
            return  # it went away again, or we are out of descriptors: it will ask once more
        peer.setblocking(False)
        task = self.loop.create_task(self.serve(peer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def serve(self, peer: socket.socket) -> None:
        """Answer one client until it hangs up."""
        with peer:
            try:
                allowed = may_ask(peer)
                async for line in self.lines(peer):
                    answer, fds = await self.answer(line) if allowed else ({"error": "labs are root's, use sudo"}, [])
                    data = json.dumps(answer).encode() + b"\n"
                    if fds:
                        sent = socket.send_fds(peer, [data], fds)  # short, on an empty buffer: never blocks
                        data = data[sent:]
                    await self.loop.sock_sendall(peer, data)
            except OSError:
                pass  # the client went away: its own affair

    async def lines(self, peer: socket.socket) -> Any:
        """The client's requests, one by one."""
        buffer = b""
        while data := await self.loop.sock_recv(peer, LINE_MAX):
            buffer += data
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                yield line
            if len(buffer) > LINE_MAX:
                return

    async def answer(self, line: bytes) -> tuple[dict[str, Any], list[int]]:
        """What to send back for a request, and the descriptors to go with it."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise Refused("a request is a JSON object")
            verb = str(request.get("verb"))
            if verb in self.orders:
                return {"result": await self.orders[verb](request)}, []
            if verb not in self.verbs:
                raise Refused(f'unknown verb "{verb}"')
            result, fds = self.verbs[verb](request)
        except (XnetError, ValueError) as error:
            return {"error": str(error)}, []
        return {"result": result}, fds

    def fds(self, request: dict[str, Any]) -> tuple[Any, list[int]]:
        """The namespaces of a domain."""
        spaces = self.machine.namespace_fds(str(request.get("domain")))
        return list(NAMESPACES), [getattr(spaces, name) for name in NAMESPACES]

    def order(self, do: Callable[[str], None], request: dict[str, Any]) -> tuple[Any, list[int]]:
        """What is done to a domain, and answers nothing."""
        do(str(request.get("domain")))
        return None, []

    async def attach(self, request: dict[str, Any]) -> Any:
        """A vif, described as xl does it; the answer is what it has become."""
        machine, domain, words = self.machine, word(request, "domain"), request.get("words")
        if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
            raise Refused("words is a list of key=value")
        vif = await machine.toolstack.attach(
            domain, lambda name, handle: vif_of_words(words, machine.lab, name, handle)
        )
        return {"domain": vif.domain, "handle": vif.handle, "device": vif.device, "mac": vif.spec.mac}

    async def link(self, request: dict[str, Any]) -> None:
        """A vif's cable."""
        await self.machine.toolstack.link(word(request, "domain"), word(request, "vif"), bool(request.get("up")))

    def end(self, _: dict[str, Any]) -> tuple[Any, list[int]]:
        """Begin the end; the connection closes when it comes."""
        self.stopping.set()
        return "ending", []


def word(request: dict[str, Any], name: str) -> str:
    """A word of a request."""
    return str(request.get(name))


def may_ask(peer: socket.socket) -> bool:
    """Root, and the engine's own user and group: who the socket's mode lets in, asked of the kernel once more."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, uid, gid = CREDENTIALS.unpack(raw)
    return uid in (0, os.geteuid()) or gid == os.getegid()
