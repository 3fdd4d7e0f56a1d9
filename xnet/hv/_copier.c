/* GNTTABOP_copy where nothing is in doubt, on the machine's own bytes.
 *
 * Most copies of a lab are plainly right: the grants are there, nobody has them pinned, the frames belong to whom they
 * should. A batch of such is checked and copied here, without a Python object for each number. In doubt about any of
 * them nothing is done at all, and hv/grantops.py, which knows every rule and their order, does the batch.
 *
 * Grant entries are read from the shared frames themselves, at each use. Nothing of a batch can change what is checked
 * for a later op of it: the frames of grant tables are the hypervisor's, and no domain can name them. Little-endian.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdint.h>
#include <string.h>

#include "_copier.h"

#define GTF_permit_access 1
#define GTF_readonly 4
#define MAX_RUN 256
#define FRAME_ENTRIES 512 /* of 8 bytes: flags and domid as u32, frame as u32 */

/* --- CopyOp: see copier.py */

typedef struct {
    PyObject_HEAD
    int64_t src, src_domid, src_offset, dst, dst_domid, dst_offset, length, flags;
} CopyOp;

static PyTypeObject CopyOp_Type;

static int to_int64(PyObject *number, int64_t *to)
{
    *to = PyLong_AsLongLong(number);
    return *to == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *op_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names)
{
    CopyOp *op;

    if (PyVectorcall_NARGS(nargsf) != 8 || (names && PyTuple_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "CopyOp takes 8 positional arguments");
        return NULL;
    }
    op = PyObject_New(CopyOp, &CopyOp_Type);
    if (!op)
        return NULL;
    if (to_int64(args[0], &op->src) || to_int64(args[1], &op->src_domid) || to_int64(args[2], &op->src_offset) ||
        to_int64(args[3], &op->dst) || to_int64(args[4], &op->dst_domid) || to_int64(args[5], &op->dst_offset) ||
        to_int64(args[6], &op->length) || to_int64(args[7], &op->flags)) {
        Py_DECREF(op);
        return NULL;
    }
    return (PyObject *)op;
}

/* For other modules: see _copier.h. */
static PyObject *new_op(int64_t src, int32_t src_domid, int32_t src_offset, int64_t dst, int32_t dst_domid,
                        int32_t dst_offset, int32_t length, int32_t flags)
{
    CopyOp *op = PyObject_New(CopyOp, &CopyOp_Type);

    if (op) {
        op->src = src;
        op->src_domid = src_domid;
        op->src_offset = src_offset;
        op->dst = dst;
        op->dst_domid = dst_domid;
        op->dst_offset = dst_offset;
        op->length = length;
        op->flags = flags;
    }
    return (PyObject *)op;
}

static PyMemberDef op_members[] = {
    {"src", T_LONGLONG, offsetof(CopyOp, src), READONLY},
    {"src_domid", T_LONGLONG, offsetof(CopyOp, src_domid), READONLY},
    {"src_offset", T_LONGLONG, offsetof(CopyOp, src_offset), READONLY},
    {"dst", T_LONGLONG, offsetof(CopyOp, dst), READONLY},
    {"dst_domid", T_LONGLONG, offsetof(CopyOp, dst_domid), READONLY},
    {"dst_offset", T_LONGLONG, offsetof(CopyOp, dst_offset), READONLY},
    {"length", T_LONGLONG, offsetof(CopyOp, length), READONLY},
    {"flags", T_LONGLONG, offsetof(CopyOp, flags), READONLY},
    {NULL},
};

static PyTypeObject CopyOp_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.hv._copier.CopyOp",
    .tp_doc = "One GNTTABOP_copy.",
    .tp_basicsize = sizeof(CopyOp),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = op_members,
    .tp_vectorcall = op_vectorcall,
};

/* --- Table: a domain as copies see it */

typedef struct {
    PyObject_HEAD
    int32_t domid;
    unsigned long long copies, bytes_copied;
    Py_buffer pages;   /* the physmap: u32 machine frames, by pfn */
    uint32_t *frames;  /* of the grant table */
    int64_t nframes;
    uint8_t *pinned;   /* by reference: whether it is in use */
} Table;

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Table *self;
    PyObject *pages;
    int domid;

    if (!PyArg_ParseTuple(args, "iO:Table", &domid, &pages))
        return NULL;
    self = (Table *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->domid = domid;
    if (PyObject_GetBuffer(pages, &self->pages, PyBUF_SIMPLE)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void table_dealloc(Table *self)
{
    if (self->pages.obj)
        PyBuffer_Release(&self->pages);
    PyMem_Free(self->frames);
    PyMem_Free(self->pinned);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *table_grow(Table *self, PyObject *mfn)
{
    unsigned long frame = PyLong_AsUnsignedLong(mfn);
    uint32_t *frames;
    uint8_t *pinned;

    if (frame == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    frames = PyMem_Resize(self->frames, uint32_t, self->nframes + 1);
    if (!frames)
        return PyErr_NoMemory();
    self->frames = frames;
    pinned = PyMem_Resize(self->pinned, uint8_t, (self->nframes + 1) * FRAME_ENTRIES);
    if (!pinned)
        return PyErr_NoMemory();
    self->pinned = pinned;
    memset(pinned + self->nframes * FRAME_ENTRIES, 0, FRAME_ENTRIES);
    frames[self->nframes++] = frame;
    Py_RETURN_NONE;
}

static PyObject *set_pinned(Table *self, PyObject *number, uint8_t value)
{
    long long ref = PyLong_AsLongLong(number);

    if (ref == -1 && PyErr_Occurred())
        return NULL;
    if (ref < 0 || ref >= self->nframes * FRAME_ENTRIES) {
        PyErr_SetString(PyExc_IndexError, "no such grant");
        return NULL;
    }
    self->pinned[ref] = value;
    Py_RETURN_NONE;
}

static PyObject *table_pin(Table *self, PyObject *ref)
{
    return set_pinned(self, ref, 1);
}

static PyObject *table_unpin(Table *self, PyObject *ref)
{
    return set_pinned(self, ref, 0);
}

static PyObject *table_close(Table *self, PyObject *unused)
{
    self->nframes = 0;
    Py_RETURN_NONE;
}

static PyMemberDef table_members[] = {
    {"copies", T_ULONGLONG, offsetof(Table, copies)},
    {"bytes_copied", T_ULONGLONG, offsetof(Table, bytes_copied)},
    {NULL},
};

static PyMethodDef table_methods[] = {
    {"grow", (PyCFunction)table_grow, METH_O, "One more frame of entries."},
    {"pin", (PyCFunction)table_pin, METH_O, "The grant is in use."},
    {"unpin", (PyCFunction)table_unpin, METH_O, "It is not any more."},
    {"close", (PyCFunction)table_close, METH_NOARGS, "No entries any more."},
    {NULL},
};

static PyTypeObject Table_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.hv._copier.Table",
    .tp_doc = "A domain's grants and pages as copies see them.",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = table_new,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_members = table_members,
    .tp_methods = table_methods,
};

/* --- Copier */

typedef struct {
    uint8_t *dst;
    const uint8_t *src;
    size_t length;
} Piece;

typedef struct {
    PyObject_HEAD
    Py_buffer memory; /* every frame of the machine */
    Py_buffer owner;  /* u16 domid by frame */
    PyObject *tables; /* dict of Table by domid: the living */
    Piece *pieces;    /* of the batch at hand */
    Py_ssize_t room;
    const Table *peer; /* of the batch at hand: who was looked up last, and under which domid */
    int64_t peer_domid;
} Copier;

static PyObject *copier_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Copier *self;
    PyObject *memory, *owner, *tables;

    if (!PyArg_ParseTuple(args, "OOO!:Copier", &memory, &owner, &PyDict_Type, &tables))
        return NULL;
    self = (Copier *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->tables = Py_NewRef(tables);
    if (PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) ||
        PyObject_GetBuffer(owner, &self->owner, PyBUF_SIMPLE)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void copier_dealloc(Copier *self)
{
    if (self->memory.obj)
        PyBuffer_Release(&self->memory);
    if (self->owner.obj)
        PyBuffer_Release(&self->owner);
    Py_XDECREF(self->tables);
    PyMem_Free(self->pieces);
    Py_TYPE(self)->tp_free(self);
}

/* One side of an op. */
typedef struct {
    const Table *table; /* whose pages or grants they are; NULL in doubt */
    int64_t first;      /* reference or page */
    uint32_t want;      /* the entry's flags and domid, */
    uint32_t ignore;    /* but for these bits */
    int gref;
} Side;

static Side side_of(Copier *self, const Table *caller, int64_t first, int64_t domid, int gref, int write)
{
    Side side = {NULL, first, GTF_permit_access | (uint32_t)caller->domid << 16, write ? 0 : GTF_readonly, gref};

    if (!gref) {
        if (domid == DOMID_SELF)
            side.table = caller;
    } else if (domid == caller->domid) {
        side.table = caller;
    } else {
        if (!self->peer || self->peer_domid != domid) {
            PyObject *key = PyLong_FromLongLong(domid); /* small ones are not made anew */

            self->peer = key ? (const Table *)PyDict_GetItem(self->tables, key) : NULL;
            self->peer_domid = domid;
            Py_XDECREF(key);
        }
        side.table = self->peer;
    }
    return side;
}

/* The frame an entry names, if it lets the caller in; past all of them if not. */
static inline uint32_t granted(uint64_t entry, const Side *side)
{
    return ((uint32_t)entry & ~side->ignore) == side->want ? entry >> 32 : UINT32_MAX;
}

/* The machine frames under its pages: whether nothing about them is in doubt. */
static int frames_of(const Copier *self, const Side *side, int pages, uint32_t *mfns)
{
    const Table *table = side->table;
    const uint16_t *owner = self->owner.buf;
    uint64_t nframes = (uint64_t)self->owner.len >> 1;
    int64_t at = side->first, known = side->gref ? table->nframes * FRAME_ENTRIES : table->pages.len >> 2;

    if (at < 0 || at > known - pages)
        return 0;
    if (!side->gref) {
        memcpy(mfns, (const uint32_t *)table->pages.buf + at, pages * sizeof(*mfns));
    } else if (memchr(table->pinned + at, 1, pages)) {
        return 0;
    } else {
        for (int i = 0; i < pages;) {
            const uint64_t *entries = (const uint64_t *)((const uint8_t *)self->memory.buf +
                                                         ((uint64_t)table->frames[at / FRAME_ENTRIES] << PAGE_SHIFT));
            int64_t first = at % FRAME_ENTRIES, last = first + (pages - i);

            if (last > FRAME_ENTRIES)
                last = FRAME_ENTRIES;
            for (at += last - first; first < last; first++)
                mfns[i++] = granted(entries[first], side);
        }
    }
    for (int i = 0; i < pages; i++)
        if (mfns[i] >= nframes || owner[mfns[i]] != table->domid)
            return 0;
    return 1;
}

static inline uint8_t *frame_at(const Copier *self, uint32_t mfn)
{
    return (uint8_t *)self->memory.buf + ((uint64_t)mfn << PAGE_SHIFT);
}

/* One more piece, or a longer last one: unless it would read what that one wrote. */
static int add_piece(Copier *self, Py_ssize_t *count, uint8_t *dst, const uint8_t *src, size_t length)
{
    Piece *last = *count ? self->pieces + *count - 1 : NULL;

    if (last && dst == last->dst + last->length && src == last->src + last->length &&
        !(last->dst > last->src && last->dst < src + length)) {
        last->length += length;
        return 0;
    }
    if (*count == self->room) {
        Py_ssize_t room = self->room ? 2 * self->room : 64;
        Piece *pieces = PyMem_Resize(self->pieces, Piece, room);

        if (!pieces) {
            PyErr_NoMemory();
            return -1;
        }
        self->pieces = pieces;
        self->room = room;
    }
    self->pieces[(*count)++] = (Piece){dst, src, length};
    return 0;
}

/* The pieces of one op: how many ops it stands for, 0 in doubt, -1 for an exception. */
static int resolve(Copier *self, const Table *caller, const CopyOp *op, Py_ssize_t *count)
{
    int64_t length = op->length, src_offset = op->src_offset, dst_offset = op->dst_offset;
    Side src = side_of(self, caller, op->src, op->src_domid, op->flags & GNTCOPY_source_gref, 0);
    Side dst = side_of(self, caller, op->dst, op->dst_domid, op->flags & GNTCOPY_dest_gref, 1);
    uint32_t from[MAX_RUN], to[MAX_RUN];
    int pages = 1;

    if (!src.table || !dst.table || length <= 0 || (uint64_t)op->src > UINT32_MAX || (uint64_t)op->dst > UINT32_MAX)
        return 0;
    if (op->flags & COPY_RUN && length > PAGE_SIZE) {
        if (length > MAX_RUN * PAGE_SIZE)
            return 0;
        pages = (length + PAGE_SIZE - 1) >> PAGE_SHIFT;
        src_offset = dst_offset = 0;
    } else if (length > PAGE_SIZE || src_offset < 0 || src_offset > PAGE_SIZE - length || dst_offset < 0 ||
               dst_offset > PAGE_SIZE - length) {
        return 0;
    }
    if (!frames_of(self, &src, pages, from) || !frames_of(self, &dst, pages, to))
        return 0;
    for (int first = 0, i; first < pages; first = i) {
        int64_t size = PAGE_SIZE;

        /* neighbours on both sides are one, unless a page would be read that was written just before */
        for (i = first + 1; i < pages && from[i] == from[i - 1] + 1 && to[i] == to[i - 1] + 1; i++)
            size += PAGE_SIZE;
        if (to[first] > from[first] && to[first] < from[first] + (i - first)) {
            i = first + 1;
            size = PAGE_SIZE;
        }
        if (size > length)
            size = length;
        if (add_piece(self, count, frame_at(self, to[first]) + dst_offset, frame_at(self, from[first]) + src_offset,
                      size))
            return -1;
        length -= size;
    }
    return pages;
}

static PyObject *copier_copy(Copier *self, PyObject *const *args, Py_ssize_t nargs)
{
    Table *caller;
    PyObject *ops;
    Py_ssize_t count = 0;
    unsigned long long copies = 0, bytes = 0;

    if (nargs != 2 || !Py_IS_TYPE(args[0], &Table_Type) || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "copy(Table, list of CopyOp)");
        return NULL;
    }
    caller = (Table *)args[0];
    ops = args[1];
    self->peer = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(ops); i++) {
        PyObject *op = PyList_GET_ITEM(ops, i);
        int pages;

        if (!Py_IS_TYPE(op, &CopyOp_Type)) {
            PyErr_SetString(PyExc_TypeError, "not a CopyOp");
            return NULL;
        }
        pages = resolve(self, caller, (CopyOp *)op, &count);
        if (pages < 0)
            return NULL;
        if (!pages)
            Py_RETURN_FALSE;
        copies += pages;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        memmove(self->pieces[i].dst, self->pieces[i].src, self->pieces[i].length);
        bytes += self->pieces[i].length;
    }
    caller->copies += copies;
    caller->bytes_copied += bytes;
    Py_RETURN_TRUE;
}

static PyMethodDef copier_methods[] = {
    {"copy", (PyCFunction)(void (*)(void))copier_copy, METH_FASTCALL, "Do a batch, unless it is in doubt: whether."},
    {NULL},
};

static PyTypeObject Copier_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.hv._copier.Copier",
    .tp_doc = "Copies between the frames of one machine.",
    .tp_basicsize = sizeof(Copier),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = copier_new,
    .tp_dealloc = (destructor)copier_dealloc,
    .tp_methods = copier_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_copier",
    .m_doc = "GNTTABOP_copy where nothing is in doubt.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__copier(void)
{
    PyObject *found = PyModule_Create(&module), *capsule = PyCapsule_New((void *)new_op, NEW_OP, NULL);

    if (found && (!capsule || PyModule_AddType(found, &CopyOp_Type) || PyModule_AddType(found, &Table_Type) ||
                  PyModule_AddType(found, &Copier_Type) || PyModule_AddObjectRef(found, "new_op", capsule)))
        Py_CLEAR(found);
    Py_XDECREF(capsule);
    return found;
}
