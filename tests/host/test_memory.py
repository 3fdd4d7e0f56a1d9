"""Machine memory and windows: real mappings of a real memfd."""

from __future__ import annotations

import ctypes
import errno
import os
import random
from collections.abc import Iterator

import pytest

from xnet.errors import HostError
from xnet.host import PAGE_SIZE, MachineMemory, Window

pytestmark = pytest.mark.integration


@pytest.fixture
def memory() -> Iterator[MachineMemory]:
    memory = MachineMemory(64)
    for mfn in range(64):
        memory.view[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE] = bytes([mfn]) * PAGE_SIZE
    yield memory
    memory.close()


def page(window: Window, pfn: int) -> memoryview:
    return window.view[pfn * PAGE_SIZE : (pfn + 1) * PAGE_SIZE]


def shown(window: Window) -> list[int]:
    """First byte of every page; a page of one frame is that frame's number throughout."""
    for pfn in range(window.npages):
        assert len(set(page(window, pfn))) == 1
    return [window.view[pfn * PAGE_SIZE] for pfn in range(window.npages)]


def test_a_window_shows_the_frames_mapped_under_it_and_zeros_elsewhere(memory: MachineMemory) -> None:
    window = memory.window(6)
    window.map(1, 40)
    window.map(3, 10, 2)
    assert shown(window) == [0, 40, 0, 10, 11, 0]
    assert (memory.remaps, memory.pages_remapped) == (2, 3)
    window.close()


def test_bytes_written_in_a_window_are_in_the_machine(memory: MachineMemory) -> None:
    window = memory.window(2)
    window.map(1, 7)
    page(window, 1)[5:8] = b"xen"
    assert bytes(memory.view[7 * PAGE_SIZE + 5 : 7 * PAGE_SIZE + 8]) == b"xen"
    window.close()


def test_a_page_mapped_in_two_windows_is_one_page(memory: MachineMemory) -> None:
    one, two = memory.window(1), memory.window(3)
    one.map(0, 9)
    two.map(2, 9)
    page(one, 0)[0:4] = b"flip"
    assert bytes(page(two, 2)[0:4]) == b"flip"
    one.close()
    two.close()


def test_a_remapped_page_shows_the_new_frame_and_leaves_the_old_one_alone(memory: MachineMemory) -> None:
    window = memory.window(1)
    window.map(0, 1)
    window.map(0, 2)
    page(window, 0)[0] = 0xEE
    assert (memory.view[PAGE_SIZE], memory.view[2 * PAGE_SIZE]) == (1, 0xEE)
    window.close()


def test_a_view_taken_before_sees_what_is_mapped_later(memory: MachineMemory) -> None:
    window = memory.window(2)
    early = page(window, 1)
    window.map(1, 33)
    assert early[0] == 33
    early.release()
    window.close()


def test_an_unmapped_page_can_be_touched_and_reaches_no_frame(memory: MachineMemory) -> None:
    window = memory.window(1)
    window.map(0, 5)
    window.unmap(0)
    assert page(window, 0)[0] == 0
    page(window, 0)[0] = 0xEE
    assert memory.view[5 * PAGE_SIZE] == 5
    window.close()


def test_a_read_only_page_follows_its_owner_until_written_and_never_reaches_him(memory: MachineMemory) -> None:
    window = memory.window(1)
    window.map(0, 5, readonly=True)
    memory.view[5 * PAGE_SIZE] = 0x55
    assert page(window, 0)[0] == 0x55
    page(window, 0)[1] = 0xEE
    assert bytes(memory.view[5 * PAGE_SIZE : 5 * PAGE_SIZE + 2]) == b"\x55\x05"
    window.close()


def test_uncommitted_frames_read_as_zeros_everywhere(memory: MachineMemory) -> None:
    window = memory.window(3)
    window.map(0, 4, 3)
    memory.uncommit(5, 1)
    assert shown(window) == [4, 0, 6]
    window.close()


def test_commit_takes_memory_and_keeps_bytes() -> None:
    memory = MachineMemory(1024)
    assert os.fstat(memory.fd).st_blocks == 0
    memory.view[PAGE_SIZE * 3] = 7
    memory.commit(0, 512)
    assert os.fstat(memory.fd).st_blocks * 512 == 512 * PAGE_SIZE
    assert memory.view[PAGE_SIZE * 3] == 7
    memory.uncommit(0, 512)
    assert os.fstat(memory.fd).st_blocks == 0
    memory.close()


def test_a_slice_that_outlives_its_window_reads_zeros(memory: MachineMemory) -> None:
    window = memory.window(1)
    window.map(0, 5)
    slice_kept = page(window, 0)
    window.close()
    window.close()
    assert slice_kept[0] == 0
    slice_kept[0] = 0xEE
    assert memory.view[5 * PAGE_SIZE] == 5


def test_bytes_held_by_somebody_else_keep_a_closed_window_alive(memory: MachineMemory) -> None:
    window = memory.window(1)
    holder = (ctypes.c_char * 4).from_buffer(window.view)
    window.map(0, 5)
    window.close()
    assert holder.raw == b"\0\0\0\0"


def test_windows_outlive_the_machine_that_made_them() -> None:
    memory = MachineMemory(2)
    memory.view[0] = 1
    window = memory.window(1)
    window.map(0, 0)
    memory.close()
    memory.close()
    assert window.view[0] == 1
    window.close()


@pytest.mark.parametrize(
    ("pfn", "mfn", "n"), [(4, 0, 1), (-1, 0, 1), (3, 0, 2), (0, 64, 1), (0, 63, 2), (0, -1, 1), (0, 0, 0), (0, 0, -1)]
)
def test_pages_and_frames_that_are_not_there_are_refused(memory: MachineMemory, pfn: int, mfn: int, n: int) -> None:
    window = memory.window(4)
    with pytest.raises(ValueError, match=r"not in"):
        window.map(pfn, mfn, n)
    assert shown(window) == [0, 0, 0, 0]
    window.close()


def test_a_closed_window_maps_nothing(memory: MachineMemory) -> None:
    window = memory.window(1)
    window.close()
    with pytest.raises(ValueError, match=r"open window"):
        window.map(0, 0)


def test_many_random_maps_agree_with_a_model(memory: MachineMemory) -> None:
    dice, window, model = random.Random(4), memory.window(16), [0] * 16
    for _ in range(400):
        pfn, n = dice.randrange(16), dice.randrange(1, 4)
        n = min(n, 16 - pfn)
        if dice.random() < 0.3:
            window.unmap(pfn, n)
            model[pfn : pfn + n] = [0] * n
        else:
            mfn = dice.randrange(64 - n)
            window.map(pfn, mfn, n, readonly=dice.random() < 0.3)
            model[pfn : pfn + n] = range(mfn, mfn + n)
        assert shown(window) == model
    window.close()


def test_fifty_windows_of_32_mib_cost_no_memory() -> None:
    memory = MachineMemory(1)
    before = resident()
    windows = [memory.window(8192) for _ in range(50)]
    assert resident() - before < 1 << 20
    for window in windows:
        window.close()
    memory.close()


@pytest.mark.slow
def test_past_the_limit_of_mappings_the_error_names_the_limit_and_the_window_stays() -> None:
    with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
        limit = int(file.read())
    if limit > 100_000:
        pytest.skip(f"vm.max_map_count is {limit}: too many to use up")
    memory = MachineMemory(4)
    memory.view[0], memory.view[2 * PAGE_SIZE] = 1, 3
    window = memory.window(2 * limit)
    with pytest.raises(HostError, match=r"vm\.max_map_count") as caught:
        for pfn in range(0, 2 * limit, 2):
            window.map(pfn, pfn & 2)
    assert caught.value.errno == errno.ENOMEM
    assert (window.view[0], window.view[2 * PAGE_SIZE]) == (1, 3)
    refused = 0
    for again in range(pfn + 2, pfn + 202, 2):  # a mapping or two may have become free meanwhile, no more
        try:
            window.map(again, again & 2)
        except HostError:
            refused += 1
    assert refused > 90
    window.unmap(0, limit)
    window.map(1, 2)
    assert window.view[PAGE_SIZE] == 3
    window.close()
    memory.close()


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE_SIZE
