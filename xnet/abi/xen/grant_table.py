"""Grant table version 1. Source: public/grant_table.h.

grant_entry_v1, 8 bytes, 512 in a frame: flags u16 @0 (GTF_*), domid u16 @2 (who may), frame u32 @4 (which page).
References 0..7 are reserved (0 console, 1 xenstore).
"""

from struct import Struct

GRANT_ENTRY_V1 = Struct("<HHI")  # flags domid frame
assert GRANT_ENTRY_V1.size == 8
GRANT_ENTRIES_PER_FRAME = 512

GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

GTF_invalid = 0
GTF_permit_access = 1
GTF_accept_transfer = 2
GTF_transitive = 3
GTF_type_mask = 3
GTF_readonly = 4
GTF_reading = 8
GTF_writing = 16
GTF_transfer_committed = 4
GTF_transfer_completed = 8

GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13

GNTST_NAMES = {
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

GNTCOPY_source_gref = 1
GNTCOPY_dest_gref = 2
