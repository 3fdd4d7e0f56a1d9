/* Frames for the C of the floors above: see frames.py. */
#ifndef XNET_FRAMES_H
#define XNET_FRAMES_H

#include <Python.h>
#include <stdint.h>

#include "_word.h"

#define FEW_FRAMES 8 /* which most bursts have no more of */
#define FEW_PIECES 16

typedef struct {
    int64_t addr, size;
    uint32_t gref;
    uint16_t domid;
} Piece;

typedef struct {
    uint32_t word, length;
    int32_t first, count; /* of its pieces */
} Frame;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count, room, pieces, piece_room;
    Frame *frame;
    Piece *piece;
    Frame few_frames[FEW_FRAMES];
    Piece few_pieces[FEW_PIECES];
} Frames;

#define FRAMES_API "xnet.frame._frames.api" /* a capsule */

typedef struct {
    PyTypeObject *type;
    /* A frame without pieces at the end, and a piece at the end of the last frame: -1 with an exception. */
    int (*add)(Frames *frames, uint32_t word, uint32_t length);
    int (*add_piece)(Frames *frames, int64_t addr, int64_t size, uint16_t domid, uint32_t gref);
} frames_api;

/* A tuple of what is given, which it takes over. */
static inline PyObject *pack(int count, PyObject **items)
{
    PyObject *tuple = PyTuple_New(count);
    int bad = !tuple;

    for (int i = 0; i < count; i++) {
        bad |= !items[i];
        if (tuple)
            PyTuple_SET_ITEM(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (bad)
        Py_CLEAR(tuple);
    return tuple;
}

/* NULL with an exception. */
static inline const frames_api *import_frames(void)
{
    PyObject *module = PyImport_ImportModule("xnet.frame._frames");

    Py_XDECREF(module);
    return module ? PyCapsule_Import(FRAMES_API, 0) : NULL;
}

#endif
