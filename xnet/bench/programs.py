"""The bench's own programs, `relay` and `ends`: in C, compiled when needed, or in Python where there is no gcc.

A compiled program is a deleted file that lives as long as this process holds it open: there is nothing to clean. Who
runs it inherits the descriptor, and thus can do so in any namespace, a guest's too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xnet.errors import HostError

HERE = Path(__file__).parent


@dataclass(slots=True, frozen=True)
class Program:
    """A command, and the descriptors it needs to be inherited to start at all."""

    argv: tuple[str, ...]
    keep: tuple[int, ...] = ()


def interpreted(name: str) -> Program:
    """The Python form, by this interpreter without site packages."""
    return Program((sys.executable, "-I", "-S", str(HERE / f"{name}.py")))


@contextmanager
def compiled(name: str) -> Iterator[Program | None]:
    """The C form, compiled now; None if there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="xnet-bench-") as directory:
        program = f"{directory}/{name}"
        command = [compiler, "-O2", "-o", program, str(HERE / f"{name}.c")]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise HostError(f"bench: {' '.join(command)}: {built.stderr.strip()}", call="cc")
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Program((f"/proc/self/fd/{fd}",), (fd,))
    finally:
        os.close(fd)


@contextmanager
def either(name: str) -> Iterator[Program]:
    """The C form, or the Python one where there is no compiler."""
    with compiled(name) as program:
        yield program or interpreted(name)
