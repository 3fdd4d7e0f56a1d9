"""The nursery: a small process that makes guests' namespaces and keeps one init in each. Run as a script, imports
nothing of xnet, so that it is small before it forks (``python -I -S nursery_process.py SOCKET ENGINE_PID``).

::

    engine (main thread) --socketpair--> nursery --fork--> init of guest a   (pid 1 of its pid namespace)
                                                 --fork--> init of guest b

Every arrow carries PDEATHSIG SIGKILL: whichever way the engine ends, the kernel kills the nursery, that kills the
inits, and an init's death kills all of its pid namespace. A parent that died before the signal was armed is seen by
its pidfd.

An init ignores SIGCHLD, so the kernel itself reaps every orphan of the guest. All that is left to do is to sleep, and
a Python that sleeps is 9 MB (1.7 of them its own): so it becomes a program of nine bytes of code, `SLEEP_FOR_EVER`.
Where there is none for the processor, or exec is refused, the Python stays and does the same.

Messages are marshal'ed tuples in a SOCK_SEQPACKET socket (both ends are the same interpreter, and a private pair):

=======================================================  =============================================================
to the nursery
``("create", number, hostname, files, sysctls)``         files: path to text, bind-mounted; sysctls: path to value
``("destroy", number)``                                  kill that init
to the engine
``("born", number)`` + 4 descriptors                     net mnt pid uts (SCM_RIGHTS), sent by the init itself
``("failed", number, errno, what)``                      nothing was made
``("dead", number, signal)``                             that init is gone and reaped, asked for or not
=======================================================  =============================================================
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import marshal
import os
import select
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x20, 0x1000
MS_REC, MS_SLAVE = 0x4000, 0x8_0000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41

SEALED = MS_NOSUID | MS_NODEV | MS_NOEXEC
SYSRQ = "/proc/sysrq-trigger"
INIT_SOCKETS = ("/run/systemd/private", "/run/dbus/system_bus_socket", "/run/initctl")
"""Where the machine's init takes orders."""
FDS_OF_INIT = 3
"""Descriptors an init keeps: the three standard ones, all of them /dev/null."""

SLEEP_FOR_EVER = {"x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7"))}
"""Machine to its ELF number and code: again: mov eax, 34 (pause); syscall; jmp again."""

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError with the errno of the libc call that returned `result`; `what` says what was tried."""
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """mount(2) without data."""
    result = LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    check(result, f"mount {kind or source} on {target}")


def bind_to_parent(parent: int, name: bytes) -> None:
    """Die with the parent behind the pidfd `parent`, and be found as `name` in a process list."""
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    LIBC.prctl(PR_SET_NAME, name, 0, 0, 0)
    if select.select([parent], [], [], 0)[0]:  # it died before the signal was armed
        os._exit(1)


def sleeper(machine: str) -> bytes:
    """The smallest ELF file of `SLEEP_FOR_EVER` for this machine: file header, one program header, code. Empty if
    none."""
    if machine not in SLEEP_FOR_EVER:
        return b""
    number, code = SLEEP_FOR_EVER[machine]
    base, headers = 0x40_0000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
    file = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, number, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)  # PT_LOAD, read and execute
    return file + segment + code


def private_files(files: dict[str, str]) -> None:
    """Bind a private, writable file over each path that exists. They live in a tmpfs nobody can name afterwards.

    The tmpfs is mounted where /sys will be, for a moment: a mount point that exists on every machine. A path the
    machine has not is left out, as one cannot be bound without making the file on the machine's own disk. The tmpfs
    stays the init's current directory, with the program it will become.
    """
    mount("tmpfs", "/sys", "tmpfs", MS_NOSUID | MS_NODEV)
    os.chdir("/sys")
    with open("xnet-init", "wb", opener=lambda path, flags: os.open(path, flags, 0o755)) as program:
        program.write(sleeper(os.uname().machine))
    for number, (path, text) in enumerate(files.items()):
        if not os.path.exists(path):
            continue
        with open(f"/sys/{number}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"/sys/{number}", 0o644)
        mount(f"/sys/{number}", path, "", MS_BIND)
    check(LIBC.umount2(b"/sys", MNT_DETACH), "umount /sys")


def spare_the_machine() -> None:
    """What people do to crash or reboot a guest must not reach the machine: no SysRq, and nobody at the init's doors.

    A guest is no jail all the same: its root is the machine's, and so are its files.
    """
    if os.path.exists(SYSRQ):  # a kernel may do without
        mount(SYSRQ, SYSRQ, "", MS_BIND)
        mount("", SYSRQ, "", MS_REMOUNT | MS_BIND | MS_RDONLY | SEALED)
    for path in INIT_SOCKETS:
        if os.path.exists(path):
            mount("/dev/null", path, "", MS_BIND)


def furnish(hostname: str, files: dict[str, str], sysctls: dict[str, str]) -> None:
    """Make the calling process's new namespaces a guest: mounts, name, settings, loopback.

    Mounts are slaves of the machine's: nothing made here shows there, and what is unmounted there goes here too, so
    that a guest never keeps somebody's disk busy.
    """
    mount("none", "/", "", MS_REC | MS_SLAVE)
    private_files(files)
    mount("sysfs", "/sys", "sysfs", SEALED)
    mount("proc", "/proc", "proc", SEALED)
    spare_the_machine()
    if hostname:
        name = hostname.encode()
        check(LIBC.sethostname(name, len(name)), "sethostname")
    for path, value in sysctls.items():
        if os.path.exists(path):
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP_RUNNING))


def live_as_init(engine: socket.socket, parent: int, number: int, request: tuple[Any, ...]) -> NoReturn:
    """The life of an init: furnish, report with descriptors of its namespaces, sleep. Never returns."""
    try:
        bind_to_parent(parent, b"xnet-init")
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(each, signal.SIG_IGN)
        os.umask(0o022)
        check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS), "unshare")
        furnish(*request)
        fds = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt", "pid", "uts")]
        socket.send_fds(engine, [marshal.dumps(("born", number))], fds)
    except OSError as error:
        engine.send(marshal.dumps(("failed", number, error.errno or 0, str(error.args[-1]))))
        os._exit(1)
    except BaseException as error:
        engine.send(marshal.dumps(("failed", number, 0, repr(error))))
        os._exit(1)
    os.closerange(FDS_OF_INIT, os.sysconf("SC_OPEN_MAX"))
    try:
        os.execv("./xnet-init", ["xnet-init", request[0]])
    except OSError:
        pass  # we are as good an init, only larger
    while True:
        signal.pause()


class Nursery:
    """The loop: requests of the engine, deaths of inits."""

    def __init__(self, engine: socket.socket) -> None:
        self.engine = engine
        self.own_pidfd = os.pidfd_open(os.getpid())
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.poll = select.poll()
        self.poll.register(engine, select.POLLIN)
        self.numbers: dict[int, int] = {}  # pidfd of an init -> the engine's number for it

    def run(self) -> None:
        """Serve until the engine's end of the socket is closed; then every init dies with us."""
        while True:
            for fd, _ in self.poll.poll():
                if fd != self.engine.fileno():
                    self.bury(fd)
                elif message := self.engine.recv(1 << 20):
                    self.serve(marshal.loads(message))
                else:
                    return

    def serve(self, request: tuple[Any, ...]) -> None:
        verb, number = request[:2]
        if verb == "create":
            try:
                self.create(number, request[2:])
            except OSError as error:
                self.engine.send(marshal.dumps(("failed", number, error.errno or 0, str(error.args[-1]))))
            return
        pidfd = next((pidfd for pidfd, each in self.numbers.items() if each == number), None)
        if pidfd is None:  # it died before it was asked to
            self.engine.send(marshal.dumps(("dead", number, 0)))
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def create(self, number: int, request: tuple[Any, ...]) -> None:
        """Fork an init as pid 1 of a new pid namespace, and go back to forking in our own."""
        check(LIBC.unshare(CLONE_NEWPID), "unshare")
        try:
            pid = os.fork()
            if pid == 0:
                live_as_init(self.engine, self.own_pidfd, number, request)
        finally:
            check(LIBC.setns(self.own_pid_namespace, CLONE_NEWPID), "setns")
        pidfd = os.pidfd_open(pid)
        self.numbers[pidfd] = number
        self.poll.register(pidfd, select.POLLIN)

    def bury(self, pidfd: int) -> None:
        number = self.numbers.pop(pidfd)
        self.poll.unregister(pidfd)
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        self.engine.send(marshal.dumps(("dead", number, result.si_status if result else 0)))


def main(socket_fd: int, engine_pid: int) -> None:
    """Bind our life to the engine's and serve it."""
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != engine_pid:  # it died before the signal was armed
        return
    LIBC.prctl(PR_SET_NAME, b"xnet-nursery", 0, 0, 0)
    os.chdir("/")
    gc.disable()
    gc.freeze()  # a collection would write to every page and unshare it
    Nursery(socket.socket(fileno=socket_fd)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
