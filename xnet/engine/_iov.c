/* Frames in and out of a TAP, which never blocks: see iov.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "../frame/_frames.h"
#include "../frame/_shape.h"
#include "_burst.h"
#include "_gro.h"

static const frames_api *api;

#define MOST 260 /* buffers: a header, and a ringful of slots if somebody cuts a frame that small */

/* Bytes, or the negative errno. */
static ssize_t transfer(ssize_t (*call)(int, const struct iovec *, int), int fd, const struct iovec *iov, int count)
{
    ssize_t done;

    do
        done = call(fd, iov, count);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}

/* readv of one. */
static ssize_t take(int fd, uint8_t *frame, uint8_t *header, size_t size)
{
    struct iovec iov[2] = {{header, size}, {frame, FRAME_MAX}};
    ssize_t got = transfer(readv, fd, iov, 2);

    return got > (ssize_t)size ? got - (ssize_t)size : got < 0 ? got : 0;
}

static PyObject *iov_receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return burst(args, nargs, take);
}

/* Where the pieces of a frame are: how many, -1 with an exception, or 0 for too many. */
static int places(const Frames *frames, const Frame *frame, const Py_buffer *memory, struct iovec *iov)
{
    if (frame->count >= MOST)
        return 0;
    for (int i = 0; i < frame->count; i++) {
        const Piece *piece = frames->piece + frame->first + i;

        if (piece->addr > memory->len || piece->size > memory->len - piece->addr) {
            PyErr_SetString(PyExc_ValueError, "not in memory");
            return -1;
        }
        iov[i].iov_base = (char *)memory->buf + piece->addr;
        iov[i].iov_len = piece->size;
    }
    return frame->count;
}

/* `header_shape` of a frame that may be in pieces. */
static int shape_of(int64_t word, const struct iovec *iov, int count)
{
    uint8_t head[SHAPED];
    size_t there = 0;

    if (iov->iov_len >= SHAPED || count == 1)
        return header_shape(word, iov->iov_base, iov->iov_len);
    for (int i = 0; i < count && there < SHAPED; i++) {
        size_t size = iov[i].iov_len < SHAPED - there ? iov[i].iov_len : SHAPED - there;

        memcpy(head + there, iov[i].iov_base, size);
        there += size;
    }
    return header_shape(word, head, there);
}

/* How many frames behind number `at`, which is to be segmented, go on where it ends. iov[0] is its virtio-net header and
 * that of all, iov[1] on are its pieces, `*count` of them: then iov[0] has the headers of all as one frame's besides, in
 * `to`, and the data of the others is in more pieces. */
static int joined(const Frames *frames, Py_ssize_t at, const Py_buffer *memory, struct iovec *iov, int *count,
                  uint8_t *to)
{
    const uint8_t *first = iov[1].iov_base;
    uint32_t length = frames->frame[at].length, segment, seq;
    int headers = stream_headers(first, iov[1].iov_len, length), more = 0;
    uint8_t flags = 0;

    segment = headers ? segment_of(frames->frame[at].word, 0) : 0;
    if (!segment || iov[0].iov_len != VNET || (length - headers) % segment)
        return 0;
    seq = get32(first + SEQ_AT) + length - headers;
    while (++at < frames->count) {
        const Frame *next = frames->frame + at;
        struct iovec *behind = iov + 1 + *count;
        uint32_t payload = next->length - headers;
        int pieces = *count + next->count < MOST ? places(frames, next, memory, behind) : 0;

        if (pieces <= 0 || stream_headers(behind->iov_base, behind->iov_len, next->length) != headers ||
            !goes_on(first, behind->iov_base, headers, seq) || length + payload > PACKET_MAX + ETH_HLEN ||
            (next->word & GSO_TYPE_MASK ? segment_of(next->word, payload) != segment
                                        : payload > segment || !segment_of(next->word, payload)))
            break;
        flags |= ((uint8_t *)behind->iov_base)[FLAGS_AT];
        behind->iov_base = (char *)behind->iov_base + headers;
        behind->iov_len -= headers;
        *count += pieces;
        length += payload;
        seq += payload;
        more++;
        if (payload % segment)
            break;
    }
    PyErr_Clear(); /* a frame not in memory is met again */
    if (!more)
        return 0;
    memcpy(to, iov[0].iov_base, VNET);
    joined_headers(to + VNET, first, headers, length, flags);
    iov[0] = (struct iovec){to, VNET + headers};
    iov[1].iov_base = (char *)iov[1].iov_base + headers;
    iov[1].iov_len -= headers;
    return more;
}

/* send(fd, memory, frames, at, header, word, shape, gro) */
static PyObject *iov_send(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct iovec iov[MOST];
    uint8_t headers[VNET + HEADERS_MAX];
    Py_buffer memory;
    const Frames *frames;
    Py_ssize_t at, joins = 0;
    ssize_t put = 0;
    unsigned long wanted;
    int fd, shape, gro, count = 0;

    if (nargs != 8 || !Py_IS_TYPE(args[2], api->type) || !PyBytes_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "send(fd, memory, Frames, at, header, word, shape, gro)");
        return NULL;
    }
    fd = (int)PyLong_AsLong(args[0]);
    frames = (const Frames *)args[2];
    at = PyLong_AsSsize_t(args[3]);
    wanted = PyLong_AsUnsignedLong(args[5]);
    shape = (int)PyLong_AsLong(args[6]);
    gro = args[7] == Py_True;
    if (PyErr_Occurred() || PyObject_GetBuffer(args[1], &memory, PyBUF_SIMPLE))
        return NULL;
    for (; at >= 0 && at < frames->count; at++) {
        const Frame *frame = frames->frame + at;
        int more = 0;

        if (shape >= 0 && frame->word != wanted)
            break;
        count = places(frames, frame, &memory, iov + 1);
        if (count < 0 || (count && shape >= 0 && shape_of(wanted, iov + 1, count) != shape))
            break;
        iov[0] = (struct iovec){PyBytes_AS_STRING(args[4]), PyBytes_GET_SIZE(args[4])};
        if (gro && wanted & GSO_TYPE_MASK && shape >= 0 && count && at + 1 < frames->count)
            more = joined(frames, at, &memory, iov, &count, headers);
        put = count ? transfer(writev, fd, iov, count + 1) : -EINVAL;
        if (put < 0)
            break;
        at += more;
        joins += more;
        if (shape < 0) {
            at++;
            break;
        }
    }
    PyBuffer_Release(&memory);
    if (count < 0)
        return NULL;
    return pack(3, (PyObject *[]){PyLong_FromSsize_t(at), PyLong_FromSsize_t(put < 0 ? -put : 0),
                                  PyLong_FromSsize_t(joins)});
}

static PyMethodDef functions[] = {
    {"receive", (PyCFunction)(void (*)(void))iov_receive, METH_FASTCALL, "See iov.py."},
    {"send", (PyCFunction)(void (*)(void))iov_send, METH_FASTCALL, "See iov.py."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_iov",
    .m_doc = "Frames in and out of descriptors that never block.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__iov(void)
{
    api = import_frames();
    return api ? PyModule_Create(&module) : NULL;
}
