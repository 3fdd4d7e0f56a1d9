/* Grant copies for the C of the floors above. */
#ifndef XNET_COPIER_H
#define XNET_COPIER_H

#include <Python.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096
#define DOMID_SELF 0x7FF0
#define GNTCOPY_source_gref 1
#define GNTCOPY_dest_gref 2
#define COPY_RUN 0x8000 /* see hv/api.py */

#define NEW_OP "xnet.hv._copier.new_op" /* a capsule */

/* A CopyOp without a Python number in between; NULL with an exception. */
typedef PyObject *new_op_t(int64_t src, int32_t src_domid, int32_t src_offset, int64_t dst, int32_t dst_domid,
                           int32_t dst_offset, int32_t length, int32_t flags);

#endif
