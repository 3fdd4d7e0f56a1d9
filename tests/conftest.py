"""What every test stands on: both event loops, who may run privileged tests, and nothing left behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import uvloop

import xnet
from xnet.compiled import is_compiled

HOUSE = Path(__file__).parents[1] / "xnet"
TUN = Path("/dev/net/tun")
RUN = Path("/run/xnet")
XEN_HEADERS = Path("/usr/include/xen/io")
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine proves nothing
hypothesis.settings.load_profile("untimed")
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)  # for scripts/check
SETTLE_S = 3.0
"""The kernel takes namespaces and processes apart in the background; what is there after this is a leak."""

FAMILY = "XNET_TEST_FAMILY"
"""Environment variable that marks this run's processes: the machine's others are nobody's leak."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a privileged or integration test that would be skipped fails: scripts/test has set up its needs",
    )


def pytest_report_header() -> str:
    return f"xnet: {'compiled' if is_compiled() else 'plain Python'}, from {Path(xnet.__file__).parent}"


def pytest_sessionstart() -> None:
    """Tests of an installed xnet that is older than the sources beside them would prove nothing.

    And what a script starts in its background ignores Ctrl-C, for which tests and their guests could wait for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    installed = Path(xnet.__file__).parent
    for source in HOUSE.rglob("*.py"):
        twin = installed / source.relative_to(HOUSE)
        if not twin.exists() or twin.read_bytes() != source.read_bytes():
            pytest.exit(f"{twin} is not {source}: scripts/test installs it anew, python -m pytest runs the sources", 4)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def why_not_privileged() -> str:
    """The reason why TAPs and namespaces cannot be had here, or nothing."""
    if os.geteuid() != 0:
        return "needs root: sudo scripts/test"
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"needs {TUN}: {error.strerror}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not_privileged()
    for item in items:
        if reason and item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Under --no-skips a skip of a test that needs the machine is a failure, by the reason it gave."""
    report: pytest.TestReport = yield
    machine = item.get_closest_marker("privileged") or item.get_closest_marker("integration")
    if item.config.getoption("--no-skips") and machine and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason} (not allowed under --no-skips)"
    return report


def links() -> set[str]:
    """The host namespace's links, each with what a careless neighbour could change in it."""
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True, timeout=10).stdout
    wanted = ("ifindex", "ifname", "address", "mtu", "master")
    return {" ".join(f"{key}={link.get(key)}" for key in wanted) for link in json.loads(shown)}


def family() -> dict[int, str]:
    """Our processes by pid, whoever their parent is now, pytest itself left out.

    A program started by us has FAMILY in its environment; a mere fork still shows pytest's own environment and
    command line.
    """
    mark = f"{FAMILY}={os.environ[FAMILY]}".encode()
    own = [Path("/proc/self", name).read_bytes() for name in ("environ", "cmdline")]
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            seen = [(entry / name).read_bytes() for name in ("environ", "cmdline")]
        except OSError:
            continue  # gone meanwhile, or not ours to look at
        if seen == own or mark in seen[0].split(b"\0"):
            found[int(entry.name)] = seen[1].replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def net_namespaces(pids: list[int]) -> set[str]:
    """Network namespaces that our processes, pytest's own threads or its descriptors keep alive."""
    found = set()
    for path in [f"/proc/{pid}/ns/net" for pid in pids] + [
        f"/proc/self/task/{task}/ns/net" for task in os.listdir("/proc/self/task")
    ]:
        try:
            found.add(os.readlink(path))
        except OSError:
            continue
    return found | {target for target in descriptors() if target.startswith("net:[")}


def descriptors() -> list[str]:
    """pytest's own descriptors that a lab would own: namespaces, TAPs, memory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(("net:[", "mnt:[", "pid:[", "/memfd:", str(TUN))):
            found.append(target)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What xnet could leave on the machine, as sets of descriptions that a reader understands."""

    links: set[str]
    processes: set[str]
    namespaces: set[str]
    descriptors: set[str]
    mounts: set[str]
    state_files: set[str]

    @classmethod
    def take(cls) -> Footprint:
        gc.collect()
        ours = family()
        held = descriptors()
        return cls(
            links=links(),
            processes={f"{pid} {command}" for pid, command in ours.items()},
            namespaces=net_namespaces(list(ours)),
            descriptors={f"{target} x{held.count(target)}" for target in held},
            mounts=set(Path("/proc/self/mounts").read_text().splitlines()),
            state_files={str(path) for path in RUN.rglob("*")},
        )

    def changes(self, later: Footprint, failed: bool) -> list[str]:
        """What `later` has more; and, of links and mounts, which may be somebody else's, what it lacks.

        A failed test's traceback keeps what its frames held, so then descriptors prove nothing.
        """
        found = []
        for field in fields(self):
            if failed and field.name in ("descriptors", "namespaces"):
                continue
            before, after = getattr(self, field.name), getattr(later, field.name)
            found += [f"left behind in {field.name}: {what}" for what in sorted(after - before)]
            if field.name in ("links", "mounts"):
                found += [f"gone from {field.name}: {what}" for what in sorted(before - after)]
        return found


@contextmanager
def nothing_left(session: pytest.Session) -> Iterator[None]:
    """Fails with a list of what is other afterwards, given time to settle."""
    before, failures = Footprint.take(), session.testsfailed
    yield
    failed = session.testsfailed > failures
    deadline = time.monotonic() + SETTLE_S
    while (changes := before.changes(Footprint.take(), failed)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if changes:
        pytest.fail("\n".join(changes), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def a_run_that_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same check around the whole run, for what wider fixtures than a test's own leave."""
    if why_not_privileged() or not any(item.get_closest_marker("privileged") for item in request.session.items):
        yield
        return
    os.environ[FAMILY] = uuid.uuid4().hex
    with nothing_left(request.session):
        yield


@pytest.fixture(autouse=True)
def a_test_that_leaves_nothing(request: pytest.FixtureRequest, a_run_that_leaves_nothing: None) -> Iterator[None]:
    """A privileged test leaves links, processes, namespaces, mounts and state files as it found them."""
    if not request.node.get_closest_marker("privileged"):
        yield
        return
    with nothing_left(request.session):
        yield


@pytest.fixture
def run_alone() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script with arguments on a machine of its own, for which it has ``tests/alone.py``."""

    def run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]
        path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [*alone, sys.executable, str(script), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            timeout=170,
        )

    return run


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles ``tests/oracle/NAME.c`` against Xen's public headers; the program's path."""

    @functools.cache
    def compiled(name: str) -> Path:
        if shutil.which("gcc") is None:
            pytest.skip("needs gcc")
        if not XEN_HEADERS.is_dir():
            pytest.skip("needs Xen's public headers: libxen-dev")
        program = tmp_path_factory.mktemp("oracle") / name
        warnings = ["-Wall", "-Wextra", "-Werror"]
        source = Path(__file__).parent / "oracle" / f"{name}.c"
        subprocess.run(["gcc", "-std=gnu11", "-O1", *warnings, "-o", program, source], check=True, timeout=60)
        return program

    return compiled
