"""One end of a transfer of random bytes over TCP, run inside a guest or dom0; needs nothing but Python.

``peer.py serve BYTES``        take one connection on PORT, take all it sends, send that many back
``peer.py swap HOST BYTES``    send that many there, take what comes back
``peer.py http BYTES``         serve one GET of that many on PORT

Each prints the SHA-256 of what it sent and of what it took.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import sys
from collections.abc import Iterator

PORT = 7777
BLOCK = 1 << 20


def blocks(length: int) -> Iterator[bytes]:
    """`length` bytes that no reordering or repetition can leave the same: random ones, each block numbered."""
    noise = os.urandom(BLOCK)
    for number in itertools.count():
        if length <= 0:
            return
        block = number.to_bytes(8, "big") + noise[8:]
        yield block[:length]
        length -= len(block)


def listen() -> socket.socket:
    """The first connection to come, over IPv4 or IPv6."""
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        print("listening", flush=True)
        return listener.accept()[0]


def pour(data: Iterator[bytes], into: socket.socket) -> str:
    """Send all of it; its SHA-256."""
    digest = hashlib.sha256()
    for block in data:
        digest.update(block)
        into.sendall(block)
    return digest.hexdigest()


def drain(peer: socket.socket) -> str:
    """Take all that comes; its SHA-256."""
    digest = hashlib.sha256()
    while data := peer.recv(BLOCK):
        digest.update(data)
    return digest.hexdigest()


def serve(length: int) -> None:
    with listen() as peer:
        taken = drain(peer)
        print("sent", pour(blocks(length), peer), "took", taken)


def swap(host: str, length: int) -> None:
    with socket.create_connection((host, PORT), timeout=30) as peer:
        sent = pour(blocks(length), peer)
        peer.shutdown(socket.SHUT_WR)
        print("sent", sent, "took", drain(peer))


def http(length: int) -> None:
    with listen() as peer:
        request = peer.recv(BLOCK)
        assert request.startswith(b"GET / HTTP/1.1\r\n"), request
        peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        print("sent", pour(blocks(length), peer))


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        serve(int(rest[0]))
    elif verb == "swap":
        swap(rest[0], int(rest[1]))
    else:
        http(int(rest[0]))
