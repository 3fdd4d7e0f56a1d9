"""GrantTable: what one domain lets others do with its pages, and what it does with theirs (its maptrack).

The entries are bytes in pages shared with the domain; they are read from there at each use. What the hypervisor keeps
to itself is which of them are in use (`Active`): as long as a grant is pinned, its domid and frame are the ones found
at the first pin, whatever the domain writes over its entry, and the status bits GTF_reading and GTF_writing stand in
the entry. Source: xen/common/grant_table.c, _set_status_v1 and the act->pin rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xnet.abi.xen.grant_table import (
    GRANT_ENTRIES_PER_FRAME,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_type_mask,
    GTF_writing,
)
from xnet.hv.copier import Table
from xnet.hv.reservation import Reservation
from xnet.mem import Machine, Physmap, Window

GTF_sub_page: Final = 0x100
"""Version 2 only: not a whole page, so it cannot be mapped."""

MAX_PINS: Final = 128
"""Uses of one kind at once: Xen keeps each count in 8 bits and refuses when the top one is set."""


@dataclass(slots=True)
class Active:
    """A grant in use: who uses it, which frame, by how many read-only and writable mappings (or copies)."""

    domid: int
    frame: int
    readers: int = 0
    writers: int = 0


@dataclass(slots=True)
class Tracked:
    """One maptrack entry: a foreign page this domain has mapped."""

    table: GrantTable
    ref: int
    pfn: int
    frame: int
    readonly: bool


class GrantTable:
    """One domain's grant state. `words` are the entries as u32 pairs (flags | domid << 16, frame), `entries` how many
    there are now; the hypervisor keeps the frames, `frames`, mapped one after another in a window of its own.
    """

    def __init__(
        self,
        domid: int,
        machine: Machine,
        physmap: Physmap,
        reservation: Reservation,
        own: Window,
        max_frames: int,
        maptrack: int,
    ) -> None:
        self.domid = domid
        self.physmap = physmap
        self.reservation = reservation
        self.max_frames = max_frames
        self.frames: list[int] = []
        self.entries = 0
        self.words = own.view.cast("I")
        self.active: dict[int, Active] = {}
        self.maptrack: dict[int, Tracked] = {}
        self.handles = list(range(maptrack - 1, -1, -1))
        """Free maptrack handles, the next one last."""
        self.hypercalls = 0
        self.copying = Table(domid, physmap.mfn)
        """What copies need to know of it."""
        self.maps = 0
        self.unmaps = 0
        self._machine = machine
        self._own = own

    def grow(self, mfn: int) -> None:
        """One more frame, of the hypervisor's heap, with 512 invalid entries. Raises HostError and changes nothing."""
        self._own.map(len(self.frames), mfn)
        self.frames.append(mfn)
        self.copying.grow(mfn)
        self.entries += GRANT_ENTRIES_PER_FRAME

    def pin(self, ref: int, domid: int, *, write: bool, mapping: bool) -> int:
        """Start one use of a grant by `domid`: the machine frame, or a negative GNTST status and nothing changed."""
        if not 0 <= ref < self.entries:
            return GNTST_bad_gntref
        active = self.active.get(ref)
        if active is not None:
            pins = active.writers if write else active.readers
            if active.domid != domid or pins >= MAX_PINS:
                return GNTST_general_error
        if (active is None or (write and not active.writers)) and not self._set_status(
            ref, domid, active, write, mapping
        ):
            return GNTST_general_error
        if active is None:
            frame = self.words[2 * ref + 1]
            if frame >= self._machine.nframes or self._machine.owner[frame] != self.domid:
                self.words[2 * ref] &= ~(GTF_reading | GTF_writing if write else GTF_reading)
                return GNTST_bad_page
            active = self.active[ref] = Active(domid, frame)
            self.copying.pin(ref)
        if write:
            active.writers += 1
        else:
            active.readers += 1
        return active.frame

    def unpin(self, ref: int, *, write: bool) -> None:
        """End one use; the status bits go when the last writer, and the last user, is gone."""
        active = self.active[ref]
        clear = 0
        if write:
            active.writers -= 1
            if not active.writers:
                clear = GTF_writing
        else:
            active.readers -= 1
        if not active.readers and not active.writers:
            del self.active[ref]
            self.copying.unpin(ref)
            clear |= GTF_reading
        if clear:
            self.words[2 * ref] &= ~clear

    def complete(self, ref: int, domid: int, frame: int) -> bool:
        """Accept a frame of `domid`'s by a transfer grant, whose entry names it from now on; False when this is no such
        grant, or has had its frame."""
        if not 0 <= ref < self.entries or self.words[2 * ref] != GTF_accept_transfer | domid << 16:
            return False
        self.words[2 * ref + 1] = frame
        self.words[2 * ref] |= GTF_transfer_committed | GTF_transfer_completed
        return True

    def close(self) -> list[int]:
        """Forget the mapping of the entries; the frames, for the heap to take back."""
        frames, self.frames, self.entries = self.frames, [], 0
        self.copying.close()
        self.words.release()
        self._own.close()
        return frames

    def _set_status(self, ref: int, domid: int, active: Active | None, write: bool, mapping: bool) -> bool:
        """Set the status bits in the entry, if its flags allow this use."""
        word = self.words[2 * ref]
        mask = GTF_type_mask | GTF_sub_page if mapping else GTF_type_mask
        if active is None and (word & mask != GTF_permit_access or word >> 16 != domid):
            return False
        if write and word & GTF_readonly:
            return False
        self.words[2 * ref] = word | (GTF_reading | GTF_writing if write else GTF_reading)
        return True
