"""The few calls of libc that Python 3.11 has no name for: `setns`, `unshare`, `mount`, `prctl` and `mmap` at a
chosen address.

The handle is loaded once and never changes; each function raises `OSError` with the call's errno.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_REC = 0x4000
MS_PRIVATE = 0x4_0000

PR_SET_PDEATHSIG = 1

PROT_READ = 1
PROT_WRITE = 2
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_NORESERVE = 0x4000
MAP_FAILED = ctypes.c_void_p(-1).value

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_LIBC.unshare.argtypes = (ctypes.c_int,)
_LIBC.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_LIBC.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)

MMAP = _LIBC.mmap
"""Raw ``mmap(addr, length, prot, flags, fd, offset)``: returns the address, or `MAP_FAILED` with errno set."""
MMAP.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
MMAP.restype = ctypes.c_void_p

MUNMAP = _LIBC.munmap
"""Raw ``munmap(addr, length)``: 0, or -1 with errno set."""
MUNMAP.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def last_error(call: str) -> OSError:
    """The errno of the libc call just made in this thread, as an exception to raise."""
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind `fd`, which must be of `kind` (a CLONE_NEW* number)."""
    if _LIBC.setns(fd, kind) != 0:
        raise last_error("setns")


def unshare(kinds: int) -> None:
    """Give the calling thread new namespaces of `kinds`."""
    if _LIBC.unshare(kinds) != 0:
        raise last_error("unshare")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Mount a filesystem of `kind` at `target`, or change how what is there is mounted (``MS_*``)."""
    if _LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None) != 0:
        raise last_error("mount")


def set_parent_death_signal(number: int) -> None:
    """Ask for signal `number` when the *thread* that forked us ends (prctl(2), PR_SET_PDEATHSIG)."""
    if _LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise last_error("prctl")
