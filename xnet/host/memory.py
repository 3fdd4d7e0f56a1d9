"""Machine memory: one memfd of 4 KiB frames, the hypervisor's view of all of it, and each domain's window on its own.

::

    memfd      | mfn 0 | mfn 1 | mfn 2 | mfn 3 | ...      MachineMemory.view: everything, read-write, for the
    hypervisor
                    ^       ^_______
    window     | pfn 0 | pfn 1 | pfn 2 |                  Window.view: what one domain can reach, remapped page by
    page

A window is a reserved range of addresses whose view never moves. `Window.map` puts machine frames under some of its
pages with ``mmap(MAP_FIXED)``, so giving a page away or taking one has the machine's real price.

Why unmapped pages are private memory, not PROT_NONE: one stray access to PROT_NONE kills the engine and every guest
with it. Private memory gives wrong bytes, which a test sees, and the engine lives. For the same reason a read-only
mapping is MAP_PRIVATE, not PROT_READ: reads show the owner's page, a write that should not have been made stays in
the writer's copy and reaches nobody.

Why `commit`: a memfd is sparse, and a page that cannot be had at the moment it is touched is SIGBUS. fallocate takes
it beforehand, with an error instead of a signal.

Limits: every run of pages that is contiguous in both the window and the machine is one mapping of the process;
``vm.max_map_count`` (65530 by default) bounds them, so about 32,700 scattered pages. Past it `map` raises, and what
was mapped stays. Python needs a mapping now and then as well and would die of MemoryError there: so a reserve of
mappings is held (`Reserve`), let go at the limit, and `map` refuses until it could be taken again.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from ..errors import HostError
from . import libc

PAGE_SIZE = 4096

RW = libc.PROT_READ | libc.PROT_WRITE
SHARED_FRAMES = libc.MAP_SHARED | libc.MAP_FIXED
READONLY_FRAMES = libc.MAP_PRIVATE | libc.MAP_NORESERVE | libc.MAP_FIXED
NO_FRAMES = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE | libc.MAP_FIXED


class MachineMemory:
    """`nframes` frames of 4 KiB in a memfd. Owned by the engine; `close` gives the memory back to the kernel."""

    def __init__(self, nframes: int) -> None:
        """Reserve the frames; none costs memory until it is committed or touched. Raises HostError."""
        self.nframes = nframes
        self.remaps = self.pages_remapped = 0
        """System calls that changed what windows show, and the pages they were about."""
        self.fd = -1
        try:
            self.fd = os.memfd_create("xnet-machine", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, nframes * PAGE_SIZE)
            self._map = mmap.mmap(self.fd, nframes * PAGE_SIZE)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
            raise _refused("machine memory", nframes, error) from error
        self.view = memoryview(self._map)
        self.move = self._map.move
        """``move(to, start, count)`` copies bytes; a third of the price of two slices of the view."""
        self.reserve = Reserve(self.fd)

    def commit(self, first_mfn: int, n: int) -> None:
        """Take memory for frames first_mfn .. first_mfn + n - 1 now, so that touching them cannot fail later.

        New frames read as zeros; frames that have memory keep their bytes. Raises HostError when the machine has none
        left.
        """
        self._check(first_mfn, n)
        try:
            os.posix_fallocate(self.fd, first_mfn * PAGE_SIZE, n * PAGE_SIZE)
        except OSError as error:
            raise _refused("machine memory", n, error) from error

    def uncommit(self, first_mfn: int, n: int) -> None:
        """Give the frames' memory back to the kernel; they read as zeros everywhere, so a next owner sees nothing."""
        self._check(first_mfn, n)
        self._map.madvise(mmap.MADV_REMOVE, first_mfn * PAGE_SIZE, n * PAGE_SIZE)

    def window(self, npages: int) -> Window:
        """A new window of `npages` pages with nothing mapped. The caller owns it and closes it. Raises HostError."""
        return Window(self, npages)

    def close(self) -> None:
        """Close the memfd. Views still held by somebody stay readable until they are dropped. Twice is allowed."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        os.close(fd)
        self.reserve.let_go()
        _close_or_forget(self.view, self._map)

    def _check(self, first_mfn: int, n: int) -> None:
        if not (n > 0 and 0 <= first_mfn <= self.nframes - n):
            raise ValueError(f"frames {first_mfn}+{n} are not in a machine of {self.nframes}")


class Window:
    """A range of addresses through which one domain sees the machine frames that are mapped under it.

    `view` covers all of it and stays valid for the window's life; slices of it may be kept as long.
    """

    def __init__(self, memory: MachineMemory, npages: int) -> None:
        self.npages = npages
        self._memory = memory
        flags = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE
        try:
            self._map = mmap.mmap(-1, npages * PAGE_SIZE, flags=flags)
        except OSError as error:
            raise _refused("window", npages, error) from error
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.view = memoryview(self._map)
        self._closed = False

    def map(
        self, pfn: int, mfn: int, n: int = 1, readonly: bool = False
    ) -> None:  # hot: ≤ 8 µs, 15 with the first touch after it
        """Put machine frames mfn .. mfn + n - 1 under pages pfn .. pfn + n - 1, replacing what was there.

        With `readonly` the pages show the frames, and writes stay private to the window. Raises HostError when the
        kernel has no more mappings to give; the window is then as before.
        """
        self._memory._check(mfn, n)
        flags = READONLY_FRAMES if readonly else SHARED_FRAMES
        self._remap(pfn, n, flags, self._memory.fd, mfn * PAGE_SIZE)

    def unmap(self, pfn: int, n: int = 1) -> None:
        """Take whatever is under the pages away. They read as zeros again; no frame can be reached through them."""
        self._remap(pfn, n, NO_FRAMES, -1, 0)

    def close(self) -> None:
        """Let go of every frame, then of the addresses. Safe while slices of `view` are still held: they read zeros."""
        if self._closed:
            return
        self.unmap(0, self.npages)
        self._closed = True
        _close_or_forget(self.view, self._map)

    def _remap(self, pfn: int, n: int, flags: int, fd: int, offset: int) -> None:
        if not (n > 0 and 0 <= pfn <= self.npages - n) or self._closed:
            raise ValueError(f"pages {pfn}+{n} are not in an open window of {self.npages}")
        reserve = self._memory.reserve
        if not (reserve.held or flags == NO_FRAMES or reserve.take()):
            raise _refused("window", n, OSError(errno.ENOMEM, "mmap"))
        where = self._address + pfn * PAGE_SIZE
        if libc.MMAP(where, n * PAGE_SIZE, RW, flags, fd, offset) == libc.MAP_FAILED:
            error = libc.last_error("mmap")
            reserve.let_go()
            raise _refused("window", n, error)
        self._memory.remaps += 1
        self._memory.pages_remapped += n


class Reserve:
    """Mappings held only to be given up at the limit: a page of the memfd here and a hole there, by turns.

    At the limit the kernel refuses every mmap, also one that would leave fewer mappings, but never a munmap of whole
    ones. Both ends are read-only pages, so that no neighbour can have grown together with them.
    """

    PAGES = 511

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._address: int | None = None
        self.take()

    @property
    def held(self) -> bool:
        return self._address is not None

    def take(self) -> bool:
        """Hold it; False when there are not that many mappings to be had."""
        size = self.PAGES * PAGE_SIZE
        start = libc.MMAP(None, size, RW, NO_FRAMES & ~libc.MAP_FIXED, -1, 0)
        if start == libc.MAP_FAILED:
            return False
        self._address = start
        for where in range(start, start + size, 2 * PAGE_SIZE):
            if libc.MMAP(where, PAGE_SIZE, libc.PROT_READ, SHARED_FRAMES, self._fd, 0) == libc.MAP_FAILED:
                self.let_go()
                return False
        return True

    def let_go(self) -> None:
        """Give all of it back to the kernel. Twice is allowed."""
        if self._address is not None:
            libc.MUNMAP(self._address, self.PAGES * PAGE_SIZE)
            self._address = None


def _close_or_forget(view: memoryview, mapping: mmap.mmap) -> None:
    """Unmap now, or, when something still holds the bytes, at the moment the last one lets go (it keeps them alive)."""
    try:
        view.release()
        mapping.close()
    except BufferError:
        pass


def _refused(what: str, npages: int, error: OSError) -> HostError:
    if error.errno == errno.ENOMEM and what == "window":
        fix = "too many mappings or no address space; raise vm.max_map_count (sysctl -w vm.max_map_count=1048576)"
    elif error.errno in (errno.ENOMEM, errno.ENOSPC):
        fix = "the machine has not that much memory free; make [machine] memory smaller"
    else:
        fix = os.strerror(error.errno or 0)
    return HostError(f"{what}, {npages} pages: {fix}", errno=error.errno or 0, call="mmap", device=what)
