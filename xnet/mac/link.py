"""What a vnic can be over: a lower link with an uplink, or an etherstub."""

from __future__ import annotations

from xnet.mac.vswitch import Switch

ETHERSTUB_MTU = 9000


class LowerLink:
    """A link with a wire: ``switch.connect(uplink)`` plugs it in. `mac`: the link's own, which no vnic may have."""

    def __init__(self, name: str, mtu: int = 1500, mac: bytes | None = None) -> None:
        self.name = name
        self.switch = Switch(name, mtu, reserved=mac)


class Etherstub:
    """A link with no wire: what its switch sends there vanishes, and counts as sent."""

    def __init__(self, name: str, mtu: int = ETHERSTUB_MTU) -> None:
        self.name = name
        self.switch = Switch(name, mtu)
