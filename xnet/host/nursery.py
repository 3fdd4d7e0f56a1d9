"""The engine's end of the nursery: namespaces made, held and given up by name (`nursery_process` is the other end)."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import marshal
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import HostError
from .netns import KINDS, NamespaceFds
from .sysctl import sysctl_path

SCRIPT = Path(__file__).with_name("nursery_process.py")
REPLY_TIMEOUT_S = 10.0
REASONS = {signal.SIGHUP.value: "reboot", signal.SIGINT.value: "poweroff"}
"""What an init's death by this signal means (reboot(2), in a pid namespace)."""
ROOM_FOR_FDS = socket.CMSG_SPACE(len(KINDS) * array.array("i").itemsize)

GUEST_SYSCTLS: Mapping[str, str] = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
"""A new guest's settings: IPv6 addresses, link-local ones too, usable at once (duplicate address detection costs a
second), and only those the lab gives."""


def guest_files(hostname: str) -> dict[str, str]:
    """The files every guest has of its own: /etc/hosts that knows its name, /etc/resolv.conf without a server."""
    hosts = f"127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"/etc/hosts": hosts, "/etc/resolv.conf": "# no name server in this lab\n"}


class Nursery:
    """Starts the nursery process and makes guests in it. Descriptors it returns are its own until `destroy` or
    `close`.

    `on_death(name, reason)` is called when a guest's init is gone without having been asked to go: "reboot" or
    "poweroff" where something in the guest called reboot(2), which ends a pid namespace so, else "crash".
    """

    def __init__(self, on_death: Callable[[str, str], None] | None = None) -> None:
        """Start the process, in the main thread: the kernel ties its life to the *thread* that starts it.

        Raises HostError outside the main thread, and when no process can be had.
        """
        if threading.current_thread() is not threading.main_thread():
            raise HostError("guests can only be made from the main thread: their lives hang from it", call="fork")
        self.on_death = on_death
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names: dict[int, str] = {}
        self._fds: dict[int, NamespaceFds] = {}
        self._born: dict[int, asyncio.Future[NamespaceFds]] = {}
        self._dead: dict[int, asyncio.Future[None]] = {}
        self._next = 1
        self._stderr = os.memfd_create("xnet-nursery-stderr", os.MFD_CLOEXEC)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with theirs:
            self._process = self._start(theirs.fileno())

    @property
    def pid(self) -> int:
        """The nursery's process id."""
        return self._process.pid

    async def create(
        self,
        name: str,
        hostname: str | None = None,
        files: Mapping[str, str] | None = None,
        sysctls: Mapping[str, str | int] = GUEST_SYSCTLS,
    ) -> NamespaceFds:
        """New namespaces for guest `name`, loopback up: own net, mount, pid and uts; nothing of it has a path.

        `files` (`guest_files` by default) are bound over files of the machine that exist; `sysctls` that this kernel
        has not are left out. Raises HostError naming what failed; then nothing is left.
        """
        if name in self._names.values():
            raise HostError(f"{name}: there is a guest of that name", errno=errno.EEXIST, device=name)
        loop = self._attach()
        hostname = name if hostname is None else hostname
        files = guest_files(hostname) if files is None else files
        settings = {sysctl_path(key): str(value) for key, value in sysctls.items()}
        number, self._next = self._next, self._next + 1
        born: asyncio.Future[NamespaceFds] = loop.create_future()
        self._born[number] = born
        self._names[number] = name
        try:
            self._send(("create", number, hostname, dict(files), settings))
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await born
        except TimeoutError as error:
            raise HostError(f"{name}: no namespaces after {REPLY_TIMEOUT_S:.0f} s", device=name) from error
        finally:
            del self._born[number]
            if number not in self._fds:
                self._names.pop(number, None)
        return born.result()

    async def destroy(self, name: str) -> None:
        """Kill everything in guest `name`, close its descriptors; on return none of its processes is left.

        A guest that is gone already, or never was, is no error.
        """
        numbers = [number for number, each in self._names.items() if each == name and number in self._fds]
        await asyncio.gather(*(self._destroy(number) for number in numbers))

    async def close(self) -> None:
        """Destroy every guest, then end the process. Twice is allowed."""
        await asyncio.gather(*(self._destroy(number) for number in tuple(self._fds)))
        self.kill()

    def kill(self) -> None:
        """End it all at once, without waiting for guests' last processes (some tens of milliseconds). Twice is
        allowed."""
        if self._socket.fileno() < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._process.kill()
        self._process.wait()
        os.close(self._stderr)
        for number in tuple(self._fds):
            self._bury(number)

    def _start(self, fd: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", str(SCRIPT), str(fd), str(os.getpid())]
        try:
            return subprocess.Popen(
                command,
                pass_fds=(fd,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C at the user's terminal is for the engine alone
            )
        except OSError as error:
            self._socket.close()
            os.close(self._stderr)
            raise HostError(f"no process for guests: {error.strerror}", errno=error.errno or 0, call="fork") from error

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.add_reader(self._socket.fileno(), self._read)
        return loop

    def _send(self, request: tuple[Any, ...]) -> None:
        try:
            self._socket.send(marshal.dumps(request))
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> HostError:
        last = ""
        if self._socket.fileno() >= 0:
            text = os.pread(self._stderr, 1 << 16, 0).decode(errors="replace").strip()
            last = text.rpartition("\n")[2]
        return HostError(f"the process that holds the guests is gone{': ' if last else ''}{last}", call="nursery")

    async def _destroy(self, number: int) -> None:
        loop = self._attach()
        dead = self._dead.setdefault(number, loop.create_future())
        try:
            self._send(("destroy", number))
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await asyncio.shield(dead)
        except (HostError, TimeoutError):
            pass  # the nursery is gone, and its children with it
        self._dead.pop(number, None)
        self._bury(number)

    def _bury(self, number: int) -> None:
        fds = self._fds.pop(number, None)
        self._names.pop(number, None)
        if fds is not None:
            fds.close()

    def _read(self) -> None:
        """Everything the nursery has said; its silence for ever is the death of every guest."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(1 << 16, ROOM_FOR_FDS, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                self._lose_all()
                return
            verb, number, *rest = marshal.loads(data)
            fds = array.array("i", b"".join(content for _, _, content in ancillary))
            self._heard(verb, number, rest, list(fds))

    def _heard(self, verb: str, number: int, rest: list[Any], fds: list[int]) -> None:
        waiting = self._born.get(number)
        if verb == "born":
            spaces = NamespaceFds(*fds)
            if waiting is None or waiting.done():  # its creator gave up
                spaces.close()
                with contextlib.suppress(HostError):
                    self._send(("destroy", number))
                return
            self._fds[number] = spaces
            waiting.set_result(spaces)
        elif verb == "failed":
            if waiting is not None and not waiting.done():
                code, what = rest
                reason = os.strerror(code) if code else "unexpected"
                text = f"{self._names[number]}: {what}: {reason}{NEEDS.get(code, '')}"
                waiting.set_exception(HostError(text, errno=code, call=what, device=self._names[number]))
        elif (asked := self._dead.get(number)) is not None:
            if not asked.done():
                asked.set_result(None)
        else:
            self._lose(number, REASONS.get(rest[0], "crash"))

    def _lose_all(self) -> None:
        assert self._loop is not None, "read without a loop"
        self._loop.remove_reader(self._socket.fileno())
        for born in self._born.values():
            if not born.done():
                born.set_exception(self._gone())
        for dead in self._dead.values():
            if not dead.done():
                dead.set_result(None)
        for number in tuple(self._fds):
            if number not in self._dead:
                self._lose(number, "crash")

    def _lose(self, number: int, reason: str) -> None:
        """An init died unasked. Its namespaces' descriptors stay good until `destroy`; nothing runs there any more."""
        name = self._names.get(number)
        if number in self._fds and name is not None and self.on_death is not None:
            self.on_death(name, reason)


NEEDS = {
    errno.EPERM: "; run as root (namespaces need CAP_SYS_ADMIN)",
    errno.EACCES: "; run as root (namespaces need CAP_SYS_ADMIN)",
    errno.ENOSPC: "; raise user.max_net_namespaces and its neighbours (sysctl)",
    errno.EINVAL: "; the kernel lacks a kind of namespace (net, mnt, pid, uts)",
}
