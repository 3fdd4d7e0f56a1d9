"""The traffic program `load.c` in guests: built once, started in each, ordered about by lines."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xnet.errors import HostError
from xnet.host.enter import end_guest_command, guest_command
from xnet.host.netns import NamespaceFds

SOURCE = Path(__file__).parent / "load.c"
ANSWER_S = 15.0
"""How long an answer may take, beyond the time that the order itself takes."""


@contextmanager
def built() -> Iterator[int]:
    """The program, compiled now, as a descriptor of a deleted file: nothing to clean. HostError without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise HostError("bench: the traffic program needs a C compiler: apt install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="xnet-bench-") as directory:
        program = f"{directory}/load"
        command = [compiler, "-O2", "-o", program, str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(f"bench: {' '.join(command)}: {done.stderr.strip()[-500:]}", call="cc")
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def start_in(spaces: NamespaceFds, argv: Sequence[str], keep: Sequence[int] = ()) -> subprocess.Popen[str]:
    """A command in a guest, its output piped; `end_in` ends it."""
    command, passed = guest_command(spaces, argv)
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        pass_fds=(*passed, *keep),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C is for the bench, which ends it all in order
    )


def end_in(process: subprocess.Popen[str]) -> None:
    """End a command of `start_in`, reap it and close its pipes."""
    if process.poll() is None:
        end_guest_command(process.pid)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Agent:
    """The program in one guest, held by two descriptors: there are hundreds. HostError when it does not answer."""

    def __init__(self, guest: str, spaces: NamespaceFds, program: int) -> None:
        self.guest = guest
        self.process = start_in(spaces, [f"/proc/self/fd/{program}"], (program,))
        self.poll = select.poll()
        assert self.process.stdout is not None
        self.poll.register(self.process.stdout, select.POLLIN)

    def order(self, *words: object) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise HostError(f"bench: {self.guest}: the traffic program ended: {error.strerror}") from None

    def answer(self, within_s: float = 0.0) -> str:
        """The next line that it says, before `within_s` and some grace have passed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline() if self.poll.poll(1000 * (within_s + ANSWER_S)) else ""
        if not line:
            raise HostError(f"bench: {self.guest}: the traffic program says nothing")
        return line.strip()

    def ask(self, *words: object) -> str:
        """An order and its answer."""
        self.order(*words)
        return self.answer()

    def told(self, *words: object, within_s: float = 0.0) -> dict[str, Any]:
        """An order and its answer, which is JSON."""
        self.order(*words)
        return self.figures(within_s)

    def figures(self, within_s: float = 0.0) -> dict[str, Any]:
        """An answer that is JSON."""
        line = self.answer(within_s)
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            raise HostError(f"bench: {self.guest}: the traffic program says {line!r}") from None
        return found

    def read(self, path: str) -> list[str]:
        """A file as the guest sees it."""
        self.order("read", path)
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline().rstrip("\n")) != ".":
            if not line:
                if self.process.poll() is not None:
                    raise HostError(f"bench: {self.guest}: the traffic program ended")
                continue
            lines.append(line)
        return lines

    def close(self) -> None:
        """End it."""
        end_in(self.process)
