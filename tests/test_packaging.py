"""What is installed: everything, the hot modules compiled where there is a compiler, and never half of them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import xnet
from xnet.compiled import is_compiled

ROOT = Path(__file__).parents[1]
INSTALLED = Path(xnet.__file__).parent
FROM_SOURCES = INSTALLED == ROOT / "xnet"
EXTENSION = EXTENSION_SUFFIXES[0]


def hot_modules() -> list[str]:
    """Dotted names out of setup.py's table."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT":
            groups: dict[str, list[str]] = ast.literal_eval(node.value)
            return [path.removesuffix(".py").replace("/", ".") for group in groups.values() for path in group]
    raise AssertionError("setup.py has no table HOT")


def by_hand() -> list[str]:
    """Dotted names of what is C in the sources."""
    return [
        ".".join(("xnet", *path.relative_to(ROOT / "xnet").with_suffix("").parts))
        for path in (ROOT / "xnet").rglob("_*.c")
    ]


def why_not_compiled() -> str:
    """The reason why a build here leaves plain Python, or nothing."""
    if os.environ.get("XNET_PURE"):
        return "XNET_PURE is set"
    if shutil.which("gcc") is None:
        return "needs gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "needs Python's headers"
    return ""


def files(house: Path) -> set[str]:
    """What lies in a package, but for what an interpreter or a compiler made there."""
    made = (".pyc", *EXTENSION_SUFFIXES)
    return {
        str(path.relative_to(house)) for path in house.rglob("*") if path.is_file() and not path.name.endswith(made)
    }


@pytest.mark.parametrize("name", hot_modules())
def test_a_hot_module_is_what_this_xnet_says_it_is(name: str) -> None:
    origin = importlib.import_module(name).__file__
    assert origin is not None
    assert origin.endswith(EXTENSION) == is_compiled()
    assert Path(origin).parent == INSTALLED.joinpath(*name.split(".")[1:-1])


@pytest.mark.parametrize("name", by_hand())
def test_what_is_c_is_there_if_this_xnet_is_compiled(name: str) -> None:
    assert (importlib.util.find_spec(name) is not None) == is_compiled()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not_compiled()), reason="nothing can be compiled here")
@pytest.mark.parametrize("name", by_hand())
def test_the_compiler_has_nothing_to_say_about_what_is_c(name: str) -> None:
    headers = sysconfig.get_path("include")
    quiet = ("-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type")
    source = ROOT / (name.replace(".", "/") + ".c")
    command = ["gcc", "-Wall", "-Wextra", *quiet, "-O2", "-S", "-o", os.devnull, f"-I{headers}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(FROM_SOURCES, reason="runs from the sources, which are never compiled in place")
def test_what_is_installed_is_compiled() -> None:
    if reason := why_not_compiled():
        pytest.skip(reason)
    assert is_compiled()


def test_every_file_of_the_package_is_installed() -> None:
    assert files(INSTALLED) == files(ROOT / "xnet")
    assert {"py.typed", "bench/relay.c"} <= files(INSTALLED)


def test_no_compiled_module_lies_beside_its_source() -> None:
    stale = [path for path in (ROOT / "xnet").rglob("*") if path.suffix in (".so", ".pyd")]
    assert not stale, "it is imported before the source, edited or not"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources, to be built."""
    home = tmp_path / "checkout"
    shutil.copytree(ROOT / "xnet", home / "xnet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home)
    return home


def build(home: Path, what: str, **environment: str) -> tuple[set[str], str]:
    """Build a wheel as an installer does, by setuptools' `what`; the names in it, and what was said on stderr."""
    code = f"import setuptools.build_meta as it; print(it.{what}('.'))"
    env = {name: value for name, value in os.environ.items() if name != "XNET_PURE"} | environment
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(home / done.stdout.split()[-1]) as wheel:
        return set(wheel.namelist()), done.stderr


@pytest.mark.slow
def test_a_compiler_that_fails_leaves_plain_python_and_says_so(copy: Path) -> None:
    names, said = build(copy, "build_wheel", CC="false")
    assert "the hot modules stay plain Python" in said
    assert not [name for name in names if name.endswith(EXTENSION)]
    assert {f"xnet/{name}" for name in files(ROOT / "xnet")} <= names


@pytest.mark.slow
@pytest.mark.parametrize(("what", "environment"), [("build_wheel", {"XNET_PURE": "1"}), ("build_editable", {})])
def test_nothing_is_compiled_on_request_and_in_an_editable_install(
    copy: Path, what: str, environment: dict[str, str]
) -> None:
    names, said = build(copy, what, **environment)
    assert names
    assert "plain Python" not in said
    sources = {path.name for path in (ROOT / "xnet").rglob("*.c")}
    assert not [path for path in copy.rglob("*") if path.suffix in (".so", ".c") and path.name not in sources]
