/* Event channels' bits in a shared_info page: see events.py. Little-endian, as the page is. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdint.h>

#define PAGE_SIZE 4096
#define EVTCHN_2L_NR_CHANNELS 4096

enum { COALESCED, HELD, KNOWN, NEWS };

/* public/xen.h, struct shared_info, x86-64: what concerns event channels */
typedef struct {
    uint8_t upcall_pending, upcall_mask, pad[6];
    uint64_t pending_sel;
    uint8_t others[2032];
    uint64_t pending[EVTCHN_2L_NR_CHANNELS / 64], mask[EVTCHN_2L_NR_CHANNELS / 64];
} shared_info;

_Static_assert(offsetof(shared_info, pending_sel) == 8 && offsetof(shared_info, pending) == 2048 &&
               offsetof(shared_info, mask) == 2560, "xen.h");

/* A page lent for good; -1 with an exception. */
static int lend(PyObject *of, Py_buffer *page)
{
    if (PyObject_GetBuffer(of, page, PyBUF_WRITABLE))
        return -1;
    if (page->len >= PAGE_SIZE)
        return 0;
    PyBuffer_Release(page);
    PyErr_SetString(PyExc_ValueError, "shared_info is a page");
    return -1;
}

/* --- Target */

typedef struct {
    PyObject_HEAD
    PyObject *table;
    Py_buffer page;
    int word;
    uint64_t bit;
} Target;

static PyObject *target_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Target *self;
    PyObject *table, *info;
    int port;

    if (!PyArg_ParseTuple(args, "OOi:Target", &table, &info, &port))
        return NULL;
    if (port < 0 || port >= EVTCHN_2L_NR_CHANNELS) {
        PyErr_Format(PyExc_ValueError, "Target: no port %d", port);
        return NULL;
    }
    self = (Target *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->table = Py_NewRef(table);
    self->word = port >> 6;
    self->bit = 1ULL << (port & 63);
    if (lend(info, &self->page))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int target_traverse(Target *self, visitproc visit, void *arg)
{
    Py_VISIT(self->table);
    return 0;
}

static int target_clear(Target *self)
{
    Py_CLEAR(self->table);
    return 0;
}

static void target_dealloc(Target *self)
{
    PyObject_GC_UnTrack(self);
    target_clear(self);
    if (self->page.obj)
        PyBuffer_Release(&self->page);
    Py_TYPE(self)->tp_free(self);
}

static int selected(Target *self)
{
    shared_info *info = self->page.buf;
    uint64_t bit = 1ULL << self->word;

    if (info->pending_sel & bit)
        return 0;
    info->pending_sel |= bit;
    info->upcall_pending = 1;
    return 1;
}

static PyObject *target_select(Target *self, PyObject *unused)
{
    return PyBool_FromLong(selected(self));
}

static PyObject *target_set_pending(Target *self, PyObject *unused)
{
    shared_info *info = self->page.buf;

    if (info->pending[self->word] & self->bit)
        return PyLong_FromLong(COALESCED);
    info->pending[self->word] |= self->bit;
    if (info->mask[self->word] & self->bit)
        return PyLong_FromLong(HELD);
    return PyLong_FromLong(selected(self) ? NEWS : KNOWN);
}

static PyMemberDef target_members[] = {
    {"table", T_OBJECT_EX, offsetof(Target, table), READONLY},
    {NULL},
};

static PyMethodDef target_methods[] = {
    {"set_pending", (PyCFunction)target_set_pending, METH_NOARGS, "See events.py."},
    {"select", (PyCFunction)target_select, METH_NOARGS, "See events.py."},
    {NULL},
};

static PyTypeObject Target_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.hv._events.Target",
    .tp_doc = "The far end of a channel.",
    .tp_basicsize = sizeof(Target),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = target_new,
    .tp_dealloc = (destructor)target_dealloc,
    .tp_traverse = (traverseproc)target_traverse,
    .tp_clear = (inquiry)target_clear,
    .tp_members = target_members,
    .tp_methods = target_methods,
};

/* --- Inbox */

typedef struct {
    PyObject_HEAD
    Py_buffer page;
    uint64_t selected, todo; /* words to look at; of the word at hand, ports to look at */
    int word;
} Inbox;

static PyObject *inbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *info;
    Inbox *self;

    if (!PyArg_ParseTuple(args, "O:Inbox", &info))
        return NULL;
    self = (Inbox *)type->tp_alloc(type, 0);
    if (self && lend(info, &self->page))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void inbox_dealloc(Inbox *self)
{
    if (self->page.obj)
        PyBuffer_Release(&self->page);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *inbox_next(Inbox *self, PyObject *unused)
{
    shared_info *info = self->page.buf;

    for (;;) {
        uint64_t *pending, bit;

        while (!self->todo) {
            if (!self->selected)
                return PyLong_FromLong(-1);
            self->word = __builtin_ctzll(self->selected);
            self->selected &= self->selected - 1;
            self->todo = info->pending[self->word] & ~info->mask[self->word];
        }
        bit = self->todo & -self->todo;
        self->todo ^= bit;
        pending = info->pending + self->word;
        if (*pending & ~info->mask[self->word] & bit) { /* else a handler before it closed or masked it */
            *pending ^= bit;
            return PyLong_FromLong((self->word << 6) + __builtin_ctzll(bit));
        }
    }
}

static PyObject *inbox_first(Inbox *self, PyObject *unused)
{
    shared_info *info = self->page.buf;

    info->upcall_pending = 0;
    self->selected = info->pending_sel;
    self->todo = 0;
    info->pending_sel = 0;
    return inbox_next(self, NULL);
}

static PyMethodDef inbox_methods[] = {
    {"first", (PyCFunction)inbox_first, METH_NOARGS, "See events.py."},
    {"next", (PyCFunction)inbox_next, METH_NOARGS, "See events.py."},
    {NULL},
};

static PyTypeObject Inbox_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.hv._events.Inbox",
    .tp_doc = "A domain's pending ports.",
    .tp_basicsize = sizeof(Inbox),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = inbox_new,
    .tp_dealloc = (destructor)inbox_dealloc,
    .tp_methods = inbox_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_events",
    .m_doc = "Event channels' bits.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__events(void)
{
    PyObject *found = PyModule_Create(&module);

    if (found && (PyModule_AddType(found, &Target_Type) || PyModule_AddType(found, &Inbox_Type)))
        Py_CLEAR(found);
    return found;
}
