"""What an unprivileged domain may take from the store. Source: the defaults of xenstored, tools/xenstored/domain.c."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Quota:
    """Limits of one domain; going over is ENOSPC (watches: E2BIG), over `outstanding` it is not listened to."""

    nodes: int = 1000
    """Nodes it owns."""
    watches: int = 128
    outstanding: int = 20
    """Replies and events it has not taken yet; past that its requests wait."""
    events: int = 1000
    """Watch events waiting for it; past that a watch's further events become one, of the watch's own path."""
    transactions: int = 10
    """Open at once."""
    transaction_nodes: int = 1024
    """Nodes one transaction has looked at or changed."""
    perms: int = 5
    """Entries of one node's permission list."""
    node_size: int = 2048
    """Bytes of one node: value, names of children, permissions."""
