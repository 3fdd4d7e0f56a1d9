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

XSD_SOCKMSG = Struct("<IIII")  # type req_id tx_id len
assert XSD_SOCKMSG.size == 16

XS_CONTROL = 0
XS_DIRECTORY = 1
XS_READ = 2
XS_GET_PERMS = 3
XS_WATCH = 4
XS_UNWATCH = 5
XS_TRANSACTION_START = 6
XS_TRANSACTION_END = 7
XS_INTRODUCE = 8
XS_RELEASE = 9
XS_GET_DOMAIN_PATH = 10
XS_WRITE = 11
XS_MKDIR = 12
XS_RM = 13
XS_SET_PERMS = 14
XS_WATCH_EVENT = 15
XS_ERROR = 16
XS_IS_DOMAIN_INTRODUCED = 17
XS_RESUME = 18
XS_SET_TARGET = 19
XS_RESET_WATCHES = 21
XS_DIRECTORY_PART = 22
XS_INVALID = 0xFFFF

XSD_ERRORS = (
    *("EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO"),
    *("ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM"),
)
"""What an XS_ERROR's payload may say: errno names, not numbers (xsd_errors)."""

XENSTORE_PAYLOAD_MAX = 4096
XENSTORE_ABS_PATH_MAX = 3072
XENSTORE_REL_PATH_MAX = 2048

XENSTORE_RING_SIZE = 1024
REQ, RSP = 0, 1024
"""Byte offsets of the two buffers in the page."""
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
"""Byte offsets of the indices in the page."""
SERVER_FEATURES, CONNECTION, ERROR = 2064, 2068, 2072

XENSTORE_SERVER_FEATURE_RECONNECTION = 1
XENSTORE_SERVER_FEATURE_ERROR = 2
XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4
"""WATCH takes a depth. Newer than the header of Xen 4.17."""

XENSTORE_CONNECTED = 0
XENSTORE_RECONNECT = 1

XENSTORE_ERROR_NONE = 0
XENSTORE_ERROR_COMM = 1
XENSTORE_ERROR_RINGIDX = 2
XENSTORE_ERROR_PROTO = 3
