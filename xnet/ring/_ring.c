/* Both ends of Xen's shared ring, as front.py and back.py say it, without a Python number for each index. See ring.py.
 *
 * The other end may write the page at any time. Each index is read once, by one access of 4 bytes, and judged; slots are
 * copied out. An index that no correct driver can reach is a RingError. Indices are uint32_t and wrap by themselves.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdint.h>
#include <string.h>

#define PAGE_SIZE 4096
#define HEADER_SIZE 64 /* four indices, then 48 bytes that are zero */

enum { REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT, INDICES };

typedef struct {
    PyObject_HEAD
    Py_buffer page; /* .obj is NULL once it is released */
    uint32_t slot_size, nr_ents;
    uint32_t prod_pvt, prod, cons; /* what this end added, what it published last, what it took */
    PyObject *barrier;             /* or NULL, or None */
} Ring;

static PyObject *RingError;

/* --- the page */

static inline int is_alive(const Ring *self)
{
    if (self->page.obj)
        return 1;
    PyErr_SetString(PyExc_ValueError, "ring: released");
    return 0;
}

static inline uint32_t get(const Ring *self, int index)
{
    return __atomic_load_n((uint32_t *)self->page.buf + index, __ATOMIC_ACQUIRE);
}

static inline void put(const Ring *self, int index, uint32_t value)
{
    __atomic_store_n((uint32_t *)self->page.buf + index, value, __ATOMIC_RELEASE);
}

/* Where the slot of an index is; the bytes from there to the end of the ring. */
static inline char *slot_at(const Ring *self, uint32_t index, size_t *room)
{
    uint32_t slot = index & (self->nr_ents - 1);

    *room = (size_t)(self->nr_ents - slot) * self->slot_size;
    return (char *)self->page.buf + HEADER_SIZE + (size_t)slot * self->slot_size;
}

/* A private copy of slots. */
static PyObject *copy_out(const Ring *self, uint32_t index, int64_t count)
{
    size_t size, room;
    PyObject *data;
    const char *slot;

    if (count < 0 || count > self->nr_ents) {
        PyErr_Format(PyExc_ValueError, "ring: %lld slots, of %u", (long long)count, self->nr_ents);
        return NULL;
    }
    size = (size_t)count * self->slot_size;
    data = PyBytes_FromStringAndSize(NULL, size);
    if (!data)
        return NULL;
    slot = slot_at(self, index, &room);
    if (size <= room) {
        memcpy(PyBytes_AS_STRING(data), slot, size);
    } else {
        memcpy(PyBytes_AS_STRING(data), slot, room);
        memcpy(PyBytes_AS_STRING(data) + room, (char *)self->page.buf + HEADER_SIZE, size - room);
    }
    return data;
}

/* Fill the slots behind those added before. */
static int add(Ring *self, PyObject *data)
{
    size_t size, room;
    char *slot;

    if (!is_alive(self))
        return -1;
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "ring: slots are bytes");
        return -1;
    }
    size = PyBytes_GET_SIZE(data);
    if (size % self->slot_size || size > (size_t)self->nr_ents * self->slot_size) {
        PyErr_Format(PyExc_ValueError, "ring: %zu bytes into %u slots of %u", size, self->nr_ents, self->slot_size);
        return -1;
    }
    slot = slot_at(self, self->prod_pvt, &room);
    if (size <= room) {
        memcpy(slot, PyBytes_AS_STRING(data), size);
    } else {
        memcpy(slot, PyBytes_AS_STRING(data), room);
        memcpy((char *)self->page.buf + HEADER_SIZE, PyBytes_AS_STRING(data) + room, size - room);
    }
    self->prod_pvt += size / self->slot_size;
    return 0;
}

/* --- what both ends do, each with its own indices */

/* The ring may have been released in it. */
static int pass_barrier(const Ring *self)
{
    PyObject *barrier = self->barrier, *done;

    if (!barrier || barrier == Py_None)
        return 0;
    Py_INCREF(barrier); /* it may put another one in its place */
    done = PyObject_CallNoArgs(barrier);
    Py_DECREF(barrier);
    Py_XDECREF(done);
    return done && is_alive(self) ? 0 : -1;
}

static int64_t rogue(const char *what, uint32_t distance)
{
    PyObject *error = PyObject_CallFunction(RingError, "sI", what, distance);

    if (error) {
        PyErr_SetObject(RingError, error);
        Py_DECREF(error);
    }
    return -1;
}

/* Entries to take: how many; -1 for an exception. */
typedef int64_t look(const Ring *self);

static inline int64_t requests(const Ring *self)
{
    uint32_t produced, taken = self->cons - self->prod_pvt;

    if (!is_alive(self))
        return -1;
    produced = get(self, REQ_PROD) - self->prod_pvt;
    if (produced > self->nr_ents || produced < taken)
        return rogue("request producer past the ring", produced);
    return produced - taken;
}

static inline int64_t responses(const Ring *self)
{
    uint32_t count;

    if (!is_alive(self))
        return -1;
    count = get(self, RSP_PROD) - self->cons;
    if (count > self->prod_pvt - self->cons)
        return rogue("response producer past the requests", count);
    return count;
}

/* The wish is visible before the next look, or a wake-up is lost. */
static inline int want(const Ring *self, int event, uint32_t count)
{
    if (!is_alive(self))
        return -1;
    put(self, event, self->cons + count);
    return pass_barrier(self);
}

static inline int64_t final_check(const Ring *self, int event, look *entries)
{
    int64_t count = entries(self);

    if (count)
        return count;
    return want(self, event, 1) ? -1 : entries(self);
}

static inline PyObject *push(Ring *self, int prod, int event)
{
    uint32_t old = self->prod, new = self->prod_pvt;

    if (!is_alive(self))
        return NULL;
    put(self, prod, self->prod = new);
    if (pass_barrier(self)) /* visible before we look at what the other waits for */
        return NULL;
    return PyBool_FromLong((uint32_t)(new - get(self, event)) < (uint32_t)(new - old));
}

static inline PyObject *number(int64_t count)
{
    return count < 0 ? NULL : PyLong_FromLong(count);
}

/* A number modulo 2^32. */
static inline int to_index(PyObject *number, uint32_t *index)
{
    unsigned long value = PyLong_AsUnsignedLongMask(number);

    *index = value;
    return value == (unsigned long)-1 && PyErr_Occurred() ? -1 : 0;
}

/* --- SharedRing: what both have */

static PyObject *ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"page", "slot_size", "attach", "barrier", NULL};
    PyObject *page, *barrier = NULL, *view;
    Py_ssize_t slot_size;
    unsigned long attach = 0;
    Ring *self;
    int failed;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "On|$kO", names, &page, &slot_size, &attach, &barrier))
        return NULL;
    if (slot_size < 1 || slot_size > PAGE_SIZE - HEADER_SIZE) {
        PyErr_Format(PyExc_ValueError, "ring: slots of %zd bytes", slot_size);
        return NULL;
    }
    self = (Ring *)type->tp_alloc(type, 0);
    view = PyMemoryView_FromObject(page); /* of our own: `page` may be released before */
    failed = !self || !view || PyObject_GetBuffer(view, &self->page, PyBUF_WRITABLE);
    Py_XDECREF(view);
    if (!failed && (self->page.len != PAGE_SIZE || (uintptr_t)self->page.buf % sizeof(uint32_t))) {
        PyErr_Format(PyExc_ValueError, "ring: a page is %d bytes", PAGE_SIZE);
        failed = 1;
    }
    if (failed) {
        Py_XDECREF(self);
        return NULL;
    }
    self->slot_size = slot_size;
    for (self->nr_ents = 1; self->nr_ents * 2 * slot_size <= PAGE_SIZE - HEADER_SIZE;)
        self->nr_ents *= 2;
    self->prod_pvt = self->prod = self->cons = attach;
    self->barrier = Py_XNewRef(barrier);
    return (PyObject *)self;
}

static int ring_traverse(Ring *self, visitproc visit, void *arg)
{
    Py_VISIT(self->page.obj);
    Py_VISIT(self->barrier);
    return 0;
}

static int ring_clear(Ring *self)
{
    Py_CLEAR(self->barrier);
    return 0;
}

static PyObject *ring_release(Ring *self, PyObject *unused)
{
    if (self->page.obj)
        PyBuffer_Release(&self->page);
    Py_RETURN_NONE;
}

static void ring_dealloc(Ring *self)
{
    PyObject_GC_UnTrack(self);
    if (self->page.obj)
        PyBuffer_Release(&self->page);
    ring_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *ring_init(Ring *self, PyObject *unused)
{
    if (!is_alive(self))
        return NULL;
    for (int index = 0; index < INDICES; index++)
        put(self, index, index == REQ_EVENT || index == RSP_EVENT);
    memset((uint32_t *)self->page.buf + INDICES, 0, HEADER_SIZE - INDICES * sizeof(uint32_t));
    Py_RETURN_NONE;
}

static PyObject *ring_read(Ring *self, PyObject *args)
{
    unsigned long index;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(args, "kn:read", &index, &count) || !is_alive(self))
        return NULL;
    return copy_out(self, index, count);
}

static PyObject *ring_indices(Ring *self, void *unused)
{
    PyObject *bytes, *words;

    if (!is_alive(self))
        return NULL;
    bytes = PySequence_GetSlice(self->page.obj, 0, INDICES * sizeof(uint32_t));
    words = bytes ? PyObject_CallMethod(bytes, "cast", "s", "I") : NULL;
    Py_XDECREF(bytes);
    return words;
}

static PyMethodDef ring_methods[] = {
    {"init", (PyCFunction)ring_init, METH_NOARGS, "SHARED_RING_INIT."},
    {"read", (PyCFunction)ring_read, METH_VARARGS, "A copy of `count` slots from ring index `index` on."},
    {"release", (PyCFunction)ring_release, METH_NOARGS, "Let go of the page. Twice is allowed."},
    {NULL},
};

static PyMemberDef ring_members[] = {
    {"nr_ents", T_UINT, offsetof(Ring, nr_ents), READONLY},
    {"slot_size", T_UINT, offsetof(Ring, slot_size), READONLY},
    {"barrier", T_OBJECT, offsetof(Ring, barrier)},
    {NULL},
};

static PyGetSetDef ring_getset[] = {
    {"indices", (getter)ring_indices, NULL, "The four indices in the page.", NULL},
    {NULL},
};

static PyTypeObject Ring_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.ring._ring.SharedRing",
    .tp_doc = "An end of a shared ring.",
    .tp_basicsize = sizeof(Ring),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = ring_new,
    .tp_dealloc = (destructor)ring_dealloc,
    .tp_traverse = (traverseproc)ring_traverse,
    .tp_clear = (inquiry)ring_clear,
    .tp_methods = ring_methods,
    .tp_members = ring_members,
    .tp_getset = ring_getset,
};

/* --- FrontRing */

static PyObject *front_free_requests(Ring *self, PyObject *unused)
{
    return PyLong_FromLong((long)self->nr_ents - (long)(uint32_t)(self->prod_pvt - self->cons));
}

static PyObject *front_add_requests(Ring *self, PyObject *data)
{
    if (add(self, data))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *front_unpushed(Ring *self, PyObject *unused)
{
    return PyBool_FromLong(self->prod_pvt != self->prod);
}

static PyObject *front_push_requests(Ring *self, PyObject *unused)
{
    return push(self, REQ_PROD, REQ_EVENT);
}

static PyObject *front_unconsumed_responses(Ring *self, PyObject *unused)
{
    return number(responses(self));
}

static PyObject *front_final_check_responses(Ring *self, PyObject *unused)
{
    return number(final_check(self, RSP_EVENT, responses));
}

static PyObject *take(Ring *self, int64_t count)
{
    PyObject *data = copy_out(self, self->cons, count);

    if (data)
        self->cons += count;
    return data;
}

static PyObject *front_take_responses(Ring *self, PyObject *number)
{
    Py_ssize_t count = PyLong_AsSsize_t(number);

    if ((count == -1 && PyErr_Occurred()) || !is_alive(self))
        return NULL;
    return take(self, count);
}

static PyObject *front_next_responses(Ring *self, PyObject *unused)
{
    int64_t count = final_check(self, RSP_EVENT, responses);

    return count < 0 ? NULL : take(self, count);
}

static PyMethodDef front_methods[] = {
    {"free_requests", (PyCFunction)front_free_requests, METH_NOARGS, "See front.py."},
    {"add_requests", (PyCFunction)front_add_requests, METH_O, "See front.py."},
    {"unpushed", (PyCFunction)front_unpushed, METH_NOARGS, "See front.py."},
    {"push_requests", (PyCFunction)front_push_requests, METH_NOARGS, "See front.py."},
    {"unconsumed_responses", (PyCFunction)front_unconsumed_responses, METH_NOARGS, "See front.py."},
    {"final_check_responses", (PyCFunction)front_final_check_responses, METH_NOARGS, "See front.py."},
    {"take_responses", (PyCFunction)front_take_responses, METH_O, "See front.py."},
    {"next_responses", (PyCFunction)front_next_responses, METH_NOARGS, "See front.py."},
    {NULL},
};

static PyMemberDef front_members[] = {
    {"req_prod_pvt", T_UINT, offsetof(Ring, prod_pvt), READONLY},
    {"req_prod", T_UINT, offsetof(Ring, prod), READONLY},
    {"rsp_cons", T_UINT, offsetof(Ring, cons), READONLY},
    {NULL},
};

static PyTypeObject FrontRing_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.ring._ring.FrontRing",
    .tp_doc = "The front's end: produces requests, consumes responses.",
    .tp_base = &Ring_Type,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = front_methods,
    .tp_members = front_members,
};

/* --- BackRing */

static PyObject *back_attach_at_rsp_prod(PyObject *type, PyObject *args)
{
    Ring *self = (Ring *)PyObject_Call(type, args, NULL);

    if (!self)
        return NULL;
    self->prod_pvt = self->prod = self->cons = get(self, RSP_PROD);
    if (requests(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *back_unconsumed_requests(Ring *self, PyObject *unused)
{
    return number(requests(self));
}

static PyObject *back_final_check_requests(Ring *self, PyObject *unused)
{
    return number(final_check(self, REQ_EVENT, requests));
}

static PyObject *back_want_requests(Ring *self, PyObject *number)
{
    uint32_t count;

    if (to_index(number, &count) || want(self, REQ_EVENT, count))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *back_peek_requests(Ring *self, PyObject *number)
{
    Py_ssize_t most = PyLong_AsSsize_t(number);
    int64_t count;

    if (most == -1 && PyErr_Occurred())
        return NULL;
    count = requests(self);
    if (count < 0)
        return NULL;
    return copy_out(self, self->cons, most < count ? most : count);
}

static PyObject *back_next_requests(Ring *self, PyObject *unused)
{
    int64_t count = final_check(self, REQ_EVENT, requests);

    return count < 0 ? NULL : copy_out(self, self->cons, count);
}

static PyObject *back_consume(Ring *self, PyObject *number)
{
    uint32_t count;

    if (to_index(number, &count))
        return NULL;
    self->cons += count;
    Py_RETURN_NONE;
}

static PyObject *back_push_responses(Ring *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        PyErr_SetString(PyExc_TypeError, "push_responses(slots)");
        return NULL;
    }
    return nargs && add(self, args[0]) ? NULL : push(self, RSP_PROD, RSP_EVENT);
}

static PyMethodDef back_methods[] = {
    {"attach_at_rsp_prod", (PyCFunction)back_attach_at_rsp_prod, METH_VARARGS | METH_CLASS, "See back.py."},
    {"unconsumed_requests", (PyCFunction)back_unconsumed_requests, METH_NOARGS, "See back.py."},
    {"final_check_requests", (PyCFunction)back_final_check_requests, METH_NOARGS, "See back.py."},
    {"want_requests", (PyCFunction)back_want_requests, METH_O, "See back.py."},
    {"peek_requests", (PyCFunction)back_peek_requests, METH_O, "See back.py."},
    {"next_requests", (PyCFunction)back_next_requests, METH_NOARGS, "See back.py."},
    {"consume", (PyCFunction)back_consume, METH_O, "See back.py."},
    {"add_responses", (PyCFunction)front_add_requests, METH_O, "See back.py."},
    {"push_responses", (PyCFunction)(void (*)(void))back_push_responses, METH_FASTCALL, "See back.py."},
    {NULL},
};

static PyMemberDef back_members[] = {
    {"rsp_prod_pvt", T_UINT, offsetof(Ring, prod_pvt), READONLY},
    {"rsp_prod", T_UINT, offsetof(Ring, prod), READONLY},
    {"req_cons", T_UINT, offsetof(Ring, cons), READONLY},
    {NULL},
};

static PyTypeObject BackRing_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.ring._ring.BackRing",
    .tp_doc = "The back's end: consumes requests, produces responses.",
    .tp_base = &Ring_Type,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = back_methods,
    .tp_members = back_members,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_ring",
    .m_doc = "Both ends of Xen's shared ring.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__ring(void)
{
    PyObject *shared = PyImport_ImportModule("xnet.ring.shared"), *found;

    RingError = shared ? PyObject_GetAttrString(shared, "RingError") : NULL;
    Py_XDECREF(shared);
    if (!RingError)
        return NULL;
    found = PyModule_Create(&module);
    if (found && (PyModule_AddType(found, &FrontRing_Type) || PyModule_AddType(found, &BackRing_Type)))
        Py_CLEAR(found);
    return found;
}
