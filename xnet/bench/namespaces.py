"""Anonymous network namespaces and the tools run in them, for the setups that need no lab.

A namespace lives as long as a descriptor or a process in it, its links as long as the namespace, its TAPs as long as
their fd: nothing here has to be removed, whatever ends the program. Tools are started by the main thread and die with
it (``setpriv --pdeathsig``, which follows the thread).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from xnet.bench.setup import Tool
from xnet.errors import HostError
from xnet.host.libc import CLONE_NEWNET, unshare
from xnet.host.netns import open_in_netns
from xnet.host.tap import Tap


class Namespace:
    """A network namespace without a name, held by the descriptor `fd` until `close`."""

    def __init__(self) -> None:
        with open("/proc/thread-self/ns/net") as here:
            self.fd = open_in_netns(here.fileno(), _unshared)
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        """A path by which other processes of this user reach the namespace, for ``ip link ... netns PATH``."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def start(self, argv: Sequence[str], keep: Sequence[int] = ()) -> Tool:
        """Start a tool in the namespace, its output and errors piped as one text; it dies with this process, and
        inherits the descriptors `keep`."""
        enter = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/self/fd/{self.fd}", "--"]
        return subprocess.Popen(
            [*enter, *argv],
            pass_fds=(self.fd, *keep),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ip(self, *commands: str) -> None:
        """Run commands of ip(8) in the namespace, in order; `HostError` with its words if one fails."""
        for command in commands:
            with self.start(["ip", *command.split()]) as tool:
                words = tool.communicate()[0]
            if tool.returncode:
                raise HostError(f"ip {command}: {words.strip()}", call="ip")

    def open_tap(self, name: str) -> Tap:
        """A new TAP here with checksum offload and TSO, as a lab's; down. The caller closes it."""
        tap = Tap(name, self.fd)
        tap.set_offload(csum=True, tso4=True, tso6=True)
        return tap

    def close(self) -> None:
        """Let go of the namespace; it and its links vanish when the last process in it has ended."""
        os.close(self.fd)


def _unshared() -> int:
    """A new network namespace for this thread, and a descriptor of it."""
    try:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"bench: network namespace: {error.strerror}; run it as root", call="unshare") from error
