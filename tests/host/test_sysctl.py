"""Kernel settings of a guest: only its own can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from xnet.errors import HostError
from xnet.host import Nursery, Tap, read_sysctl, write_sysctls
from xnet.host.sysctl import sysctl_path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv6/conf/vif1.0/disable_ipv6", "/proc/sys/net/ipv6/conf/vif1.0/disable_ipv6"),
    ],
)
def test_a_key_is_a_path(key: str, path: str) -> None:
    assert sysctl_path(key) == path


@pytest.mark.parametrize("key", ["kernel.hostname", "net", "net.ipv4", "net/../kernel/hostname", "", "/net/ipv4/x"])
def test_a_key_that_is_not_the_guests_is_refused(key: str) -> None:
    with pytest.raises(HostError, match=r"only net\.\* settings"):
        sysctl_path(key)


@pytest.mark.privileged
async def test_a_setting_is_the_guests_alone(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    machine = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    for value in (1, 0, 1):
        write_sysctls(guest.net, {"net.ipv4.ip_forward": value})
        assert read_sysctl(guest.net, "net.ipv4.ip_forward") == str(value)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == machine


@pytest.mark.privileged
async def test_a_device_with_a_dot_has_settings(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    tap = Tap("vif1.0", guest.net)
    write_sysctls(guest.net, {"net/ipv6/conf/vif1.0/disable_ipv6": 1})
    assert read_sysctl(guest.net, "net/ipv6/conf/vif1.0/disable_ipv6") == "1"
    tap.close()


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("net.ipv4.no_such", "1", "net.ipv4.no_such = 1: no such setting in this kernel"),
        ("net.ipv4.ip_forward", "many", "net.ipv4.ip_forward = many: Invalid argument"),
    ],
)
async def test_what_the_kernel_refuses_is_named(nursery: Nursery, key: str, value: str, says: str) -> None:
    guest = await nursery.create("a")
    with pytest.raises(HostError, match=says):
        write_sysctls(guest.net, {key: value})
    with pytest.raises(HostError, match="No such file"):
        read_sysctl(guest.net, "net.ipv4.no_such")


@pytest.mark.privileged
async def test_a_new_guest_has_ipv6_that_does_not_wait(nursery: Nursery) -> None:
    guest = await nursery.create("a")
    assert read_sysctl(guest.net, "net.ipv6.conf.default.accept_dad") == "0"
    assert read_sysctl(guest.net, "net.ipv6.conf.default.accept_ra") == "0"
