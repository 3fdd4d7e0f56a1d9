"""Kernel settings of one network namespace: /proc/sys/net as seen from inside it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import HostError
from .netns import open_in_netns

ROOT = "/proc/sys/"


def sysctl_path(key: str) -> str:
    """``net.ipv4.ip_forward`` or ``net/ipv4/conf/eth0.5/rp_filter`` to its file; HostError outside ``net``.

    Only ``net`` is per namespace; everything else would change the machine. With a slash in the key, dots are letters
    (as in sysctl(8)).
    """
    path = key if "/" in key else key.replace(".", "/")
    parts = path.split("/")
    if parts[0] != "net" or ".." in parts or len(parts) < 3:
        raise HostError(f"sysctl {key}: only net.* settings belong to a guest", call="sysctl", device=key)
    return ROOT + path


def write_sysctls(netns_fd: int | None, settings: Mapping[str, str | int]) -> None:
    """Write all `settings` inside the namespace, in order. Raises HostError naming the key the kernel refused."""
    paths = [(key, sysctl_path(key), str(value)) for key, value in settings.items()]

    def write() -> None:
        for key, path, value in paths:
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                reason = "no such setting in this kernel" if isinstance(error, FileNotFoundError) else error.strerror
                raise HostError(
                    f"sysctl {key} = {value}: {reason}", errno=error.errno or 0, call="sysctl", device=key
                ) from error

    open_in_netns(netns_fd, write)


def read_sysctl(netns_fd: int | None, key: str) -> str:
    """One setting as text, without its final newline. Raises HostError when the kernel has none of that name."""
    path = sysctl_path(key)

    def read() -> str:
        with open(path, encoding="ascii") as file:
            return file.read().rstrip("\n")

    try:
        return open_in_netns(netns_fd, read)
    except OSError as error:
        raise HostError(f"sysctl {key}: {error.strerror}", errno=error.errno or 0, call="sysctl", device=key) from error
