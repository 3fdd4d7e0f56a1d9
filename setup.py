"""The build: the hot modules are compiled by mypyc where there is a C compiler, else they stay plain Python.

It is the same source either way, and the tests run both. XNET_PURE=1 leaves the compiler out; so does an editable
install, in which a compiled module would outlive the edit of its source.

Two shared libraries, since a compiler works on one core: each is a translation unit of its own (calls between them go
through a table). They are compiled twice: with counters in them for `xnet.testing.training`, and again for what it did.
In a lab most of the engine's own time goes to waiting for code and data that a copied frame drove out of the cache, so
what counts is how little there is to fetch. A lone frame touches so many 64-byte lines of these libraries: 1329 with
-O1, 1152 with -O2 -fno-plt, 1065 with the profile, too, on half as many pages; 6 % less CPU a byte than -O1.
"""

from __future__ import annotations

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
        "xnet/hv/ports.py",
        "xnet/hv/runqueue.py",
        "xnet/mem/machine.py",
        "xnet/mem/physmap.py",
        "xnet/ring/back.py",
        "xnet/ring/front.py",
        "xnet/ring/shared.py",
    ],
    "xnet_upper": [
        "xnet/engine/edge.py",
        "xnet/engine/turn.py",
        "xnet/mac/vnic.py",
        "xnet/mac/vswitch.py",
        "xnet/netif/assemble.py",
        "xnet/netif/back_queue.py",
        "xnet/netif/counters.py",
        "xnet/netif/front_queue.py",
        "xnet/netif/gather.py",
        "xnet/netif/known.py",
        "xnet/netif/posted.py",
        "xnet/netif/scatter.py",
        "xnet/netif/transport/copy.py",
        "xnet/netif/transport/map.py",
    ],
}
"""What a frame passes through, by library; everything else runs once a vif or once a second."""


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
    for extension in found:
        extension.extra_compile_args = [*extension.extra_compile_args, "-fno-plt"]  # the list is everybody's
    return found


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
        libraries = [extension for extension in self.extensions if extension.name.removesuffix("__mypyc") in HOT]
        stale = [
            library
            for library in libraries
            if newer_group([*library.sources, *library.depends], self.get_ext_fullpath(library.name), "newer")
        ]
        if stale:
            self.train(stale)
        super().build_extensions()

    def train(self, libraries: list[Extension]) -> None:
        """Compile these with counters, run the training, and have the compilation proper use what it wrote."""
        profile = Path(self.build_temp, "profile").absolute()
        shutil.rmtree(profile, ignore_errors=True)
        counting = [f"-fprofile-generate={profile}", "-fprofile-update=single"]
        plain = [(library.extra_compile_args, library.extra_link_args) for library in libraries]
        for library, (compiling, linking) in zip(libraries, plain, strict=True):
            library.extra_compile_args, library.extra_link_args = compiling + counting, linking + counting
        try:
            super().build_extensions()
            path = os.pathsep.join([str(Path(self.build_lib).absolute()), *sys.path])
            command = [sys.executable, "-P", "-m", "xnet.testing.training"]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, timeout=300)
            use = [f"-fprofile-use={profile}", "-Wno-missing-profile"] if [*profile.glob("*.gcda")] else []
        except (BaseError, CCompilerError, OSError, subprocess.SubprocessError) as error:
            print(f"xnet: no profile for the compiler, the training failed: {error}", file=sys.stderr)
            use = []
        for library, (compiling, linking) in zip(libraries, plain, strict=True):
            library.extra_compile_args, library.extra_link_args = compiling + use, linking
            Path(self.get_ext_fullpath(library.name)).unlink(missing_ok=True)


def pure(why: BaseException) -> None:
    """Say it on the one stream that an installer shows."""
    print(f"xnet: the hot modules stay plain Python, which takes up to twice the CPU a frame: {why}", file=sys.stderr)


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": AllOrNothing},
    options={"build_ext": {"parallel": len(os.sched_getaffinity(0))}},
)
