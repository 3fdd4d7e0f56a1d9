"""Where bytes live: machine frames, who owns each, and at which page of its window a domain sees them.

::

    backing     the machine's memory itself and windows on it (`Backing`, `Window`: made by the host floor)
    machine     the book of frames: owner of each mfn, who maps it, which have memory behind them
    physmap     one domain's pfn -> mfn, kept equal to what is really mapped in its window
    pool        numbers handed out in runs: frames, pages, grant references
    view        shared memory as numbers and bytes, for who looks at it in each frame

Owners. A frame belongs to nobody (`FREE`), to the hypervisor (DOMID_XEN), or to one domain. A domain's frames start
unpopulated (owner | `UNPOPULATED`): they are its own, but no memory stands behind them until its kernel allocates the
page. So fifty guests of 32 MiB cost what they use, and because an unpopulated frame is not "owned" to any check, the
hypervisor never touches a page whose memory might not be had (that would be SIGBUS for everybody).

A frame that another domain has mapped outlives its owner: `Machine.release` leaves it with the dead domain, and the
last `put` frees it. Freed memory goes back to the kernel and reads as zeros for the next owner.

What goes wrong: no frames left, or no memory behind them: HypercallError ENOMEM; nothing is half done.
"""

from xnet.mem.machine import FREE, UNPOPULATED, Backing, Machine, Window
from xnet.mem.physmap import NO_FRAME, Physmap
from xnet.mem.pool import Pool

__all__ = ["FREE", "NO_FRAME", "UNPOPULATED", "Backing", "Machine", "Physmap", "Pool", "Window"]
