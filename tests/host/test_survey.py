"""What doctor asks: each lack is named with its fix, and asking changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xnet.host import Check, survey

SHOW = "from xnet.host import survey\nfor check in survey(): print(repr(check))"


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def run_survey(*prefix: str, path: str = "") -> dict[str, Check]:
    env = {**os.environ, **({"PATH": path} if path else {})}
    done = subprocess.run([*prefix, sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=30, env=env)
    assert done.returncode == 0, done.stderr
    return by_name([eval(line, {"Check": Check}) for line in done.stdout.splitlines()])


@pytest.mark.integration
def test_every_lack_has_a_fix_and_what_is_there_needs_none() -> None:
    checks = survey()
    assert {"python", "privilege", "/dev/net/tun", "namespaces", "ping", "iperf3", "gcc"} <= set(by_name(checks))
    for check in checks:
        assert bool(check.fix) is not check.ok
        assert check.detail


@pytest.mark.privileged
def test_this_machine_has_all_that_a_lab_must_have() -> None:
    assert [check for check in survey() if check.needed == "must" and not check.ok] == []
    assert {"TAP offload", "bridge", "veth", "ipv6"} <= set(by_name(survey()))


@pytest.mark.privileged
def test_without_root_the_lack_is_privilege() -> None:
    checks = run_survey("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    for name in ("privilege", "namespaces"):
        assert not checks[name].ok
        assert "sudo" in checks[name].fix
    assert "CAP_NET_ADMIN" in checks["privilege"].detail
    assert "bridge" not in checks


@pytest.mark.privileged
def test_without_the_tun_device_the_fix_is_modprobe() -> None:
    hidden = 'mount -t tmpfs none /dev/net && exec "$@"'
    checks = run_survey("unshare", "--mount", "sh", "-c", hidden, "sh")
    assert not checks["/dev/net/tun"].ok
    assert "modprobe tun" in checks["/dev/net/tun"].fix


@pytest.mark.privileged
def test_a_tool_that_is_not_there_is_named_with_its_package() -> None:
    hidden = 'mount -t tmpfs none /usr/sbin && exec "$@"'
    empty = run_survey("unshare", "--mount", "sh", "-c", hidden, "sh")
    assert empty["ethtool"] == Check(
        "ethtool", False, "nice", "not found (to see a guest's offloads)", "apt-get install ethtool"
    )
