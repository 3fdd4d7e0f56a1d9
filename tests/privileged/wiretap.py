"""Frames in and out of a domain's devices as they are, run inside a guest or dom0; needs nothing but Python.

``wiretap.py keep FILE``                  write down all that passes any device, until SIGTERM
``wiretap.py send DEVICE FILE``           send the frames in FILE, as they are
``wiretap.py echo``                       send back what comes, TCP and UDP, on PORT
``wiretap.py ask HOST SIZE...``           payloads of these sizes to an echo, by TCP and by UDP: they must come back

In a FILE each frame is what `RECORD` says, then its device's name, virtio-net header and bytes.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
from struct import Struct, unpack

PORT = 7778
RECORD = Struct("<BHI")  # it was sent from here; bytes of the device's name, and of header and frame
ETH_P_ALL, SOL_PACKET = 3, 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR = 6, 8, 15
TP_STATUS_VLAN_VALID = 0x10
VNET_HDR_SIZE = 10
WAIT_S = 20


def keep(path: str) -> None:
    """A VLAN tag that the kernel took off is put on again."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap, open(path, "wb") as out:
        tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        tap.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        tap.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        print("listening", flush=True)
        with selectors.DefaultSelector() as ready:
            ready.register(tap, selectors.EVENT_READ)
            ready.register(wake, selectors.EVENT_READ)
            while any(key.fileobj is tap for key, _ in ready.select()):  # woken, but only when nothing is left
                data, auxiliary, _, (device, _, kind, *_) = tap.recvmsg(1 << 17, 64)
                status, _, _, _, _, tci, tpid = unpack("<IIIHHHH", auxiliary[0][2])
                if status & TP_STATUS_VLAN_VALID:
                    tag = tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
                    data = data[: VNET_HDR_SIZE + 12] + tag + data[VNET_HDR_SIZE + 12 :]
                name = device.encode()
                out.write(RECORD.pack(kind == socket.PACKET_OUTGOING, len(name), len(data)) + name + data)
        _, lost = unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        print("lost", lost, flush=True)


def send(device: str, path: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap, open(path, "rb") as frames:
        tap.bind((device, 0))
        while header := frames.read(RECORD.size):
            _, name, length = RECORD.unpack(header)
            tap.send(frames.read(name + length)[name + VNET_HDR_SIZE :])


def echo() -> None:
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.bind(("::", PORT))
    listener = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)

    def datagrams() -> None:
        while True:
            data, peer = udp.recvfrom(1 << 17)
            udp.sendto(data, peer)

    threading.Thread(target=datagrams, daemon=True).start()
    print("listening", flush=True)
    while True:
        with listener.accept()[0] as peer:
            data = b""
            while more := peer.recv(1 << 17):
                data += more
            peer.sendall(data)


def ask(host: str, sizes: list[int]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    most = 65535 - (8 if ":" in host else 28)
    for size in sizes:
        data = os.urandom(size)
        with socket.create_connection((host, PORT), timeout=WAIT_S) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            back = b""
            while more := peer.recv(1 << 17):
                back += more
        assert back == data, f"TCP, {size} bytes: {len(back)} came back"
        if size > most:
            continue
        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            udp.settimeout(WAIT_S)
            udp.sendto(data, (host, PORT))
            back = udp.recv(1 << 17)
        assert back == data, f"UDP, {size} bytes: {len(back)} came back"
    print("all came back")


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "keep":
        keep(rest[0])
    elif verb == "send":
        send(rest[0], rest[1])
    elif verb == "echo":
        echo()
    else:
        ask(rest[0], [int(size) for size in rest[1:]])
