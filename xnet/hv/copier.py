"""Grant copies that are plainly right, in C (`_copier.c`); where that was not compiled, nothing is plain.

    CopyOp   one GNTTABOP_copy. ``src`` and ``dst`` are a grant reference where the flags say so (GNTCOPY_source_gref,
             GNTCOPY_dest_gref), else a page number (pfn) of the caller's own window with domid DOMID_SELF.
             Source: public/grant_table.h, struct gnttab_copy
    Table    a domain as copies see it: its pages, its grants, which of them are in use
    Copier   `copy` does a batch, or nothing of it if anything is in doubt, and says which: `grantops` then goes by the
             rules, one by one

A lab's frame costs three or four copies, and what Python pays for the objects of one (the op, twenty numbers, a lookup
for each of its rules) was a fifth of the engine's own time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

    from xnet.hv._copier import Copier, CopyOp, Table
else:
    try:
        from xnet.hv._copier import Copier, CopyOp, Table
    except ImportError:

        class CopyOp:
            __slots__ = ("dst", "dst_domid", "dst_offset", "flags", "length", "src", "src_domid", "src_offset")

            def __init__(
                self,
                src: int,
                src_domid: int,
                src_offset: int,
                dst: int,
                dst_domid: int,
                dst_offset: int,
                length: int,
                flags: int,
            ) -> None:
                self.src, self.src_domid, self.src_offset = src, src_domid, src_offset
                self.dst, self.dst_domid, self.dst_offset = dst, dst_domid, dst_offset
                self.length, self.flags = length, flags

        class Table:
            def __init__(self, domid: int, pages: array[int]) -> None:
                self.copies = self.bytes_copied = 0

            def grow(self, mfn: int) -> None: ...

            def pin(self, ref: int) -> None: ...

            def unpin(self, ref: int) -> None: ...

            def close(self) -> None: ...

        class Copier:
            def __init__(self, memory: memoryview, owner: array[int], tables: dict[int, Table]) -> None: ...

            def copy(self, caller: Table, ops: list[CopyOp]) -> bool:
                return False


__all__ = ["Copier", "CopyOp", "Table"]
