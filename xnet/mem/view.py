"""`View`: shared memory for those who look at it in each frame.

Made of a memoryview, it has its items (of 1, 4 or 8 bytes) by index, to read and to set, and copies of its bytes by
place: `read(at, size)`, `write(at, data)`. `clear(at, data)` puts zeros where these very bytes are: whether they were.
It is C (`_view.c`), since a memoryview asks itself at each use how many
dimensions it has and of which format; a frame alone on its way looks 70 times, a quarter of all its instructions. Where
that was not compiled, a memoryview does the work.

IndexError for an item that is not there, ValueError for bytes that are not there, for a number that is too large, and
for anything after `release`, which may be called twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.mem._view import View
else:
    try:
        from xnet.mem._view import View
    except ImportError:

        class View:
            __slots__ = ("bytes", "items")

            def __init__(self, of: memoryview) -> None:
                self.items = of[:]
                self.bytes = of.cast("B")

            def __len__(self) -> int:
                return len(self.items)

            def __getitem__(self, index: int) -> int:
                return self.items[index]

            def __setitem__(self, index: int, value: int) -> None:
                self.items[index] = value

            def read(self, at: int, size: int) -> bytes:
                return self.bytes[self.place(at, size)].tobytes()

            def write(self, at: int, data: bytes | memoryview) -> None:
                self.bytes[self.place(at, len(data))] = data

            def clear(self, at: int, data: bytes | memoryview) -> bool:
                place = self.place(at, len(data))
                if self.bytes[place] != data:
                    return False
                self.bytes[place] = bytes(len(data))
                return True

            def place(self, at: int, size: int) -> slice:
                if size < 0 or not 0 <= at <= len(self.bytes) - size:
                    raise ValueError(f"View: {size} bytes at {at}, of {len(self.bytes)}")
                return slice(at, at + size)

            def release(self) -> None:
                self.items.release()
                self.bytes.release()


__all__ = ["View"]
