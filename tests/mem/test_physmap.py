"""A physmap and the window under it never disagree, over real memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xnet.errors import HostError
from xnet.host.memory import MachineMemory
from xnet.mem import NO_FRAME, Physmap

pytestmark = pytest.mark.integration

PAGE = 4096


@pytest.fixture
def memory() -> Iterator[MachineMemory]:
    memory = MachineMemory(8)
    memory.commit(0, 8)
    for mfn in range(8):
        memory.view[mfn * PAGE] = 0x10 + mfn
    yield memory
    memory.close()


@pytest.fixture
def physmap(memory: MachineMemory) -> Iterator[Physmap]:
    window = memory.window(4)
    yield Physmap(window, 4)
    window.close()


def seen(physmap: Physmap) -> list[int]:
    return [physmap.window.view[pfn * PAGE] for pfn in range(4)]


def test_placed_frames_are_seen_and_cleared_ones_are_not(physmap: Physmap) -> None:
    physmap.place(1, 5, 3)
    assert list(physmap.mfn) == [NO_FRAME, 5, 6, 7]
    assert seen(physmap) == [0, 0x15, 0x16, 0x17]
    physmap.clear(2)
    assert list(physmap.mfn) == [NO_FRAME, 5, NO_FRAME, 7]
    assert seen(physmap) == [0, 0x15, 0, 0x17]


def test_replacing_a_page_gives_the_old_frame_back(physmap: Physmap, memory: MachineMemory) -> None:
    physmap.place(0, 0, 4)
    assert physmap.replace(2, 7) == 2
    assert seen(physmap) == [0x10, 0x11, 0x17, 0x13]
    physmap.window.view[2 * PAGE] = 0xAA
    assert memory.view[7 * PAGE] == 0xAA
    assert memory.view[2 * PAGE] == 0x12


def test_a_read_only_page_keeps_writes_to_itself(physmap: Physmap, memory: MachineMemory) -> None:
    physmap.place(0, 3, readonly=True)
    physmap.window.view[0] = 0xEE
    assert memory.view[3 * PAGE] == 0x13


def test_a_remap_the_host_refuses_changes_nothing(physmap: Physmap, monkeypatch: pytest.MonkeyPatch) -> None:
    physmap.place(0, 0, 4)

    def refuse(*_: object) -> None:
        raise HostError("window: too many mappings")

    monkeypatch.setattr(physmap.window, "map", refuse)
    for change in (lambda: physmap.place(0, 6), lambda: physmap.replace(0, 6)):
        with pytest.raises(HostError):
            change()
    assert list(physmap.mfn) == [0, 1, 2, 3]
    assert seen(physmap) == [0x10, 0x11, 0x12, 0x13]
