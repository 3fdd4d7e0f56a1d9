"""Grant table version 1. Source: public/grant_table.h.

grant_entry_v1, 8 bytes, 512 in a frame: flags u16 @0 (GTF_*), domid u16 @2 (who may), frame u32 @4 (which page).
References 0..7 are reserved (0 console, 1 xenstore).
"""

from struct import Struct
from typing import Final

GRANT_ENTRY_V1: Final = Struct("<HHI")  # flags domid frame
assert GRANT_ENTRY_V1.size == 8
GRANT_ENTRIES_PER_FRAME: Final = 512

GNTTAB_NR_RESERVED_ENTRIES: Final = 8
GNTTAB_RESERVED_CONSOLE: Final = 0
GNTTAB_RESERVED_XENSTORE: Final = 1

GTF_invalid: Final = 0
GTF_permit_access: Final = 1
GTF_accept_transfer: Final = 2
GTF_transitive: Final = 3
GTF_type_mask: Final = 3
GTF_readonly: Final = 4
GTF_reading: Final = 8
GTF_writing: Final = 16
GTF_transfer_committed: Final = 4
GTF_transfer_completed: Final = 8

GNTST_okay: Final = 0
GNTST_general_error: Final = -1
GNTST_bad_domain: Final = -2
GNTST_bad_gntref: Final = -3
GNTST_bad_handle: Final = -4
GNTST_bad_virt_addr: Final = -5
GNTST_bad_dev_addr: Final = -6
GNTST_no_device_space: Final = -7
GNTST_permission_denied: Final = -8
GNTST_bad_page: Final = -9
GNTST_bad_copy_arg: Final = -10
GNTST_address_too_big: Final = -11
GNTST_eagain: Final = -12
GNTST_no_space: Final = -13

GNTST_NAMES: Final = {
    GNTST_okay: "GNTST_okay",
    GNTST_general_error: "GNTST_general_error",
    GNTST_bad_domain: "GNTST_bad_domain",
    GNTST_bad_gntref: "GNTST_bad_gntref",
    GNTST_bad_handle: "GNTST_bad_handle",
    GNTST_bad_virt_addr: "GNTST_bad_virt_addr",
    GNTST_bad_dev_addr: "GNTST_bad_dev_addr",
    GNTST_no_device_space: "GNTST_no_device_space",
    GNTST_permission_denied: "GNTST_permission_denied",
    GNTST_bad_page: "GNTST_bad_page",
    GNTST_bad_copy_arg: "GNTST_bad_copy_arg",
    GNTST_address_too_big: "GNTST_address_too_big",
    GNTST_eagain: "GNTST_eagain",
    GNTST_no_space: "GNTST_no_space",
}

GNTCOPY_source_gref: Final = 1
GNTCOPY_dest_gref: Final = 2
