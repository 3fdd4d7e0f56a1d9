"""One end of a transfer of random bytes over TCP, run inside a guest or dom0; needs nothing but Python.

``peer.py serve``              take one connection on PORT, answer with the SHA-256 of what came, print it
``peer.py send HOST BYTES``    send random bytes there, print the SHA-256 of what was sent and of what arrived
``peer.py http BYTES``         serve one GET of random bytes on PORT, print their SHA-256
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


def serve() -> None:
    digest = hashlib.sha256()
    with listen() as peer:
        while data := peer.recv(BLOCK):
            digest.update(data)
        peer.sendall(digest.hexdigest().encode())
    print(digest.hexdigest())


def send(host: str, length: int) -> None:
    with socket.create_connection((host, PORT), timeout=30) as peer:
        sent = pour(blocks(length), peer)
        peer.shutdown(socket.SHUT_WR)
        arrived = peer.makefile().read()
    print(sent, arrived)


def http(length: int) -> None:
    with listen() as peer:
        request = peer.recv(BLOCK)
        assert request.startswith(b"GET / HTTP/1.1\r\n"), request
        peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        print(pour(blocks(length), peer))


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        serve()
    elif verb == "send":
        send(rest[0], int(rest[1]))
    else:
        http(int(rest[0]))
