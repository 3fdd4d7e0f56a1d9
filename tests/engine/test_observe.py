"""What a machine shows of itself."""

from __future__ import annotations

import pytest

from xnet.engine.observe import letters
from xnet.testing import World

pytestmark = pytest.mark.integration


def test_a_guests_state_is_written_as_xl_does() -> None:
    with World() as world:
        domain, hypervisor = world.guest("a").domain, world.host.hypervisor
        assert letters(domain) == "-b----"
        hypervisor.pause(domain.domid)
        assert letters(domain) == "--p---"
        hypervisor.unpause(domain.domid)
        hypervisor.shutdown(domain.domid, "suspend")
        assert letters(domain) == "---ss-"
        hypervisor.resume(domain.domid)
        assert letters(domain) == "-b----"
        for reason, shown in (("poweroff", "---s--"), ("reboot", "---sr-"), ("crash", "---sc-")):
            hypervisor.shutdown(domain.domid, reason)
            assert letters(domain) == shown
        world.host.destroy_guest(domain.domid)
        assert letters(domain) == "-----d"
