"""The build: the hot modules are compiled by mypyc where there is a C compiler, else they stay plain Python.

It is the same source either way, and the tests run both. XNET_PURE=1 leaves the compiler out; so does an editable
install, in which a compiled module would outlive the edit of its source.

Seven modules are C by hand (`BY_HAND`), each beside a Python one that says what it does and stands in for it: where a
few bytes are looked at or moved in each frame, and all that Python adds to it is objects. Where nothing is in doubt
they take a burst at once; the rules, and what is in doubt, are Python's. Between two guests, side by side in one hour,
copies, shared memory, system calls and rx slots in C took 17 % off the CPU a byte; frames that are numbers from tx slot
to writev, instead of 20 objects each, another 8 %. One that is C as a whole would be faster still, and would be two
programs to keep alike.

Two shared libraries, since a compiler works on one core: each is a translation unit of its own (calls between them go
through a table). They are compiled twice: with counters in them for `xnet.testing.training`, and again for what it did.
In a lab most of the engine's own time goes to waiting for code and data that a copied frame drove out of the cache, so
what counts is how little there is to fetch. A lone frame touches so many 64-byte lines of these libraries: 1329 with
-O1, 1152 with -O2 -fno-plt, 1065 with the profile, too, on half as many pages; 6 % less CPU a byte than -O1.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError
from setuptools.modified import newer_group

HOT = {
    "xnet_lower": [
        "xnet/frame/arena.py",
        "xnet/frame/chain.py",
        "xnet/frame/ether.py",
        "xnet/frame/link.py",
        "xnet/frame/offload.py",
        "xnet/hv/api.py",
        "xnet/hv/domain.py",
        "xnet/hv/grantops.py",
        "xnet/hv/grants.py",
        "xnet/hv/heap.py",
        "xnet/hv/reservation.py",
        "xnet/hv/ports.py",
        "xnet/hv/runqueue.py",
        "xnet/mem/machine.py",
        "xnet/mem/physmap.py",
    ],
    "xnet_upper": [
        "xnet/engine/edge.py",
        "xnet/engine/pump.py",
        "xnet/engine/turn.py",
        "xnet/mac/bandwidth.py",
        "xnet/mac/flow.py",
        "xnet/mac/lanes.py",
        "xnet/mac/port.py",
        "xnet/mac/resources.py",
        "xnet/mac/stage.py",
        "xnet/mac/vnic.py",
        "xnet/mac/vswitch.py",
        "xnet/netif/assemble.py",
        "xnet/netif/back_queue.py",
        "xnet/netif/blocks.py",
        "xnet/netif/counters.py",
        "xnet/netif/front_bounced.py",
        "xnet/netif/front_flip.py",
        "xnet/netif/front_queue.py",
        "xnet/netif/gather.py",
        "xnet/netif/posted.py",
        "xnet/netif/shaped.py",
        "xnet/netif/transport/copy.py",
        "xnet/netif/transport/deliver.py",
        "xnet/netif/transport/flip.py",
        "xnet/netif/transport/headroom.py",
        "xnet/netif/transport/map.py",
        "xnet/netif/transport/extras.py",
    ],
}
"""What a frame passes through, by library; everything else runs once a vif or once a second."""

BY_HAND = [
    "xnet/engine/_iov.c",
    "xnet/engine/_packet.c",
    "xnet/frame/_frames.c",
    "xnet/hv/_copier.c",
    "xnet/hv/_events.c",
    "xnet/mem/_view.c",
    "xnet/netif/_slots.c",
    "xnet/ring/_ring.c",
]
"""What is C already."""

LESS = ["-fno-tree-pre", "-fno-gcse", "-fno-schedule-insns2", "-fno-tree-dominator-opts", "-fno-ipa-cp"]
"""What code that only counts can do without: passes behind the one that puts the counters in, a fifth of the time."""


def builds() -> bool:
    """Whether this run of setup.py is the one of several in an installation that compiles, and is meant to."""
    return "bdist_wheel" in sys.argv and not os.environ.get("XNET_PURE")


def extensions() -> list[Extension]:
    """The hot modules as C; none where mypy cannot read them."""
    if not builds():
        return []
    from mypyc.build import mypycify

    paths = [path for group in HOT.values() for path in group]
    groups = [(group, name) for name, group in HOT.items()]
    try:
        found: list[Extension] = mypycify(paths, separate=groups, opt_level="2", debug_level="0")
    except SystemExit as error:
        pure(error)
        return []
    headers = [str(path) for path in Path("xnet").rglob("*.h")]
    for source in BY_HAND:
        name = source.removesuffix(".c").replace("/", ".")
        found.append(Extension(name, [source], depends=headers, extra_compile_args=["-O2"], extra_link_args=[]))
    return [with_flags(extension, "-fno-plt") for extension in found]


class AllOrNothing(build_ext):
    """Compiles every module or, if one cannot be, none: they are compiled against each other."""

    def run(self) -> None:
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            pure(error)
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []

    def build_extensions(self) -> None:
        """The modules, which only name what a library has; then the libraries, with a profile if there can be one."""
        libraries = [extension for extension in self.extensions if extension.name.removesuffix("__mypyc") in HOT]
        self.compile([extension for extension in self.extensions if extension not in libraries])
        if any(map(self.is_stale, libraries)) and is_gcc(self.compiler.compiler_so):
            home = Path(self.build_temp, "training").absolute()
            try:
                self.compile_with_profile(libraries, home)
            except (BaseError, CCompilerError, OSError, subprocess.SubprocessError) as error:
                print(f"xnet: compiled without a profile, which takes a few percent more CPU: {error}", file=sys.stderr)
            finally:
                shutil.rmtree(home, ignore_errors=True)
        self.compile(libraries)

    def compile_with_profile(self, libraries: list[Extension], home: Path) -> None:
        """Compile libraries that count into `home`, beside a copy of all else; let frames through; compile again.

        What counts is never where a wheel is made from: a build that is killed would leave it to the next one. The
        object files have the same names both times, for by these gcc finds what was counted.
        """
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.build_lib, home)
        proper, self.build_lib = self.build_lib, str(home)
        try:
            self.compile(libraries, f"-fprofile-generate={home}", "-fprofile-update=single", *LESS)
        finally:
            self.build_lib = proper
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(home), *sys.path])}
        command = [sys.executable, "-P", "-m", "xnet.testing.training"]
        subprocess.run(command, check=True, env=environment, timeout=300)
        self.compile(libraries, f"-fprofile-use={home}", "-Werror=missing-profile")

    def compile(self, extensions: list[Extension], *flags: str) -> None:
        """Those that are out of date, in parallel, with flags for compiler and linker besides their own."""
        everything, self.extensions = self.extensions, [with_flags(extension, *flags) for extension in extensions]
        try:
            super().build_extensions()
        finally:
            self.extensions = everything

    def is_stale(self, extension: Extension) -> bool:
        """Whether it has to be compiled (again)."""
        return newer_group([*extension.sources, *extension.depends], self.get_ext_fullpath(extension.name), "newer")


def with_flags(extension: Extension, *flags: str) -> Extension:
    """One like it with more flags. mypycify's list of them is everybody's."""
    other = copy.copy(extension)
    other.extra_compile_args = [*extension.extra_compile_args, *flags]
    other.extra_link_args = [*extension.extra_link_args, *flags]
    return other


def is_gcc(compiler: list[str]) -> bool:
    """Whether it is gcc, whatever its name: others understand the flags, but not each other's profiles."""
    said = subprocess.run([*compiler, "--version"], capture_output=True, text=True)
    return said.returncode == 0 and "Free Software Foundation" in said.stdout


def pure(why: BaseException) -> None:
    """Say it on the one stream that an installer shows."""
    print(f"xnet: the hot modules stay plain Python, which takes several times the CPU: {why}", file=sys.stderr)


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": AllOrNothing},
    options={"build_ext": {"parallel": len(os.sched_getaffinity(0))}},
)
