"""Floor 6: the operating system. Everything below this floor is arithmetic; everything here asks Linux for something.

**What it is.** `Tap` (a guest's or a backend's Ethernet device), `PacketSocket` and `Macvtap` (the frames of a device
that is not ours), `MachineMemory` and `Window` (the memfd that is
machine memory, and the address range a domain sees it through), `Nursery` and `NamespaceFds` (the anonymous
namespaces a guest lives in), `Netlink` (links, addresses, routes), `enter_and_exec` (a user's command inside a
guest), `survey` (what this machine lacks).

**Who owns what.** One engine process owns all of it through file descriptors alone: namespaces have no name and no
mount, TAPs are not persistent, frames live in a memfd. The processes that keep a guest's pid namespace alive hang
from the engine by PDEATHSIG: ``engine -> nursery -> init (pid 1 of the guest) -> whatever runs in the guest``. When
the engine goes, in whatever way, the kernel takes all the rest; there is nothing to clean.

**In which order.** Nursery first: from the main thread, and after the engine's last fork, if it goes to the background
(PDEATHSIG follows the very thread that started it). Then namespaces, then TAPs created *inside* them (never moved, so
that nothing is ever half-way), then netlink. Closing is the reverse, and any prefix of it is safe. The one thing the
kernel would keep, a bridge in the machine's own namespace, has a `Watcher`.

**What can go wrong.** Every refusal of the kernel becomes one `HostError` that names the thing and the fix. "No room"
and "nothing to read" are return values of the floors above and never pass through here.

Sources: tun(4) and Documentation/networking/tuntap, namespaces(7), pid_namespaces(7), mmap(2), memfd_create(2),
rtnetlink(7).
"""

from .enter import end_guest_command, enter, enter_and_exec, guest_command
from .macvtap import Macvtap
from .memory import PAGE_SIZE, MachineMemory, Window
from .netlink import Netlink
from .netns import NamespaceFds, new_netns, open_in_netns, own_namespaces, pinned_netns
from .nursery import GUEST_SYSCTLS, Nursery, guest_files
from .packet_socket import PacketSocket
from .survey import Check, survey
from .sysctl import read_sysctl, write_sysctls
from .tap import Tap, close_taps
from .watcher import Watcher

__all__ = [
    "GUEST_SYSCTLS",
    "PAGE_SIZE",
    "Check",
    "MachineMemory",
    "Macvtap",
    "NamespaceFds",
    "Netlink",
    "Nursery",
    "PacketSocket",
    "Tap",
    "Watcher",
    "Window",
    "close_taps",
    "end_guest_command",
    "enter",
    "enter_and_exec",
    "guest_command",
    "guest_files",
    "new_netns",
    "open_in_netns",
    "own_namespaces",
    "pinned_netns",
    "read_sysctl",
    "survey",
    "write_sysctls",
]
