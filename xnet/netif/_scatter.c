/* A burst of frames into rx slots, and the copies that take: see scatter.py. Little-endian, as the ring is. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../frame/_word.h"
#include "../hv/_copier.h"

#define NETRXF_data_validated 1
#define NETRXF_csum_blank 2
#define NETRXF_more_data 4
#define NETRXF_extra_info 8
#define XEN_NETIF_EXTRA_TYPE_GSO 1

typedef struct {
    uint16_t id, pad;
    uint32_t gref;
} rx_request;

typedef union {
    struct {
        uint16_t id, offset, flags;
        int16_t status;
    } response;
    struct {
        uint8_t type, flags;
        uint16_t size;
        uint8_t gso_type, pad;
        uint16_t features;
    } extra;
} rx_slot;

typedef struct {
    PyObject_HEAD
    int32_t domid;
} Scatter;

static new_op_t *new_op;

static PyObject *scatter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Scatter *self;
    int domid;

    if (!PyArg_ParseTuple(args, "i:Scatter", &domid))
        return NULL;
    self = (Scatter *)type->tp_alloc(type, 0);
    if (self)
        self->domid = domid;
    return (PyObject *)self;
}

/* A frame, (word, length, pieces). */
typedef struct {
    long long word;
    Py_ssize_t length;
    PyObject *pieces;
} Frame;

static int frame_of(PyObject *tuple, Frame *frame)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 3 || !PyTuple_Check(PyTuple_GET_ITEM(tuple, 2))) {
        PyErr_SetString(PyExc_TypeError, "not a Frame");
        return -1;
    }
    frame->word = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, 0));
    frame->length = PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, 1));
    frame->pieces = PyTuple_GET_ITEM(tuple, 2);
    if (PyErr_Occurred())
        return -1;
    if (frame->length < 0 || frame->length > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "no length of a Frame");
        return -1;
    }
    return 0;
}

static Py_ssize_t slots_of(const Frame *frame)
{
    return ((frame->length + PAGE_SIZE - 1) >> PAGE_SHIFT) + (frame->word & GSO_TYPE_MASK ? 1 : 0);
}

/* What the slots of a frame say. */
static void answer(const Frame *frame, const rx_request *requests, rx_slot *slots)
{
    Py_ssize_t left = frame->length;
    int gso = (frame->word & GSO_TYPE_MASK) >> GSO_TYPE_SHIFT;

    for (Py_ssize_t i = 0, count = slots_of(frame); i < count; i++) {
        rx_slot *slot = slots + i;

        memset(slot, 0, sizeof(*slot));
        if (i == 1 && gso) {
            slot->extra.type = XEN_NETIF_EXTRA_TYPE_GSO;
            slot->extra.size = frame->word >> GSO_SIZE_SHIFT;
            slot->extra.gso_type = gso;
            continue;
        }
        slot->response.id = requests[i].id;
        slot->response.status = left < PAGE_SIZE ? left : PAGE_SIZE;
        left -= slot->response.status;
        slot->response.flags = left ? NETRXF_more_data : 0;
        if (!i) {
            if (frame->word & CSUM_BLANK)
                slot->response.flags |= NETRXF_csum_blank | NETRXF_data_validated;
            else if (frame->word & DATA_VALIDATED)
                slot->response.flags |= NETRXF_data_validated;
            if (gso)
                slot->response.flags |= NETRXF_extra_info;
        }
    }
}

/* The copy at hand: one op, or neighbours on both sides as one. */
typedef struct {
    int64_t src, dst;
    int32_t owner, src_offset, dst_offset, length;
} Run;

static int emit(const Scatter *self, const Run *run, PyObject *ops)
{
    int32_t flags = GNTCOPY_dest_gref;
    PyObject *op;
    int result;

    if (!run->length)
        return 0;
    if (run->owner != DOMID_SELF)
        flags |= GNTCOPY_source_gref;
    if (run->length > PAGE_SIZE)
        flags |= COPY_RUN;
    op = new_op(run->src, run->owner, run->src_offset, run->dst, self->domid, run->dst_offset, run->length, flags);
    if (!op)
        return -1;
    result = PyList_Append(ops, op);
    Py_DECREF(op);
    return result;
}

/* The copies that lay a frame's pieces into its pages, each filled from offset 0 on. */
static int copies(const Scatter *self, const Frame *frame, const rx_request *requests, Py_ssize_t count, PyObject *ops)
{
    int gso = frame->word & GSO_TYPE_MASK ? 1 : 0;
    Py_ssize_t filled = 0;
    Run run = {0};

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(frame->pieces); i++) {
        PyObject *piece = PyTuple_GET_ITEM(frame->pieces, i);
        long long addr, start, left, owner, source;

        if (!PyTuple_Check(piece) || PyTuple_GET_SIZE(piece) != 4) {
            PyErr_SetString(PyExc_TypeError, "not a Piece");
            return -1;
        }
        start = addr = PyLong_AsLongLong(PyTuple_GET_ITEM(piece, 0));
        left = PyLong_AsLongLong(PyTuple_GET_ITEM(piece, 1));
        owner = PyLong_AsLongLong(PyTuple_GET_ITEM(piece, 2));
        source = PyLong_AsLongLong(PyTuple_GET_ITEM(piece, 3));
        if (PyErr_Occurred())
            return -1;
        while (left > 0) {
            Py_ssize_t page = filled >> PAGE_SHIFT, slot = page ? page + gso : 0;
            int32_t from = addr & (PAGE_SIZE - 1), to = filled & (PAGE_SIZE - 1), size;
            int64_t src = owner == DOMID_SELF ? addr >> PAGE_SHIFT : source + (addr >> PAGE_SHIFT) - (start >> PAGE_SHIFT);
            int64_t dst;

            if (slot >= count)
                return 0; /* pieces longer than their frame: nobody makes such */
            dst = requests[slot].gref;
            size = PAGE_SIZE - (from > to ? from : to);
            if (size > left)
                size = left;
            if (!from && !to && run.length && !(run.length & (PAGE_SIZE - 1)) && !run.src_offset && !run.dst_offset &&
                run.owner == owner && src == run.src + (run.length >> PAGE_SHIFT) &&
                dst == run.dst + (run.length >> PAGE_SHIFT)) {
                run.length += size;
            } else {
                if (emit(self, &run, ops))
                    return -1;
                run = (Run){src, dst, owner, from, to, size};
            }
            addr += size;
            left -= size;
            filled += size;
        }
    }
    return emit(self, &run, ops);
}

static PyObject *scatter_burst(Scatter *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *frames, *ops, *answers;
    const rx_request *requests;
    Py_ssize_t available, slots = 0, size = 0, done = 0, at;
    Frame frame;

    if (nargs != 3 || !PyList_Check(args[0]) || !PyBytes_Check(args[1]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "burst(list of frames, request slots, list for the copies)");
        return NULL;
    }
    frames = args[0];
    requests = (const rx_request *)PyBytes_AS_STRING(args[1]);
    available = PyBytes_GET_SIZE(args[1]) / sizeof(rx_request);
    ops = args[2];
    for (; done < PyList_GET_SIZE(frames); done++) {
        if (frame_of(PyList_GET_ITEM(frames, done), &frame))
            return NULL;
        if (slots + slots_of(&frame) > available)
            break;
        slots += slots_of(&frame);
        size += frame.length;
    }
    answers = PyBytes_FromStringAndSize(NULL, slots * sizeof(rx_slot));
    if (!answers)
        return NULL;
    at = slots;
    for (Py_ssize_t i = done; i-- > 0;) { /* from the last one on: it is still in the cache */
        Py_ssize_t count;

        if (frame_of(PyList_GET_ITEM(frames, i), &frame))
            goto failed;
        count = slots_of(&frame);
        at -= count;
        answer(&frame, requests + at, (rx_slot *)PyBytes_AS_STRING(answers) + at);
        if (copies(self, &frame, requests + at, count, ops))
            goto failed;
    }
    return Py_BuildValue("Nnnn", answers, slots, done, size);
failed:
    Py_DECREF(answers);
    return NULL;
}

static PyMethodDef methods[] = {
    {"burst", (PyCFunction)(void (*)(void))scatter_burst, METH_FASTCALL, "See scatter.py."},
    {NULL},
};

static PyTypeObject Scatter_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.netif._scatter.Scatter",
    .tp_doc = "Places for the frames of one ring.",
    .tp_basicsize = sizeof(Scatter),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = scatter_new,
    .tp_methods = methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_scatter",
    .m_doc = "From whole frames to rx slots.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__scatter(void)
{
    PyObject *found;

    new_op = (new_op_t *)PyCapsule_Import(NEW_OP, 0);
    if (!new_op)
        return NULL;
    found = PyModule_Create(&module);
    if (found && PyModule_AddType(found, &Scatter_Type))
        Py_CLEAR(found);
    return found;
}
