/* readv and writev of a TAP, which never blocks: see iov.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/uio.h>

#define MOST 260 /* buffers: a header, and a ringful of slots if somebody cuts a frame that small */

static PyObject *iov_readv(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer header, data;
    ssize_t got;
    int fd;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "readv(fd, header, data)");
        return NULL;
    }
    fd = (int)PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (PyObject_GetBuffer(args[1], &header, PyBUF_WRITABLE))
        return NULL;
    if (PyObject_GetBuffer(args[2], &data, PyBUF_WRITABLE)) {
        PyBuffer_Release(&header);
        return NULL;
    }
    do {
        struct iovec iov[2] = {{header.buf, header.len}, {data.buf, data.len}};

        got = readv(fd, iov, 2);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        got = -errno;
    PyBuffer_Release(&header);
    PyBuffer_Release(&data);
    return PyLong_FromSsize_t(got);
}

static PyObject *iov_writev(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct iovec iov[MOST];
    Py_buffer held[MOST];
    Py_ssize_t count, used = 0;
    PyObject *result = NULL, *const *items;
    ssize_t put;
    int fd;

    if (nargs != 2 || !(PyList_Check(args[1]) || PyTuple_Check(args[1]))) {
        PyErr_SetString(PyExc_TypeError, "writev(fd, list or tuple)");
        return NULL;
    }
    fd = (int)PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    count = PySequence_Fast_GET_SIZE(args[1]);
    items = PySequence_Fast_ITEMS(args[1]);
    if (count > MOST)
        return PyLong_FromLong(-EINVAL);
    for (; used < count; used++) {
        PyObject *item = items[used];

        if (PyObject_GetBuffer(item, &held[used], PyBUF_SIMPLE))
            goto out;
        iov[used].iov_base = held[used].buf;
        iov[used].iov_len = held[used].len;
    }
    do
        put = writev(fd, iov, (int)count);
    while (put < 0 && errno == EINTR);
    if (put < 0)
        put = -errno;
    result = PyLong_FromSsize_t(put);
out:
    while (used)
        PyBuffer_Release(&held[--used]);
    return result;
}

static PyMethodDef functions[] = {
    {"readv", (PyCFunction)(void (*)(void))iov_readv, METH_FASTCALL, "Bytes read, or -errno."},
    {"writev", (PyCFunction)(void (*)(void))iov_writev, METH_FASTCALL, "Bytes written, or -errno."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_iov",
    .m_doc = "readv and writev of descriptors that never block.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__iov(void)
{
    return PyModule_Create(&module);
}
