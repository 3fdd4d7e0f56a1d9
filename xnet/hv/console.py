"""Console: the hypervisor's console ring (`xl dmesg`), a bounded number of bytes of whole lines, the oldest dropped."""

from __future__ import annotations

from collections import deque

MAX_LINE = 256
BURST = 10
"""Lines a second of those that are limited: Linux's printk_ratelimit has ten in five."""


class Console:
    """Lines as Xen prints them: ``(XEN) ...`` its own, ``(d3) ...`` a domain's. They carry no time; the reader may."""

    def __init__(self, size: int = 16384) -> None:
        self._size = size
        self._used = 0
        self._lines: deque[str] = deque()
        self._credit = BURST
        self._suppressed = 0
        self.written = 0
        """Lines, since it was made."""
        self.suppressed = 0
        """Messages that were never shown, since it was made."""

    def write(self, text: str, domid: int | None = None) -> None:
        """Add text, a line or several, by a domain or by the hypervisor. Unprintable characters become ``?``."""
        prefix = "(XEN)" if domid is None else f"(d{domid})"
        for line in text.splitlines() or [""]:
            clean = "".join(c if " " <= c <= "~" else "?" for c in line[:MAX_LINE])
            self._lines.append(f"{prefix} {clean}")
            self._used += len(self._lines[-1]) + 1
            self.written += 1
        while self._used > self._size:
            self._used -= len(self._lines.popleft()) + 1

    def limited(self, text: str, domid: int | None = None) -> None:
        """Add a line that may come more often than anybody can read: what is too much until `tick` is counted."""
        if self._credit:
            self._credit -= 1
            self.write(text, domid)
        else:
            self._suppressed += 1
            self.suppressed += 1

    def tick(self) -> None:
        """A second is over."""
        if self._suppressed:
            self.write(f"{self._suppressed} messages suppressed")
        self._credit, self._suppressed = BURST, 0

    def lines(self) -> list[str]:
        """What is in the ring, oldest first."""
        return list(self._lines)
