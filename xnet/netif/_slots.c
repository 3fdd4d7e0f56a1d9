/* What slots say, where nothing is in doubt: see gather.py, scatter.py, posted.py, assemble.py. Little-endian, as the
 * rings are. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../frame/_frames.h"
#include "../hv/_copier.h"

#define ETH_HLEN 14
#define RING_SLOTS 256
#define XEN_NETIF_NR_SLOTS_MIN 18
#define XEN_NETIF_MAX_TX_SIZE 65535
#define XEN_NETIF_EXTRA_TYPE_GSO 1
#define XEN_NETIF_GSO_TYPE_TCPV4 1
#define XEN_NETIF_GSO_TYPE_TCPV6 2
#define XEN_NETIF_RSP_NULL 1
/* of a slot, either way; a tx slot has the first two as the offload word has them, an rx slot has them swapped */
#define MORE_DATA 4
#define EXTRA_INFO 8
#define NETTXF_csum_blank CSUM_BLANK
#define NETRXF_data_validated 1
#define NETRXF_csum_blank 2

typedef struct {
    uint8_t type, flags;
    uint16_t size;
    uint8_t gso_type, pad;
    uint16_t features;
} extra_info;

typedef union {
    struct {
        uint32_t gref;
        uint16_t offset, flags, id, size;
    } request;
    struct {
        uint16_t id;
        int16_t status;
        uint32_t pad[2];
    } response;
    extra_info extra;
} tx_slot;

typedef struct {
    uint16_t id, pad;
    uint32_t gref;
} rx_request;

typedef union {
    struct {
        uint16_t id, offset, flags;
        int16_t status;
    } response;
    extra_info extra;
} rx_slot;

_Static_assert(sizeof(tx_slot) == 12 && sizeof(rx_request) == 8 && sizeof(rx_slot) == 8, "netif.h");

static new_op_t *new_op;
static const frames_api *api;

/* An op at the end of a list, which takes it over: -1 with an exception. */
static int add_op(PyObject *ops, PyObject *op)
{
    int bad = op ? PyList_Append(ops, op) : -1;

    Py_XDECREF(op);
    return bad;
}

/* Slots that a frame takes, on either ring. */
static Py_ssize_t slots_of(uint32_t word, Py_ssize_t length)
{
    return ((length + PAGE_SIZE - 1) >> PAGE_SHIFT) + (word & GSO_TYPE_MASK ? 1 : 0);
}

/* The offload word's bits that a lone GSO extra stands for; 0 for any other one. */
static int64_t gso_of(const extra_info *extra)
{
    if (extra->type != XEN_NETIF_EXTRA_TYPE_GSO || extra->flags || !extra->size ||
        (extra->gso_type != XEN_NETIF_GSO_TYPE_TCPV4 && extra->gso_type != XEN_NETIF_GSO_TYPE_TCPV6))
        return 0;
    return (int64_t)extra->gso_type << GSO_TYPE_SHIFT | (int64_t)extra->size << GSO_SIZE_SHIFT;
}

static void set_gso(extra_info *extra, int64_t word)
{
    *extra = (extra_info){
        .type = XEN_NETIF_EXTRA_TYPE_GSO,
        .size = word >> GSO_SIZE_SHIFT,
        .gso_type = (word & GSO_TYPE_MASK) >> GSO_TYPE_SHIFT,
    };
}

/* --- posted.py: the frontend's tx slots */

/* A frame in a run of pages, (page, word, length). */
typedef struct {
    long long page, word;
    Py_ssize_t length, pages, slots;
} Posted;

static int posted_of(PyObject *tuple, Posted *posted)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 3) {
        PyErr_SetString(PyExc_TypeError, "not a Posted");
        return -1;
    }
    posted->page = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, 0));
    posted->word = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, 1));
    posted->length = PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, 2));
    if (PyErr_Occurred())
        return -1;
    if (posted->length < 1 || posted->length > XEN_NETIF_MAX_TX_SIZE) {
        PyErr_SetString(PyExc_ValueError, "no length of a frame");
        return -1;
    }
    posted->pages = (posted->length + PAGE_SIZE - 1) >> PAGE_SHIFT;
    posted->slots = slots_of(posted->word, posted->length);
    return 0;
}

static PyObject *slots_requests(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *frames, *requests;
    Py_ssize_t slots = 0;
    unsigned long refs;
    Posted posted;
    tx_slot *slot;

    if (nargs != 2 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "requests(list of Posted, refs)");
        return NULL;
    }
    frames = args[0];
    refs = PyLong_AsUnsignedLong(args[1]);
    if (refs == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        if (posted_of(PyList_GET_ITEM(frames, i), &posted))
            return NULL;
        slots += posted.slots;
    }
    requests = PyBytes_FromStringAndSize(NULL, slots * sizeof(tx_slot));
    if (!requests)
        return NULL;
    slot = (tx_slot *)PyBytes_AS_STRING(requests);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        Py_ssize_t left;

        if (posted_of(PyList_GET_ITEM(frames, i), &posted)) {
            Py_DECREF(requests);
            return NULL;
        }
        left = posted.length;
        for (Py_ssize_t at = 0; at < posted.pages; at++, left -= PAGE_SIZE, slot++) {
            uint16_t flags = left > PAGE_SIZE ? MORE_DATA : 0;

            if (!at)
                flags |= (posted.word & (CSUM_BLANK | DATA_VALIDATED)) | (posted.slots > posted.pages ? EXTRA_INFO : 0);
            slot->request.gref = refs + posted.page + at;
            slot->request.offset = 0;
            slot->request.flags = flags;
            slot->request.id = posted.page + at;
            slot->request.size = at && left > PAGE_SIZE ? PAGE_SIZE : left;
            if (flags & EXTRA_INFO) {
                memset(++slot, 0, sizeof(*slot));
                set_gso(&slot->extra, posted.word);
            }
        }
    }
    return requests;
}

static PyObject *slots_answered(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *frames;
    const tx_slot *slot;
    Py_ssize_t at, left, done = 0;

    if (nargs != 3 || !PyList_Check(args[0]) || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "answered(list of Posted, response slots, at)");
        return NULL;
    }
    frames = args[0];
    at = PyLong_AsSsize_t(args[2]);
    if (at < 0 || at > PyBytes_GET_SIZE(args[1])) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "not in the slots");
        return NULL;
    }
    slot = (const tx_slot *)(PyBytes_AS_STRING(args[1]) + at);
    left = (PyBytes_GET_SIZE(args[1]) - at) / sizeof(tx_slot);
    for (; done < PyList_GET_SIZE(frames); done++) {
        Py_ssize_t said = 0;
        Posted posted;

        if (posted_of(PyList_GET_ITEM(frames, done), &posted))
            return NULL;
        if (posted.slots > left || (done && !posted.page))
            break;
        for (; said < posted.slots; said++) {
            int extra = said == 1 && posted.slots > posted.pages;
            int page = said > 1 && posted.slots > posted.pages ? said - 1 : said;
            tx_slot expected = {.response = {extra ? 0 : posted.page + page, extra ? XEN_NETIF_RSP_NULL : 0, {0, 0}}};

            if (memcmp(slot + said, &expected, sizeof(expected)))
                break;
        }
        if (said < posted.slots)
            break;
        slot += said;
        left -= said;
    }
    at = (const char *)slot - PyBytes_AS_STRING(args[1]);
    return pack(2, (PyObject *[]){PyLong_FromSsize_t(done), PyLong_FromSsize_t(at)});
}

/* --- gather.py: packets off tx slots, and the copies that fetch them */

typedef struct {
    PyObject_HEAD
    int32_t domid;
    int heads_only;
} Gather;

static PyObject *gather_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Gather *self;
    int domid, heads_only;

    if (!PyArg_ParseTuple(args, "ip:Gather", &domid, &heads_only))
        return NULL;
    self = (Gather *)type->tp_alloc(type, 0);
    if (self) {
        self->domid = domid;
        self->heads_only = heads_only;
    }
    return (PyObject *)self;
}

/* One packet: a single slot, or whole pages of consecutive references; with a GSO extra, or without. */
typedef struct {
    uint32_t gref;
    uint16_t offset;
    int32_t length, slots, extras;
    int64_t word;
} Packet;

/* The packet that begins here, if it is plainly right: whether. */
static int plain_packet(const tx_slot *slot, Py_ssize_t left, Packet *packet)
{
    int flags = slot->request.flags;

    *packet = (Packet){slot->request.gref, slot->request.offset, slot->request.size, 1, 0, flags & DATA_VALIDATED};
    if (flags & NETTXF_csum_blank)
        packet->word = CSUM_BLANK | DATA_VALIDATED;
    if (flags & EXTRA_INFO) {
        int64_t gso = left > 1 ? gso_of(&slot[1].extra) : 0;

        if (!gso || !(flags & NETTXF_csum_blank))
            return 0;
        packet->word |= gso;
        packet->slots = 2;
        packet->extras = 1;
    }
    if (flags & MORE_DATA) {
        const tx_slot *next = slot + packet->slots, *end = slot + left;
        uint32_t gref = packet->gref;
        int32_t rest = packet->length;

        if (packet->offset || end - next > XEN_NETIF_NR_SLOTS_MIN)
            end = next + (packet->offset ? 0 : XEN_NETIF_NR_SLOTS_MIN);
        for (; flags & MORE_DATA; next++) {
            rest -= PAGE_SIZE;
            if (next >= end || rest <= 0 || next->request.gref != ++gref || next->request.offset ||
                next->request.size != (rest > PAGE_SIZE ? PAGE_SIZE : rest))
                return 0;
            flags = next->request.flags;
        }
        packet->slots = next - slot;
        return rest <= PAGE_SIZE;
    }
    return packet->length >= ETH_HLEN && packet->offset + packet->length <= PAGE_SIZE;
}

/* What its slots are answered. */
static void answer_packet(const tx_slot *slot, const Packet *packet, tx_slot *answers)
{
    for (int i = 0; i < packet->slots; i++)
        answers[i] = (tx_slot){.response = {slot[i].request.id, 0, {0, 0}}};
    if (packet->extras)
        answers[1] = (tx_slot){.response = {0, XEN_NETIF_RSP_NULL, {0, 0}}};
}

/* The frame it is when it lies at `addr`, and the copy that brings it there. */
static int fetch_packet(const Gather *self, const Packet *packet, int64_t addr, Frames *frames, PyObject *ops)
{
    int32_t size = packet->length, flags = GNTCOPY_source_gref;

    if (self->heads_only && size > PAGE_SIZE)
        size = PAGE_SIZE;
    addr += packet->offset;
    if (api->add(frames, packet->word, packet->length) || api->add_piece(frames, addr, size, DOMID_SELF, 0))
        return -1;
    if (size < packet->length &&
        api->add_piece(frames, addr + size, packet->length - size, self->domid, packet->gref + 1))
        return -1;
    if (size > PAGE_SIZE)
        flags |= COPY_RUN;
    return add_op(ops, new_op(packet->gref, self->domid, packet->offset, addr >> PAGE_SHIFT, DOMID_SELF, packet->offset,
                              size, flags));
}

static PyObject *gather_burst(Gather *self, PyObject *const *args, Py_ssize_t nargs)
{
    const tx_slot *slot;
    tx_slot *answer;
    PyObject *answers;
    Py_ssize_t left, most, room, used = 0, done = 0, at = 0;
    long long addr;
    Packet packet;

    if (nargs != 6 || !PyBytes_Check(args[0]) || !Py_IS_TYPE(args[4], api->type) || !PyList_Check(args[5])) {
        PyErr_SetString(PyExc_TypeError, "burst(request slots, most, room, addr, Frames, list for copies)");
        return NULL;
    }
    slot = (const tx_slot *)PyBytes_AS_STRING(args[0]);
    left = PyBytes_GET_SIZE(args[0]) / sizeof(tx_slot);
    most = PyLong_AsSsize_t(args[1]);
    room = PyLong_AsSsize_t(args[2]);
    addr = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    answers = PyBytes_FromStringAndSize(NULL, left * sizeof(tx_slot));
    if (!answers)
        return NULL;
    answer = (tx_slot *)PyBytes_AS_STRING(answers);
    while (at < left && done < most && used < room && plain_packet(slot + at, left - at, &packet)) {
        if (fetch_packet(self, &packet, addr + used, (Frames *)args[4], args[5])) {
            Py_DECREF(answers);
            return NULL;
        }
        answer_packet(slot + at, &packet, answer + at);
        used += (packet.offset + packet.length + PAGE_SIZE - 1) & -PAGE_SIZE;
        at += packet.slots;
        done++;
    }
    if (_PyBytes_Resize(&answers, at * sizeof(tx_slot)))
        return NULL;
    PyList_Reverse(args[5]);
    return pack(3, (PyObject *[]){answers, PyLong_FromSsize_t(at), PyLong_FromSsize_t(used)});
}

/* --- assemble.py: frames out of rx slots */

/* The frame that begins at slot `at`, added to `frames`: how many slots, 0 in doubt, -1 for an exception. */
static int plain_frame(const rx_slot *slot, Py_ssize_t left, int64_t base, int64_t at, Frames *frames)
{
    int flags = slot->response.flags, more = MORE_DATA, last = XEN_NETIF_NR_SLOTS_MIN - 1, i = 0;
    int64_t word = 0, addr = -1, size = 0, total = 0;

    if (flags & NETRXF_csum_blank)
        word = CSUM_BLANK | DATA_VALIDATED;
    else if (flags & NETRXF_data_validated)
        word = DATA_VALIDATED;
    if (flags & EXTRA_INFO) {
        int64_t gso = left > 1 ? gso_of(&slot[1].extra) : 0;

        if (!gso || !(flags & NETRXF_csum_blank))
            return 0;
        word |= gso;
        last++;
    }
    if (api->add(frames, word, 0))
        return -1;
    for (const rx_slot *now = slot, *end = slot + (left <= last ? left : last + 1); more; now++) {
        int32_t offset, filled;
        int64_t place;

        if (now == slot + 1 && flags & EXTRA_INFO)
            now++;
        if (now >= end)
            return 0;
        offset = now->response.offset;
        filled = now->response.status;
        more = now->response.flags & MORE_DATA;
        if (filled < (now == slot ? ETH_HLEN : 1) || offset + filled > PAGE_SIZE)
            return 0;
        place = base + (((at + (now - slot)) & (RING_SLOTS - 1)) << PAGE_SHIFT) + offset;
        i = now - slot + 1;
        if (place == addr + size) {
            size += filled;
        } else {
            if (size && api->add_piece(frames, addr, size, DOMID_SELF, 0))
                return -1;
            addr = place;
            size = filled;
        }
        total += filled;
    }
    if (total > XEN_NETIF_MAX_TX_SIZE)
        return 0;
    frames->frame[frames->count - 1].length = total;
    if (api->add_piece(frames, addr, size, DOMID_SELF, 0))
        return -1;
    return i == 1 && flags & EXTRA_INFO ? 2 : i;
}

static PyObject *slots_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const rx_slot *slot;
    PyObject *frames;
    Py_ssize_t count;
    long long first, base;
    int taken;

    if (nargs != 3 || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "frames(response slots, first, base)");
        return NULL;
    }
    slot = (const rx_slot *)PyBytes_AS_STRING(args[0]);
    count = PyBytes_GET_SIZE(args[0]) / sizeof(rx_slot);
    first = PyLong_AsLongLong(args[1]);
    base = PyLong_AsLongLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    frames = PyObject_CallNoArgs((PyObject *)api->type);
    if (!frames)
        return NULL;
    for (Py_ssize_t at = 0; at < count; at += taken) {
        taken = plain_frame(slot + at, count - at, base, first + at, (Frames *)frames);
        if (taken <= 0) {
            Py_DECREF(frames);
            if (taken < 0)
                return NULL;
            Py_RETURN_NONE;
        }
    }
    return frames;
}

/* --- scatter.py: frames into rx slots, and the copies that fill them */

typedef struct {
    PyObject_HEAD
    int32_t domid;
} Scatter;

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

/* What the slots of a frame say. */
static void answer(const Frame *frame, const rx_request *requests, rx_slot *slots)
{
    int32_t left = frame->length;
    int gso = frame->word & GSO_TYPE_MASK ? 1 : 0, flags = gso ? EXTRA_INFO : 0;

    if (frame->word & CSUM_BLANK)
        flags |= NETRXF_csum_blank | NETRXF_data_validated;
    else if (frame->word & DATA_VALIDATED)
        flags |= NETRXF_data_validated;
    for (; left > PAGE_SIZE; left -= PAGE_SIZE) {
        *slots++ = (rx_slot){.response = {(requests++)->id, 0, flags | MORE_DATA, PAGE_SIZE}};
        if (flags & EXTRA_INFO) {
            set_gso(&(slots++)->extra, frame->word);
            requests++;
        }
        flags = 0;
    }
    *slots++ = (rx_slot){.response = {requests->id, 0, flags, left}};
    if (flags & EXTRA_INFO)
        set_gso(&slots->extra, frame->word);
}

/* The copy at hand: one op, or neighbours on both sides as one. */
typedef struct {
    int64_t src, dst;
    int32_t owner, src_offset, dst_offset, length;
} Run;

static int emit(const Scatter *self, const Run *run, PyObject *ops)
{
    int32_t flags = GNTCOPY_dest_gref;

    if (!run->length)
        return 0;
    if (run->owner != DOMID_SELF)
        flags |= GNTCOPY_source_gref;
    if (run->length > PAGE_SIZE)
        flags |= COPY_RUN;
    return add_op(ops, new_op(run->src, run->owner, run->src_offset, run->dst, self->domid, run->dst_offset,
                              run->length, flags));
}

/* The copies that lay a frame's pieces into its pages, each filled from offset 0 on. */
static int copies(const Scatter *self, const Frames *frames, const Frame *frame, const rx_request *requests,
                  Py_ssize_t count, PyObject *ops)
{
    int gso = frame->word & GSO_TYPE_MASK ? 1 : 0;
    Py_ssize_t filled = 0;
    Run run = {0};

    for (int i = 0; i < frame->count; i++) {
        const Piece *piece = frames->piece + frame->first + i;
        int64_t addr = piece->addr, left = piece->size;

        while (left > 0) {
            Py_ssize_t page = filled >> PAGE_SHIFT, slot = page ? page + gso : 0;
            int32_t from = addr & (PAGE_SIZE - 1), to = filled & (PAGE_SIZE - 1), size;
            int64_t src = addr >> PAGE_SHIFT, dst;

            if (slot >= count)
                return 0; /* pieces longer than their frame: nobody makes such */
            if (piece->domid != DOMID_SELF)
                src += piece->gref - (piece->addr >> PAGE_SHIFT);
            dst = requests[slot].gref;
            size = PAGE_SIZE - (from > to ? from : to);
            if (size > left)
                size = left;
            if (!from && !to && run.length && !(run.length & (PAGE_SIZE - 1)) && !run.src_offset && !run.dst_offset &&
                run.owner == piece->domid && src == run.src + (run.length >> PAGE_SHIFT) &&
                dst == run.dst + (run.length >> PAGE_SHIFT)) {
                run.length += size;
            } else {
                if (emit(self, &run, ops))
                    return -1;
                run = (Run){src, dst, piece->domid, from, to, size};
            }
            addr += size;
            left -= size;
            filled += size;
            if (run.src_offset || run.dst_offset || run.length & (PAGE_SIZE - 1))
                continue;
            /* whole pages behind it, and its end: the references tell where the neighbours end */
            for (slot = (filled >> PAGE_SHIFT) + gso, dst = run.dst + (run.length >> PAGE_SHIFT);
                 left > 0 && slot < count && requests[slot].gref == dst; slot++, dst++) {
                size = left < PAGE_SIZE ? left : PAGE_SIZE;
                run.length += size;
                addr += size;
                left -= size;
                filled += size;
            }
        }
    }
    return emit(self, &run, ops);
}

static PyObject *scatter_burst(Scatter *self, PyObject *const *args, Py_ssize_t nargs)
{
    const Frames *frames;
    PyObject *ops, *answers;
    const rx_request *requests;
    Py_ssize_t available, slots = 0, size = 0, done = 0, at;

    if (nargs != 3 || !Py_IS_TYPE(args[0], api->type) || !PyBytes_Check(args[1]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "burst(Frames, request slots, list for the copies)");
        return NULL;
    }
    frames = (const Frames *)args[0];
    requests = (const rx_request *)PyBytes_AS_STRING(args[1]);
    available = PyBytes_GET_SIZE(args[1]) / sizeof(rx_request);
    ops = args[2];
    for (; done < frames->count; done++) {
        Py_ssize_t needed = slots_of(frames->frame[done].word, frames->frame[done].length);

        if (slots + needed > available)
            break;
        slots += needed;
        size += frames->frame[done].length;
    }
    answers = PyBytes_FromStringAndSize(NULL, slots * sizeof(rx_slot));
    if (!answers)
        return NULL;
    at = slots;
    for (Py_ssize_t i = done; i-- > 0;) { /* from the last one on: it is still in the cache */
        const Frame *frame = frames->frame + i;
        Py_ssize_t count = slots_of(frame->word, frame->length);

        at -= count;
        answer(frame, requests + at, (rx_slot *)PyBytes_AS_STRING(answers) + at);
        if (copies(self, frames, frame, requests + at, count, ops)) {
            Py_DECREF(answers);
            return NULL;
        }
    }
    return pack(4, (PyObject *[]){answers, PyLong_FromSsize_t(slots), PyLong_FromSsize_t(done),
                                  PyLong_FromSsize_t(size)});
}

static PyMethodDef gather_methods[] = {
    {"burst", (PyCFunction)(void (*)(void))gather_burst, METH_FASTCALL, "See slots.py."},
    {NULL},
};

static PyTypeObject Gather_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.netif._slots.Gather",
    .tp_doc = "Packets off one ring.",
    .tp_basicsize = sizeof(Gather),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = gather_new,
    .tp_methods = gather_methods,
};

static PyMethodDef scatter_methods[] = {
    {"burst", (PyCFunction)(void (*)(void))scatter_burst, METH_FASTCALL, "See slots.py."},
    {NULL},
};

static PyTypeObject Scatter_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "xnet.netif._slots.Scatter",
    .tp_doc = "Places for the frames of one ring.",
    .tp_basicsize = sizeof(Scatter),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = scatter_new,
    .tp_methods = scatter_methods,
};

static PyMethodDef functions[] = {
    {"requests", (PyCFunction)(void (*)(void))slots_requests, METH_FASTCALL, "See slots.py."},
    {"answered", (PyCFunction)(void (*)(void))slots_answered, METH_FASTCALL, "See slots.py."},
    {"frames", (PyCFunction)(void (*)(void))slots_frames, METH_FASTCALL, "See slots.py."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_slots",
    .m_doc = "What slots say, where nothing is in doubt.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__slots(void)
{
    PyObject *found;

    new_op = (new_op_t *)PyCapsule_Import(NEW_OP, 0);
    api = import_frames();
    if (!new_op || !api)
        return NULL;
    found = PyModule_Create(&module);
    if (found && (PyModule_AddType(found, &Gather_Type) || PyModule_AddType(found, &Scatter_Type)))
        Py_CLEAR(found);
    return found;
}
