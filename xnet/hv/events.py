"""Event channels' bits in a shared_info page (2-level ABI), in C (`_events.c`) where that was compiled.

    Target   the far end of a channel, as its sender's hypervisor sees it. ``set_pending()`` makes its port pending:
             COALESCED (it was), HELD (it is masked), KNOWN (its domain has yet to look at that word) or NEWS (tell the
             domain). ``select()`` is the last step of it, for a port that was pending while it was masked: whether to
             tell the domain. Source: xen/common/event_2l.c, evtchn_2l_set_pending
    Inbox    a domain's own eyes on its pending ports. ``first()`` begins a look at them and takes one, ``next()`` takes
             another: lowest port first, masked ones left alone, -1 when there are no more. A port's bit goes before it
             is returned: news that comes meanwhile is a new event. Source: Linux, drivers/xen/events/events_2l.c

A burst of frames sends three or four events; in Python each of them is a dozen numbers made for one look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

COALESCED: Final = 0
HELD: Final = 1
KNOWN: Final = 2
NEWS: Final = 3

if TYPE_CHECKING:
    from xnet.hv._events import Inbox, Target
else:
    try:
        from xnet.hv._events import Inbox, Target
    except ImportError:
        from xnet.abi.xen.event_channel import (
            EVTCHN_2L_NR_CHANNELS,
            EVTCHN_MASK,
            EVTCHN_PENDING,
            EVTCHN_PENDING_SEL,
            EVTCHN_UPCALL_PENDING,
        )

        BITMAP = EVTCHN_2L_NR_CHANNELS // 8

        class Target:
            __slots__ = ("info", "port", "table")

            def __init__(self, table, info, port):
                if not 0 <= port < EVTCHN_2L_NR_CHANNELS:
                    raise ValueError(f"Target: no port {port}")
                self.table = table
                self.info = info
                self.port = port

            def set_pending(self):
                info, byte, bit = self.info, self.port >> 3, 1 << (self.port & 7)
                if info[EVTCHN_PENDING + byte] & bit:
                    return COALESCED
                info[EVTCHN_PENDING + byte] |= bit
                if info[EVTCHN_MASK + byte] & bit:
                    return HELD
                return NEWS if self.select() else KNOWN

            def select(self):
                info, byte, bit = self.info, EVTCHN_PENDING_SEL + (self.port >> 9), 1 << (self.port >> 6 & 7)
                if info[byte] & bit:
                    return False
                info[byte] |= bit
                info[EVTCHN_UPCALL_PENDING] = 1
                return True

        class Inbox:
            __slots__ = ("info", "mask", "pending", "sel", "selected", "todo", "word")

            def __init__(self, info):
                self.info = info
                self.sel = info[EVTCHN_PENDING_SEL : EVTCHN_PENDING_SEL + 8].cast("Q")
                self.pending = info[EVTCHN_PENDING : EVTCHN_PENDING + BITMAP].cast("Q")
                self.mask = info[EVTCHN_MASK : EVTCHN_MASK + BITMAP].cast("Q")
                self.selected = self.todo = self.word = 0

            def first(self):
                self.info[EVTCHN_UPCALL_PENDING] = 0
                self.selected, self.todo = self.sel[0], 0
                self.sel[0] = 0
                return self.next()

            def next(self):
                pending, mask = self.pending, self.mask
                while True:
                    while not self.todo:
                        if not self.selected:
                            return -1
                        self.word = (self.selected & -self.selected).bit_length() - 1
                        self.selected &= self.selected - 1
                        self.todo = pending[self.word] & ~mask[self.word]
                    bit = self.todo & -self.todo
                    self.todo ^= bit
                    if pending[self.word] & ~mask[self.word] & bit:  # else a handler before it closed or masked it
                        pending[self.word] ^= bit
                        return (self.word << 6) + bit.bit_length() - 1


__all__ = ["COALESCED", "HELD", "KNOWN", "NEWS", "Inbox", "Target"]
