"""What slots say, at the speed of C (`_slots.c`): a frame of 64 KiB has 18 on each ring, much for Python, little for C.

The rules are in `gather`, `scatter`, `posted` and `assemble`, one frame at a time. Here are bursts:

    requests(frames, refs)      the frontend's request slots for frames of its run of pages
    answered(frames, data, at)  how many of the first of `frames` the response slots from byte `at` on answer in order
                                and well, and the byte behind; no further than where the run of pages begins anew
    Gather(domid, heads_only)   .burst(data, most, room, addr, frames, ops): up to `most` packets off request slots, up
                                to the first that is neither one slot nor whole pages of consecutive references, or not
                                plainly right. They are added to `frames` as they will lie from `addr` on, in about
                                `room` bytes, and to `ops` the grant copies that bring them there (`CopyFetch`); the
                                response slots, how many, and the bytes they take
    Scatter(domid)              .burst(frames, requests, ops): as many frames as there are request slots for, the grant
                                copies that fill them added to `ops`; the response slots, how many, frames, and bytes
    frames(data, first, base)   what `assemble.assemble` finds, or None in doubt about any of it

Copies begin with the last frame: it was read last and is still in the cache, and what is copied last is read next.
Where nothing was compiled, the rules do the work; `Gather` and `frames` are always in doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.netif._slots import Gather, Scatter, answered, frames, requests
else:
    try:
        from xnet.netif._slots import Gather, Scatter, answered, frames, requests
    except ImportError:
        from xnet.abi.xen.netif import RX_SLOT_SIZE
        from xnet.netif.posted import answers_of, requests_of, slots_of
        from xnet.netif.scatter import answer, copies

        def requests(frames, refs):
            return b"".join([slot for posted in frames for slot in requests_of(posted, refs)])

        def answered(frames, data, at):
            done = 0
            for posted in frames:
                answers = answers_of(posted)
                if data[at : at + len(answers)] != answers or (done and not posted[0]):
                    break
                done += 1
                at += len(answers)
            return done, at

        class Gather:
            def __init__(self, domid, heads_only):
                pass

            def burst(self, data, most, room, addr, frames, ops):
                return b"", 0, 0

        class Scatter:
            def __init__(self, domid):
                self.domid = domid

            def burst(self, frames, requests, ops):
                answers = []
                parts = []
                at = size = 0
                for word, length, pieces in frames:
                    end = at + slots_of(word, length) * RX_SLOT_SIZE
                    if end > len(requests):
                        break
                    data, grefs = answer(word, length, requests[at:end])
                    answers.append(data)
                    parts.append(copies(self.domid, pieces, grefs))
                    at = end
                    size += length
                for part in reversed(parts):
                    ops += part
                return b"".join(answers), at // RX_SLOT_SIZE, len(answers), size

        def frames(data, first, base):
            return None


__all__ = ["Gather", "Scatter", "answered", "frames", "requests"]
