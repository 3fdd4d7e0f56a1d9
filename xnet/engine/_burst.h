/* Frames out of a descriptor by the burst: see iov.py. Who includes it says how one is taken. */
#define PAGE_SIZE 4096
#define FRAME_MAX (17 * PAGE_SIZE)

/* One frame and the header in front of it: its length, 0 for less than a header, or the negative errno. */
typedef ssize_t taker(int fd, uint8_t *frame, uint8_t *header, size_t size);

/* receive(fd, memory, addr, size, most, header, last) */
static inline PyObject *burst(PyObject *const *args, Py_ssize_t nargs, taker *take)
{
    Py_buffer memory, header;
    PyObject *lengths = NULL;
    Py_ssize_t addr, size, most, got = 1;
    int fd;

    if (nargs != 7 || !PyByteArray_Check(args[5]) || !PyBytes_Check(args[6]) ||
        PyByteArray_GET_SIZE(args[5]) != PyBytes_GET_SIZE(args[6])) {
        PyErr_SetString(PyExc_TypeError, "receive(fd, memory, addr, size, most, bytearray for a header, the last one)");
        return NULL;
    }
    fd = (int)PyLong_AsLong(args[0]);
    addr = PyLong_AsSsize_t(args[2]);
    size = PyLong_AsSsize_t(args[3]);
    most = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[1], &memory, PyBUF_WRITABLE))
        return NULL;
    if (PyObject_GetBuffer(args[5], &header, PyBUF_WRITABLE)) {
        PyBuffer_Release(&memory);
        return NULL;
    }
    if (addr < 0 || size < 0 || addr > memory.len || size > memory.len - addr) {
        PyErr_SetString(PyExc_ValueError, "not in memory");
        goto out;
    }
    lengths = PyList_New(0);
    while (lengths && size >= FRAME_MAX && most-- > 0) {
        PyObject *length;
        Py_ssize_t pages;

        got = take(fd, (uint8_t *)memory.buf + addr, header.buf, header.len);
        if (got <= 0)
            break;
        pages = (got + PAGE_SIZE - 1) & -PAGE_SIZE;
        length = PyLong_FromSsize_t(got);
        if (!length || PyList_Append(lengths, length))
            Py_CLEAR(lengths);
        Py_XDECREF(length);
        addr += pages;
        size -= pages;
        if (memcmp(header.buf, PyBytes_AS_STRING(args[6]), header.len))
            break;
    }
out:
    PyBuffer_Release(&memory);
    PyBuffer_Release(&header);
    return lengths ? pack(2, (PyObject *[]){lengths, PyLong_FromSsize_t(got > 0 ? 1 : got)}) : NULL;
}
