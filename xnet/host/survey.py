"""What this machine lacks, and how to get it: the questions behind ``xnet doctor``.

Every check looks or tries and undoes; none changes the machine. Kernel features are tried in a namespace of their own,
because a module that is not loaded yet may be loaded by the trying, and a built-in one is in no list.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import HostError
from .libc import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, unshare
from .tap import DEVICE, Tap

Need = Literal["must", "nice"]

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
MIN_PYTHON = (3, 11)
SIMULTANEOUS_FILES = 1024
"""Descriptors that 50 guests need, with room: four namespaces, a TAP or two and some sockets each."""

TOOLS: dict[str, tuple[Need, str, str]] = {
    "ip": ("nice", "iproute2", "to look at a guest's links and addresses"),
    "ping": ("must", "iputils-ping", "xnet demo"),
    "iperf3": ("must", "iperf3", "xnet demo"),
    "nsenter": ("must", "util-linux", "commands in guests"),
    "tcpdump": ("nice", "tcpdump", "to watch frames"),
    "ethtool": ("nice", "ethtool", "to see a guest's offloads"),
    "xenstore-ls": ("nice", "xenstore-utils", "Xen's own tools on a lab's xenstore"),
    "gcc": ("nice", "gcc", "the C relay that xnet bench compares with"),
}
"""Tool to whether it must be there, its Debian package, and what it is for."""


@dataclass(slots=True, frozen=True)
class Check:
    """One answer: `detail` says what was found, `fix` how to get it (empty when `ok`)."""

    name: str
    ok: bool
    needed: Need
    detail: str
    fix: str = ""


def survey() -> list[Check]:
    """Every check, in the order in which a reader would fix them. Never raises for what the machine lacks."""
    checks = [_python(), _privilege(), _tun_device(), _namespaces()]
    if all(check.ok for check in checks):
        checks += _in_new_netns(_kernel_features)
    checks += [_descriptors(), *(_tool(name) for name in TOOLS)]
    return checks


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= MIN_PYTHON
    return Check("python", ok, "must", version, "" if ok else "install Python 3.11 or later")


def _privilege() -> Check:
    effective = 0
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    names = {"CAP_NET_ADMIN": CAP_NET_ADMIN, "CAP_SYS_ADMIN": CAP_SYS_ADMIN}
    lacking = [name for name, bit in names.items() if not effective >> bit & 1]
    if lacking:
        fix = "run with sudo; in a container, start it with --privileged"
        return Check("privilege", False, "must", f"user {os.geteuid()} without {' and '.join(lacking)}", fix)
    return Check("privilege", True, "must", f"user {os.geteuid()} with {' and '.join(names)}")


def _tun_device() -> Check:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENOENT:
            fix = f"modprobe tun; in a container, start it with --device {DEVICE}"
        elif error.errno in (errno.ENODEV, errno.ENXIO):
            fix = "modprobe tun, or a kernel with CONFIG_TUN"
        else:
            fix = "run with sudo"
        return Check(DEVICE, False, "must", error.strerror or "", fix)
    return Check(DEVICE, True, "must", "readable and writable")


def _namespaces() -> Check:
    kinds = {"net": CLONE_NEWNET, "pid": CLONE_NEWPID, "uts": CLONE_NEWUTS, "mnt": CLONE_NEWNS}
    lacking = [name for name in kinds if not os.path.exists(f"/proc/self/ns/{name}")]
    if lacking:
        return Check(
            "namespaces", False, "must", f"no {', '.join(lacking)}", "use a kernel with them (CONFIG_NAMESPACES)"
        )
    try:
        _in_thread(lambda: unshare(CLONE_NEWNET | CLONE_NEWUTS))
    except OSError as error:
        fix = "run with sudo; in a container, start it with --privileged"
        if error.errno == errno.ENOSPC:
            fix = "sysctl -w user.max_net_namespaces=1024 user.max_uts_namespaces=1024"
        return Check("namespaces", False, "must", error.strerror or "", fix)
    return Check("namespaces", True, "must", ", ".join(kinds))


def _kernel_features() -> list[Check]:
    """Inside a namespace that goes with the calling thread: what is made here needs no removal."""
    return [
        _tap_offload(),
        _link_kind("bridge", "must", "vifs in a Linux bridge"),
        _link_kind("veth", "nice", "the kernel's own path that xnet bench compares with"),
        _ipv6(),
    ]


def _tap_offload() -> Check:
    name = "TAP offload"
    try:
        tap = Tap("doctor0")
    except HostError as error:
        return Check(name, False, "must", str(error), "modprobe tun, or a kernel with CONFIG_TUN")
    try:
        tap.set_offload(csum=True, tso4=True, tso6=True)
    except HostError as error:
        return Check(name, False, "must", str(error), "use Linux 4.9 or later")
    finally:
        tap.close()
    return Check(name, True, "must", "checksum, TSO over IPv4 and IPv6")


def _link_kind(kind: str, needed: Need, purpose: str) -> Check:
    code = _try_new_link(kind)
    if code == 0:
        return Check(kind, True, needed, purpose)
    return Check(kind, False, needed, f"{os.strerror(code)} ({purpose})", f"modprobe {kind}")


def _ipv6() -> Check:
    ok = os.path.exists("/proc/sys/net/ipv6/conf")
    return Check(
        "ipv6", ok, "nice", "in the kernel" if ok else "not in this kernel", "" if ok else "boot without ipv6.disable=1"
    )


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft == resource.RLIM_INFINITY or soft >= SIMULTANEOUS_FILES
    fix = "" if ok else f"ulimit -n {SIMULTANEOUS_FILES} (the hard limit is {hard})"
    return Check("open files", ok, "nice", f"{soft} at a time; 50 guests want {SIMULTANEOUS_FILES}", fix)


def _tool(name: str) -> Check:
    needed, package, purpose = TOOLS[name]
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path:
        return Check(name, True, needed, path)
    return Check(name, False, needed, f"not found ({purpose})", f"apt-get install {package}")


def _try_new_link(kind: str) -> int:
    """RTM_NEWLINK of `kind` in the calling thread's namespace, by hand (rtnetlink(7)): 0, or the errno it got."""
    payload = kind.encode() + b"\0"
    info_kind = struct.pack("=HH", 4 + len(payload), 1) + payload  # IFLA_INFO_KIND
    info_kind += bytes(-len(info_kind) % 4)
    linkinfo = struct.pack("=HH", 4 + len(info_kind), 18) + info_kind  # IFLA_LINKINFO
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + linkinfo  # struct ifinfomsg
    flags = 0x1 | 0x4 | 0x200 | 0x400  # NLM_F_REQUEST | ACK | EXCL | CREATE
    message = struct.pack("=IHHII", 16 + len(body), 16, flags, 1, 0) + body  # RTM_NEWLINK
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
        sock.send(message)
        answer = sock.recv(4096)
    code: int = struct.unpack_from("=i", answer, 16)[0]  # struct nlmsgerr
    return -code


def _in_new_netns(func: Callable[[], list[Check]]) -> list[Check]:
    found: list[Check] = []

    def inside() -> None:
        unshare(CLONE_NEWNET)
        found.extend(func())

    _in_thread(inside)
    return found


def _in_thread(func: Callable[[], None]) -> None:
    """Namespaces are the thread's: one that ends takes its own along. An OSError comes back to the caller."""
    errors: list[OSError] = []

    def inside() -> None:
        try:
            func()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=inside, name="xnet-survey")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
