"""What dladm and flowadm say when something cannot be: the status texts of illumos' libdladm (dladm_status2str)."""

from __future__ import annotations

from xnet.errors import XnetError

EINVAL = "invalid argument"
EEXIST = "object already exists"
EBUSY = "link busy"
ENOTSUP = "operation not supported"
EPERM = "permission denied"
ENOTEMPTY = "link still has flows"
MAC_INVALID = "invalid MAC address"
NO_FACTORY = "factory MAC address slots not supported"
NOT_PERSISTENT = "change cannot be persistent"


class DatalinkError(XnetError):
    """What was asked for cannot be; the message is what follows ``dladm: ``. `status`: the reason alone."""

    def __init__(self, what: str, status: str = "") -> None:
        super().__init__(f"{what}: {status}" if status and what else what or status)
        self.status = status or what


class Status(XnetError):
    """A reason, for whoever knows what was tried to put in front."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status
