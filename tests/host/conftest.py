"""Guests for tests of the operating system's floor."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from xnet.host import NamespaceFds, Nursery, enter_and_exec

RunIn = Callable[[NamespaceFds, Sequence[str]], tuple[int, str]]
LinksOf = Callable[[NamespaceFds], dict[str, dict[str, Any]]]


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    nursery = Nursery()
    yield nursery
    await nursery.close()


@pytest.fixture
def run_in() -> RunIn:
    """Run a command in a guest as ``xnet exec`` does, in a forked process: its exit status and output."""

    def run(fds: NamespaceFds, argv: Sequence[str]) -> tuple[int, str]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.close(reader)
            os.close(writer)
            os._exit(enter_and_exec(fds, argv, os.environ))
        os.close(writer)
        with open(reader, encoding="utf-8") as output:
            text = output.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text

    return run


@pytest.fixture
def links_of(run_in: RunIn) -> LinksOf:
    """A guest's interfaces by name, as ``ip -j -d link`` tells them."""

    def links(fds: NamespaceFds) -> dict[str, dict[str, Any]]:
        status, text = run_in(fds, ["ip", "-j", "-d", "link"])
        assert status == 0, text
        return {link["ifname"]: link for link in json.loads(text)}

    return links
