"""What a killed engine can leave behind, and its removal. Little: namespaces, TAPs and processes end with it.

State directories stay when nobody lived to remove them; lab.json, unlocked, is the mark. A bridge in the machine's own
namespace (``[dom0] netns = "host"``) stays only when its watcher was killed as well; its alias is the mark
(``xnet NAME PID``). What has no mark, or a living owner, is never touched.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from xnet.control.state import FILES, MARK, lock, read_owner, start_time, state_dirs, sweep

NET = Path("/sys/class/net")


@dataclass(slots=True, frozen=True)
class Leftover:
    """What a dead engine left: a state directory (its files, ours and others') or a link of the machine."""

    kind: str
    """"state" or "link"."""
    name: str
    """The directory, or the interface."""
    ours: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Files that are not ours, and stay."""


def collect(*, dry_run: bool = False) -> list[Leftover]:
    """Remove what dead engines left; with `dry_run` only tell."""
    found = collect_state(dry_run)
    links = stale_links()
    if links and not dry_run:
        asyncio.run(remove_links(links))
    return found + [Leftover("link", name) for name in links]


def collect_state(dry_run: bool) -> list[Leftover]:
    """Remove the state directories of dead engines. Directories without our lab.json are not ours and stay."""
    found: list[Leftover] = []
    for path in state_dirs():
        try:
            fd = lock(path)
        except OSError:
            continue  # no lab.json, or not for us to open
        if fd is None:
            continue
        try:
            if read_owner(path) is None and os.fstat(fd).st_size:
                continue  # somebody else's file of that name
            present = sorted(os.listdir(path))
            ours = [name for name in present if name in FILES]
            kept = [name for name in present if name not in FILES]
            if not dry_run:
                kept = sweep(path)
            found.append(Leftover("state", str(path), ours, kept))
        finally:
            os.close(fd)
    return found


def stale_links(net: Path = NET) -> list[str]:
    """Interfaces of this namespace with our mark whose engine is gone."""
    found = []
    for path in sorted(net.glob("*/ifalias")):
        try:
            words = path.read_text().split()
        except OSError:
            continue  # it went while we looked
        if len(words) == 3 and words[0] == MARK and words[2].isdecimal() and start_time(int(words[2])) < 0:
            found.append(path.parent.name)
    return found


async def remove_links(names: list[str]) -> None:
    """Delete interfaces of this namespace."""
    from xnet.host.netlink import Netlink

    async with Netlink() as netlink:
        for name in names:
            await netlink.delete_link(name)
