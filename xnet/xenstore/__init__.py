"""Floor 4: xenstore, the notice board of the host. A small tree of values everybody can watch, each as far as allowed.

Drivers find their other end in it, tell it their features, grants and ports, and go through the xenbus states
together. It carries a few hundred short messages in a device's life and none of its traffic.

Who owns what. `Server` owns the tree, the watches and who is introduced; a `Connection` owns its client's watches,
transactions and undelivered output. A client's `Session` owns the conversations under way. All of it is sans IO:
bytes go in by `receive`, come out by `take` or `send`, and somebody is told (`wake`, `notify`) when there are some. So
the same store serves a Unix socket (`xnet.engine.xenstored`), a domain's ring page (`RingConnection`) and callers in
the process (`local_session`), always through the real wire protocol.

In which order. A request is answered completely before the next; its reply stands before the events it causes; events
of a transaction come at its commit, one for a path, in the order of the first change. Transports are woken between
requests, never inside one, so a client that asks again from inside its wake-up finds a consistent tree.

What can go wrong. A refusal is an errno name (StoreError for the client). A transaction that looked at something that
changed since commits with EAGAIN and is done again from the start. An unprivileged domain is held to `Quota`; while it
does not take its output its requests wait, and a flood of events for one watch becomes a single event for the watch's
own path. Who breaks the framing or its ring's indices loses its connection, nothing else.

Why not events of each watcher in its own task, or a tree per transaction: immutable nodes in one dict make isolation a
second dict, and conflict a comparison of generations.

Source: public/io/xs_wire.h; docs/misc/xenstore.txt, xenstore-ring.txt; behaviour of tools/xenstored (Xen 4.17).
"""

from xnet.xenstore.client import Conversation, Session, in_transaction, listing
from xnet.xenstore.connection import Connection
from xnet.xenstore.local import local_session
from xnet.xenstore.ops import (
    DomainPath,
    GetPerms,
    Introduce,
    IsIntroduced,
    Ls,
    Mkdir,
    Read,
    Release,
    ResetWatches,
    Rm,
    SetPerms,
    Write,
)
from xnet.xenstore.perms import Perm
from xnet.xenstore.quota import Quota
from xnet.xenstore.ringconn import RingClient, RingConnection
from xnet.xenstore.server import Server, StoreStatistics
from xnet.xenstore.tree import INTRODUCE_DOMAIN, RELEASE_DOMAIN
from xnet.xenstore.wire import WireError

__all__ = [
    "INTRODUCE_DOMAIN",
    "RELEASE_DOMAIN",
    "Connection",
    "Conversation",
    "DomainPath",
    "GetPerms",
    "Introduce",
    "IsIntroduced",
    "Ls",
    "Mkdir",
    "Perm",
    "Quota",
    "Read",
    "Release",
    "ResetWatches",
    "RingClient",
    "RingConnection",
    "Rm",
    "Server",
    "Session",
    "SetPerms",
    "StoreStatistics",
    "WireError",
    "Write",
    "in_transaction",
    "listing",
    "local_session",
]
