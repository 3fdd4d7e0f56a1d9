/* View: what a memoryview does for shared memory, at a third of its price. See view.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    Py_buffer memory; /* .obj is NULL once it is released */
    Py_ssize_t count; /* items */
} View;

static PyObject *view_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *of;
    View *self;

    if (!PyArg_ParseTuple(args, "O:View", &of))
        return NULL;
    self = (View *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    if (PyObject_GetBuffer(of, &self->memory, PyBUF_WRITABLE | PyBUF_ND)) {
        Py_DECREF(self);
        return NULL;
    }
    if (self->memory.itemsize != 1 && self->memory.itemsize != 4 && self->memory.itemsize != 8) {
        PyErr_SetString(PyExc_TypeError, "View: items of 1, 4 or 8 bytes");
        Py_DECREF(self);
        return NULL;
    }
    self->count = self->memory.len / self->memory.itemsize;
    return (PyObject *)self;
}

static PyObject *view_release(View *self, PyObject *unused)
{
    if (self->memory.obj)
        PyBuffer_Release(&self->memory);
    self->count = 0;
    Py_RETURN_NONE;
}

static void view_dealloc(View *self)
{
    if (self->memory.obj)
        PyBuffer_Release(&self->memory);
    Py_TYPE(self)->tp_free(self);
}

static Py_ssize_t view_length(View *self)
{
    return self->count;
}

/* Where an item is; NULL with IndexError, or with ValueError after release. */
static inline void *item_at(View *self, PyObject *key)
{
    Py_ssize_t at = PyLong_AsSsize_t(key);

    if (at < 0) {
        if (at == -1 && PyErr_Occurred())
            return NULL;
        at += self->count;
    }
    if (at < 0 || at >= self->count) {
        if (self->memory.obj)
            PyErr_SetString(PyExc_IndexError, "View: index out of range");
        else
            PyErr_SetString(PyExc_ValueError, "View: released");
        return NULL;
    }
    return (char *)self->memory.buf + at * self->memory.itemsize;
}

/* Where `size` bytes from `at` on are; NULL with ValueError. */
static inline char *bytes_at(View *self, Py_ssize_t at, Py_ssize_t size)
{
    Py_ssize_t total = self->count * self->memory.itemsize;

    if (at < 0 || size < 0 || at > total || size > total - at) {
        PyErr_Format(PyExc_ValueError, "View: %zd bytes at %zd, of %zd", size, at, total);
        return NULL;
    }
    return (char *)self->memory.buf + at;
}

static PyObject *view_get(View *self, PyObject *key)
{
    void *at = item_at(self, key);

    if (!at)
        return NULL;
    switch (self->memory.itemsize) {
    case 1:
        return PyLong_FromLong(*(uint8_t *)at);
    case 4:
        return PyLong_FromLong(*(uint32_t *)at);
    default:
        return PyLong_FromUnsignedLong(*(uint64_t *)at);
    }
}

static int view_set(View *self, PyObject *key, PyObject *value)
{
    void *at = item_at(self, key);
    unsigned long number;

    if (!at)
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "View: memory cannot be deleted");
        return -1;
    }
    number = PyLong_AsUnsignedLong(value);
    if (number == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    if (self->memory.itemsize < 8 && number >> (8 * self->memory.itemsize)) {
        PyErr_SetString(PyExc_ValueError, "View: the number is too large for an item");
        return -1;
    }
    switch (self->memory.itemsize) {
    case 1:
        *(uint8_t *)at = number;
        break;
    case 4:
        *(uint32_t *)at = number;
        break;
    default:
        *(uint64_t *)at = number;
    }
    return 0;
}

static PyObject *view_read(View *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t at, size;
    char *from;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "View.read(at, size)");
        return NULL;
    }
    at = PyLong_AsSsize_t(args[0]);
    size = PyLong_AsSsize_t(args[1]);
    if ((at == -1 || size == -1) && PyErr_Occurred())
        return NULL;
    from = bytes_at(self, at, size);
    return from ? PyBytes_FromStringAndSize(from, size) : NULL;
}

/* The place that `write` and `clear` are told of, and the bytes, to be released; NULL with an exception. */
static char *place_of(View *self, PyObject *const *args, Py_ssize_t nargs, Py_buffer *data)
{
    Py_ssize_t at;
    char *found;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "View: a place and bytes");
        return NULL;
    }
    at = PyLong_AsSsize_t(args[0]);
    if ((at == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[1], data, PyBUF_SIMPLE))
        return NULL;
    found = bytes_at(self, at, data->len);
    if (!found)
        PyBuffer_Release(data);
    return found;
}

static PyObject *view_write(View *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer data;
    char *to = place_of(self, args, nargs, &data);

    if (!to)
        return NULL;
    memmove(to, data.buf, data.len);
    PyBuffer_Release(&data);
    Py_RETURN_NONE;
}

static PyObject *view_clear(View *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer data;
    char *at = place_of(self, args, nargs, &data);
    int same;

    if (!at)
        return NULL;
    same = !memcmp(at, data.buf, data.len);
    if (same)
        memset(at, 0, data.len);
    PyBuffer_Release(&data);
    return PyBool_FromLong(same);
}

static PyMappingMethods view_mapping = {
    .mp_length = (lenfunc)view_length,
    .mp_subscript = (binaryfunc)view_get,
    .mp_ass_subscript = (objobjargproc)view_set,
};

static PyMethodDef view_methods[] = {
    {"read", (PyCFunction)(void (*)(void))view_read, METH_FASTCALL, "A copy of `size` bytes from byte `at` on."},
    {"write", (PyCFunction)(void (*)(void))view_write, METH_FASTCALL, "Put bytes there from byte `at` on."},
    {"clear", (PyCFunction)(void (*)(void))view_clear, METH_FASTCALL, "Zeros where these bytes are; whether they were."},
    {"release", (PyCFunction)view_release, METH_NOARGS, "Let go of the memory. Twice is allowed."},
    {NULL},
};

static PyTypeObject View_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.mem._view.View",
    .tp_doc = "Shared memory as numbers, or as copies of its bytes.",
    .tp_basicsize = sizeof(View),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = view_new,
    .tp_dealloc = (destructor)view_dealloc,
    .tp_as_mapping = &view_mapping,
    .tp_methods = view_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_view",
    .m_doc = "Shared memory for those who look at it in each frame.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__view(void)
{
    PyObject *found = PyModule_Create(&module);

    if (found && PyModule_AddType(found, &View_Type))
        Py_CLEAR(found);
    return found;
}
