/* The frames of a burst, in one piece of memory: see frames.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_frames.h"
#include "_shape.h"

#define DOMID_SELF 0x7FF0
#define ETH_ALEN 6
#define ETH_HLEN 14
#define ETH_P_8021Q 0x8100

static PyTypeObject Frames_Type;
static PyObject *self_domid; /* DOMID_SELF, which most pieces have */

/* Room for one more: the elements, moved if they must be; NULL with an exception. */
static void *grown(void *now, const void *few, Py_ssize_t count, Py_ssize_t *room, size_t size)
{
    void *more;

    if (count < *room)
        return now;
    more = PyMem_Realloc(now == few ? NULL : now, 2 * *room * size);
    if (!more) {
        PyErr_NoMemory();
        return NULL;
    }
    if (now == few)
        memcpy(more, few, count * size);
    *room *= 2;
    return more;
}

static int add(Frames *self, uint32_t word, uint32_t length)
{
    Frame *frames = grown(self->frame, self->few_frames, self->count, &self->room, sizeof(Frame));

    if (!frames)
        return -1;
    self->frame = frames;
    frames[self->count++] = (Frame){word, length, self->pieces, 0};
    return 0;
}

static int add_piece(Frames *self, int64_t addr, int64_t size, uint16_t domid, uint32_t gref)
{
    Piece *pieces = grown(self->piece, self->few_pieces, self->pieces, &self->piece_room, sizeof(Piece));

    if (!pieces)
        return -1;
    self->piece = pieces;
    pieces[self->pieces++] = (Piece){addr, size, gref, domid};
    self->frame[self->count - 1].count++;
    return 0;
}

static const frames_api api = {&Frames_Type, add, add_piece};

/* A number of a tuple within a limit; -1 with an exception. */
static int64_t number(PyObject *tuple, Py_ssize_t at, int64_t most)
{
    int64_t found = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, at));

    if (found >= 0 && found <= most)
        return found;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "a Frame or Piece with %lld at %zd", (long long)found, at);
    return -1;
}

static int is_tuple(PyObject *object, Py_ssize_t size, const char *what)
{
    if (PyTuple_Check(object) && (size < 0 || PyTuple_GET_SIZE(object) == size))
        return 1;
    PyErr_Format(PyExc_TypeError, "not a %s: %R", what, object);
    return 0;
}

/* A frame as a tuple, at the end; nothing is added with an exception. */
static int add_tuple(Frames *self, PyObject *frame)
{
    int64_t word, length;
    Py_ssize_t before = self->pieces;
    PyObject *pieces;

    if (!is_tuple(frame, 3, "Frame") || !is_tuple(PyTuple_GET_ITEM(frame, 2), -1, "Frame"))
        return -1;
    word = number(frame, 0, UINT32_MAX);
    length = number(frame, 1, INT32_MAX);
    if (word < 0 || length < 0 || add(self, word, length))
        return -1;
    pieces = PyTuple_GET_ITEM(frame, 2);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pieces); i++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, i);
        int64_t addr, size, domid, gref;

        if (!is_tuple(piece, 4, "Piece") || (addr = number(piece, 0, INT64_MAX)) < 0 ||
            (size = number(piece, 1, INT32_MAX)) < 0 || (domid = number(piece, 2, UINT16_MAX)) < 0 ||
            (gref = number(piece, 3, UINT32_MAX)) < 0 || add_piece(self, addr, size, domid, gref)) {
            self->count--;
            self->pieces = before;
            return -1;
        }
    }
    return 0;
}

static PyObject *frames_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *of = NULL, *iterator, *item;
    Frames *self;

    if (!PyArg_ParseTuple(args, "|O:Frames", &of))
        return NULL;
    self = (Frames *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->frame = self->few_frames;
    self->piece = self->few_pieces;
    self->room = FEW_FRAMES;
    self->piece_room = FEW_PIECES;
    if (!of)
        return (PyObject *)self;
    iterator = PyObject_GetIter(of);
    while (iterator && (item = PyIter_Next(iterator))) {
        int bad = add_tuple(self, item);

        Py_DECREF(item);
        if (bad)
            break;
    }
    Py_XDECREF(iterator);
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void frames_dealloc(Frames *self)
{
    if (self->frame != self->few_frames)
        PyMem_Free(self->frame);
    if (self->piece != self->few_pieces)
        PyMem_Free(self->piece);
    Py_TYPE(self)->tp_free(self);
}

static Py_ssize_t frames_length(Frames *self)
{
    return self->count;
}

static PyObject *frames_item(Frames *self, Py_ssize_t at)
{
    PyObject *pieces;
    const Frame *frame;

    if (at < 0 || at >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such frame");
        return NULL;
    }
    frame = self->frame + at;
    pieces = PyTuple_New(frame->count);
    for (int i = 0; pieces && i < frame->count; i++) {
        const Piece *piece = self->piece + frame->first + i;
        PyObject *domid = piece->domid == DOMID_SELF ? Py_NewRef(self_domid) : PyLong_FromLong(piece->domid);
        PyObject *tuple = pack(4, (PyObject *[]){PyLong_FromLongLong(piece->addr), PyLong_FromLongLong(piece->size),
                                                 domid, PyLong_FromUnsignedLong(piece->gref)});

        if (!tuple)
            Py_CLEAR(pieces);
        else
            PyTuple_SET_ITEM(pieces, i, tuple);
    }
    return pack(3, (PyObject *[]){PyLong_FromUnsignedLong(frame->word), PyLong_FromUnsignedLong(frame->length),
                                  pieces});
}

static PyObject *frames_append(Frames *self, PyObject *frame)
{
    if (add_tuple(self, frame))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *frames_clear(Frames *self, PyObject *unused)
{
    self->count = self->pieces = 0;
    Py_RETURN_NONE;
}

static PyObject *frames_append_run(Frames *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t before = self->count;
    long long word, addr, length;
    PyObject *lengths;

    if (nargs != 3 || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "append_run(word, addr, list of lengths)");
        return NULL;
    }
    word = PyLong_AsLongLong(args[0]);
    addr = PyLong_AsLongLong(args[1]);
    lengths = args[2];
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lengths); i++) {
        length = PyLong_AsLongLong(PyList_GET_ITEM(lengths, i));
        if (word < 0 || word > UINT32_MAX || addr < 0 || length < 0 || length > INT32_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "append_run: no frame");
        } else if (!add(self, word, length)) {
            add_piece(self, addr, length, DOMID_SELF, 0);
        }
        if (PyErr_Occurred()) {
            self->pieces = before < self->count ? self->frame[before].first : self->pieces;
            self->count = before;
            return NULL;
        }
        addr += (length + 4095) & -4096;
    }
    return PyLong_FromLongLong(addr);
}

static PyObject *frames_size(Frames *self, PyObject *unused)
{
    long long size = 0;

    for (Py_ssize_t i = 0; i < self->count; i++)
        size += self->frame[i].length;
    return PyLong_FromLongLong(size);
}

static PyObject *frames_within(Frames *self, PyObject *const *args, Py_ssize_t nargs)
{
    long kinds, largest;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "within(kinds, largest)");
        return NULL;
    }
    kinds = PyLong_AsLong(args[0]);
    largest = PyLong_AsLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const Frame *frame = self->frame + i;
        uint32_t type = (frame->word & GSO_TYPE_MASK) >> GSO_TYPE_SHIFT;

        if (frame->length > largest || type > 2 || !(kinds >> (2 * type + (frame->word & CSUM_BLANK)) & 1))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

/* The first bytes of a frame that is plainly right for a link of `largest` bytes; NULL in doubt. */
static const uint8_t *plainly(const Frames *self, const Frame *frame, const Py_buffer *memory, uint32_t largest)
{
    const Piece *piece = self->piece + frame->first;
    const uint8_t *at;

    if (!frame->count || piece->size < ETH_HLEN || piece->addr > memory->len || piece->size > memory->len - piece->addr)
        return NULL;
    at = (const uint8_t *)memory->buf + piece->addr;
    if ((at[12] << 8 | at[13]) == ETH_P_8021Q)
        return NULL;
    if (frame->length > largest) {
        int offset = frame->word & GSO_TYPE_MASK ? plain_tcp4(at, piece->size) : -1;

        if (offset < 0 || 34 + (offset >> 12) * 4 + (frame->word >> GSO_SIZE_SHIFT) > largest)
            return NULL;
    }
    return at;
}

static PyObject *frames_destination(Frames *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer memory;
    PyObject *found;
    unsigned long largest;
    const uint8_t *first = NULL;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "destination(memory, largest)");
        return NULL;
    }
    largest = PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &memory, PyBUF_SIMPLE))
        return NULL;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const uint8_t *at = plainly(self, self->frame + i, &memory, largest);

        if (!at || (first && memcmp(at, first, ETH_ALEN))) {
            first = NULL;
            break;
        }
        if (!first)
            first = at;
    }
    found = PyBytes_FromStringAndSize((const char *)first, first ? ETH_ALEN : 0);
    PyBuffer_Release(&memory);
    return found;
}

static PySequenceMethods frames_sequence = {
    .sq_length = (lenfunc)frames_length,
    .sq_item = (ssizeargfunc)frames_item,
};

static PyMethodDef frames_methods[] = {
    {"append", (PyCFunction)frames_append, METH_O, "One more frame."},
    {"append_run", (PyCFunction)(void (*)(void))frames_append_run, METH_FASTCALL, "See frames.py."},
    {"clear", (PyCFunction)frames_clear, METH_NOARGS, "None any more."},
    {"size", (PyCFunction)frames_size, METH_NOARGS, "Bytes of all of them."},
    {"within", (PyCFunction)(void (*)(void))frames_within, METH_FASTCALL, "See frames.py."},
    {"destination", (PyCFunction)(void (*)(void))frames_destination, METH_FASTCALL, "See frames.py."},
    {NULL},
};

static PyTypeObject Frames_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.frame._frames.Frames",
    .tp_doc = "The frames of a burst.",
    .tp_basicsize = sizeof(Frames),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = frames_new,
    .tp_dealloc = (destructor)frames_dealloc,
    .tp_as_sequence = &frames_sequence,
    .tp_methods = frames_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_frames",
    .m_doc = "The frames of a burst, in one piece of memory.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__frames(void)
{
    PyObject *found = PyModule_Create(&module), *capsule = PyCapsule_New((void *)&api, FRAMES_API, NULL);

    self_domid = PyLong_FromLong(DOMID_SELF);
    if (found && (!capsule || !self_domid || PyModule_AddType(found, &Frames_Type) ||
                  PyModule_AddObjectRef(found, "api", capsule)))
        Py_CLEAR(found);
    Py_XDECREF(capsule);
    return found;
}
