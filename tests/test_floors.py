"""The house's floors, read from its imports: down is allowed, up and sideways are not.

Floors are those of the packages below xnet/. Every import counts, also one inside a function or for type checking
only: who needs a name only for its type names a Protocol of a lower floor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HOUSE = Path(__file__).parent.parent / "xnet"

FLOORS = {
    "abi": 0,
    "errors": 0,
    "mem": 1,
    "frame": 1,
    "ring": 2,
    "hv": 3,
    "xenstore": 4,
    "netif": 5,
    "mac": 5,
    "hvm": 5,
    "ldc": 5,
    "host": 6,
    "compiled": 6,
    "engine": 7,
    "control": 8,
    "bench": 8,
}
GARDEN = "testing"
"""Sees floors 0 to 7, and nobody sees it."""

ROOF = ("__init__", "__main__")
"""The package's own two modules see the whole house but the garden, and nobody inside imports them."""

SIDE_DOORS = {
    ("control", "bench"): "`xnet bench` is a verb like the others; it loads its workloads when it is called",
}
"""Sideways imports that are meant: only inside a function, each with its reason."""

THE_LINE = 6
"""Below this floor there is no event loop, no operating system, no clock and no dice."""

NOT_BELOW_THE_LINE = {
    "asyncio",
    "ctypes",
    "fcntl",
    "logging",
    "mmap",
    "os",
    "random",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uvloop",
}

MAX_LINES = 400
LONG_FILES: dict[str, str] = {}
"""Files that are longer, each with the reason why one concept needs it."""


class Import(NamedTuple):
    """One imported module: the importing room and line, whether inside a function, the dotted name."""

    room: str
    where: str
    lazy: bool
    module: str


def room_of(path: Path) -> str:
    """``xnet/netif/transport/copy.py`` lives in ``netif``, ``xnet/errors.py`` in ``errors``."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def modules_of(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """Dotted names an import statement may load; ``from a import b`` names ``a.b``, which may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = package[: len(package) + 1 - node.level] if node.level else []
    start = ".".join([*base, *([node.module] if node.module else [])])
    yield from (f"{start}.{alias.name}" for alias in node.names)


def statements_of(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement, and whether it stands inside a function. Expressions, most of a tree, have none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        elif not isinstance(child, ast.expr):
            yield from statements_of(child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def imports_in(source: str, path: Path) -> Iterator[Import]:
    package = ["xnet", *path.relative_to(HOUSE).parent.parts]
    for node, lazy in statements_of(ast.parse(source, filename=str(path))):
        where = f"{path.relative_to(HOUSE.parent)}:{node.lineno}"
        for module in modules_of(node, package):
            yield Import(room_of(path), where, lazy, module)


def complaint(found: Import) -> str:
    """Why this import may not be, or nothing."""
    top, _, rest = found.module.partition(".")
    if top != "xnet":
        below = FLOORS.get(found.room, THE_LINE) < THE_LINE
        return f"{top} below the line" if below and top in NOT_BELOW_THE_LINE else ""
    to = rest.partition(".")[0]
    if to == found.room or (found.room in ROOF and to != GARDEN):
        return ""
    if to == GARDEN:
        return "nobody sees the garden"
    if to not in FLOORS:
        return f"{found.module} is on no floor"
    if found.room == GARDEN:
        return "the garden sees floors 0 to 7" if FLOORS[to] > 7 else ""
    if (found.room, to) in SIDE_DOORS:
        return "" if found.lazy else "a side door is opened inside a function only"
    if FLOORS[to] > FLOORS[found.room]:
        return f"up, from floor {FLOORS[found.room]} to {FLOORS[to]}"
    return "sideways" if FLOORS[to] == FLOORS[found.room] else ""


def test_every_import_points_down() -> None:
    found = [
        f"{each.where}: {each.room} imports {each.module}: {why}"
        for path in sorted(HOUSE.rglob("*.py"))
        for each in imports_in(path.read_text(), path)
        if (why := complaint(each))
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_room_is_on_a_floor() -> None:
    rooms = {room_of(path) for path in HOUSE.rglob("*.py")}
    assert rooms <= {*FLOORS, GARDEN, *ROOF}


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("mem/a.py", "from xnet.ring.front import FrontRing", "up, from floor 1 to 2"),
        ("mem/a.py", "from xnet import frame", "sideways"),
        ("mem/a.py", "from .. import frame", "sideways"),
        ("mem/a.py", "from ..hv import api", "up, from floor 1 to 3"),
        ("mem/a.py", "from . import b", ""),
        ("netif/transport/a.py", "from ..gather import next_packet", ""),
        ("netif/a.py", "if TYPE_CHECKING:\n    from xnet.mac.vnic import Vnic", "sideways"),
        ("netif/a.py", "def f():\n    import os.path", "os below the line"),
        ("netif/a.py", "from time import monotonic", "time below the line"),
        ("errors.py", "import xnet.abi.xen", "sideways"),
        ("host/a.py", "import os, asyncio", ""),
        ("engine/a.py", "import xnet", "xnet is on no floor"),
        ("engine/a.py", "from xnet import Machine", "xnet.Machine is on no floor"),
        ("engine/a.py", "from xnet.testing import world", "nobody sees the garden"),
        ("__init__.py", "from xnet.testing import world", "nobody sees the garden"),
        ("__main__.py", "from xnet.control.cli import main", ""),
        ("testing/a.py", "from xnet.engine.machine import Machine", ""),
        ("testing/a.py", "from xnet.control.cli import main", "the garden sees floors 0 to 7"),
        ("control/a.py", "import xnet.bench.report", "a side door is opened inside a function only"),
        ("control/a.py", "def bench():\n    import xnet.bench.report", ""),
        ("bench/a.py", "def f():\n    import xnet.control.cli", "sideways"),
    ],
)
def test_the_reader_sees(path: str, source: str, why: str) -> None:
    complaints = [complaint(each) for each in imports_in(source, HOUSE / path)]
    assert [each for each in complaints if each] == ([why] if why else [])


def test_files_stay_short_or_say_why() -> None:
    lengths = {str(path.relative_to(HOUSE)): len(path.read_text().splitlines()) for path in HOUSE.rglob("*.py")}
    long = {path for path, lines in lengths.items() if lines > MAX_LINES}
    assert long == set(LONG_FILES), f"longer than {MAX_LINES} lines, or no longer so"
    assert all(reason.strip() for reason in LONG_FILES.values())
