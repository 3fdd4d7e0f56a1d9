"""xenstore's wire protocol and ring page. Source: public/io/xs_wire.h.

A message, either way, is a header and `len` bytes of payload:

======  ====  =======  ==========================================================================
offset  size  name     meaning
======  ====  =======  ==========================================================================
0       4     type     XS_*
4       4     req_id   chosen by the client, echoed in the reply
8       4     tx_id    transaction, 0: none
12      4     len      bytes of payload that follow, at most XENSTORE_PAYLOAD_MAX
======  ====  =======  ==========================================================================

A domain talks over one page (struct xenstore_domain_interface), its indices free-running, byte = index & 1023:

======  ====  ===============  ===============================================================
offset  size  name             meaning
======  ====  ===============  ===============================================================
0       1024  req[]            bytes to the store
1024    1024  rsp[]            bytes from the store: replies and watch events
2048    4     req_cons         written by the store
2052    4     req_prod         written by the domain
2056    4     rsp_cons         written by the domain
2060    4     rsp_prod         written by the store
2064    4     server_features  XENSTORE_SERVER_FEATURE_*
2068    4     connection       XENSTORE_CONNECTED, XENSTORE_RECONNECT
2072    4     error            XENSTORE_ERROR_*
======  ====  ===============  ===============================================================
"""

from __future__ import annotations

from struct import Struct
from typing import Final

XSD_SOCKMSG: Final = Struct("<IIII")  # type req_id tx_id len
assert XSD_SOCKMSG.size == 16

XS_CONTROL: Final = 0
XS_DIRECTORY: Final = 1
XS_READ: Final = 2
XS_GET_PERMS: Final = 3
XS_WATCH: Final = 4
XS_UNWATCH: Final = 5
XS_TRANSACTION_START: Final = 6
XS_TRANSACTION_END: Final = 7
XS_INTRODUCE: Final = 8
XS_RELEASE: Final = 9
XS_GET_DOMAIN_PATH: Final = 10
XS_WRITE: Final = 11
XS_MKDIR: Final = 12
XS_RM: Final = 13
XS_SET_PERMS: Final = 14
XS_WATCH_EVENT: Final = 15
XS_ERROR: Final = 16
XS_IS_DOMAIN_INTRODUCED: Final = 17
XS_RESUME: Final = 18
XS_SET_TARGET: Final = 19
XS_RESET_WATCHES: Final = 21
XS_DIRECTORY_PART: Final = 22
XS_INVALID: Final = 0xFFFF

XSD_ERRORS: Final = (
    *("EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO"),
    *("ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM"),
)
"""What an XS_ERROR's payload may say: errno names, not numbers (xsd_errors)."""

XENSTORE_PAYLOAD_MAX: Final = 4096
XENSTORE_ABS_PATH_MAX: Final = 3072
XENSTORE_REL_PATH_MAX: Final = 2048

XENSTORE_RING_SIZE: Final = 1024
REQ: Final = 0
RSP: Final = 1024
"""Byte offsets of the two buffers in the page."""
REQ_CONS: Final = 2048
REQ_PROD: Final = 2052
RSP_CONS: Final = 2056
RSP_PROD: Final = 2060
"""Byte offsets of the indices in the page."""
SERVER_FEATURES: Final = 2064
CONNECTION: Final = 2068
ERROR: Final = 2072

XENSTORE_SERVER_FEATURE_RECONNECTION: Final = 1
XENSTORE_SERVER_FEATURE_ERROR: Final = 2
XENSTORE_SERVER_FEATURE_WATCHDEPTH: Final = 4
"""WATCH takes a depth. Newer than the header of Xen 4.17."""

XENSTORE_CONNECTED: Final = 0
XENSTORE_RECONNECT: Final = 1

XENSTORE_ERROR_NONE: Final = 0
XENSTORE_ERROR_COMM: Final = 1
XENSTORE_ERROR_RINGIDX: Final = 2
XENSTORE_ERROR_PROTO: Final = 3
