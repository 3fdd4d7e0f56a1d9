/* What is looked at in each frame's header on its way: see quick.py. Offsets are those of plain IPv4 (no tags, no
 * options, no fragments): type at 12, IP at 14, TCP or UDP at 34. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_word.h"

#define ETH_ALEN 6
#define ETH_HLEN 14
#define ETH_P_8021Q 0x8100
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define SHAPED 128   /* bytes that hold every header of plain IPv4 */
#define SHAPE 0xF080 /* TCP's data offset, and CWR */

static int plain_protocol(const uint8_t *frame)
{
    if (frame[12] != 0x08 || frame[13] || frame[14] != 0x45 || frame[20] & 0x3F || frame[21])
        return 0;
    return frame[23];
}

/* TCP's data offset and flags; -1 if it is not TCP in plain IPv4. `size` is what is there of the frame. */
static int plain_tcp4(const uint8_t *frame, Py_ssize_t size)
{
    if (size < SHAPED || plain_protocol(frame) != PROTOCOL_TCP)
        return -1;
    return frame[46] << 8 | frame[47];
}

static PyObject *header_shape(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer view;
    Py_ssize_t size, length;
    long long word;
    int shape = 0;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "header_shape(word, view, length)");
        return NULL;
    }
    word = PyLong_AsLongLong(args[0]);
    length = PyLong_AsSsize_t(args[2]);
    if ((word == -1 || length == -1) && PyErr_Occurred())
        return NULL;
    if (!(word & (GSO_TYPE_MASK | CSUM_BLANK)))
        return PyLong_FromLong(0);
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE))
        return NULL;
    size = view.len < length ? view.len : length;
    if (word & GSO_TYPE_MASK) {
        shape = (word & GSO_TYPE_MASK) == GSO_TCPV4 ? plain_tcp4(view.buf, size) : -1;
        if (shape >= 0)
            shape &= SHAPE;
    } else {
        int protocol = size < 42 ? 0 : plain_protocol(view.buf);

        shape = protocol == PROTOCOL_UDP || (protocol == PROTOCOL_TCP && size >= 54) ? protocol : -1;
    }
    PyBuffer_Release(&view);
    return PyLong_FromLong(shape);
}

/* One frame, (word, length, ((addr, size, ...), ...)): its first bytes if it is plainly right for a link of `largest`
 * bytes; NULL in doubt. */
static const uint8_t *plainly(PyObject *frame, const Py_buffer *memory, Py_ssize_t largest)
{
    PyObject *pieces, *piece;
    Py_ssize_t addr, size, length;
    const uint8_t *at;

    if (!PyTuple_Check(frame) || PyTuple_GET_SIZE(frame) != 3)
        return NULL;
    pieces = PyTuple_GET_ITEM(frame, 2);
    if (!PyTuple_Check(pieces) || !PyTuple_GET_SIZE(pieces))
        return NULL;
    piece = PyTuple_GET_ITEM(pieces, 0);
    if (!PyTuple_Check(piece) || PyTuple_GET_SIZE(piece) < 2)
        return NULL;
    length = PyLong_AsSsize_t(PyTuple_GET_ITEM(frame, 1));
    addr = PyLong_AsSsize_t(PyTuple_GET_ITEM(piece, 0));
    size = PyLong_AsSsize_t(PyTuple_GET_ITEM(piece, 1));
    if (length < 0 || addr < 0 || size < ETH_HLEN || addr > memory->len || size > memory->len - addr)
        return NULL;
    at = (const uint8_t *)memory->buf + addr;
    if ((at[12] << 8 | at[13]) == ETH_P_8021Q)
        return NULL;
    if (length > largest) {
        long long word = PyLong_AsLongLong(PyTuple_GET_ITEM(frame, 0)), segment;
        int offset = word > 0 && word & GSO_TYPE_MASK ? plain_tcp4(at, size) : -1;

        if (offset < 0)
            return NULL;
        segment = 34 + (offset >> 12) * 4 + (word >> GSO_SIZE_SHIFT);
        if (segment > largest)
            return NULL;
    }
    return at;
}

static PyObject *destination(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer memory;
    PyObject *frames, *found = NULL;
    Py_ssize_t largest;
    const uint8_t *first = NULL;

    if (nargs != 3 || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "destination(memory, list of frames, largest)");
        return NULL;
    }
    frames = args[1];
    largest = PyLong_AsSsize_t(args[2]);
    if (largest == -1 && PyErr_Occurred())
        return NULL;
    if (PyObject_GetBuffer(args[0], &memory, PyBUF_SIMPLE))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        const uint8_t *at = plainly(PyList_GET_ITEM(frames, i), &memory, largest);

        if (!at || (first && memcmp(at, first, ETH_ALEN))) {
            first = NULL;
            break;
        }
        if (!first)
            first = at;
    }
    if (!PyErr_Occurred()) /* a number that is none */
        found = PyBytes_FromStringAndSize((const char *)first, first ? ETH_ALEN : 0);
    PyBuffer_Release(&memory);
    return found;
}

static PyMethodDef functions[] = {
    {"destination", (PyCFunction)(void (*)(void))destination, METH_FASTCALL, "Where all frames plainly go, or b''."},
    {"header_shape", (PyCFunction)(void (*)(void))header_shape, METH_FASTCALL, "See ether.header_shape."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_quick",
    .m_doc = "A look at each frame's headers.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__quick(void)
{
    return PyModule_Create(&module);
}
