/* Frames out of a packet socket, which never blocks: see packet.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "../frame/_frames.h"
#include "_burst.h"

#define TAG_AT 12
#define TAG 4
#define BESIDE CMSG_SPACE(sizeof(struct tpacket_auxdata))

/* Put the tag that was told beside a frame into it: by how many bytes it grows. */
static int tag_again(uint8_t *frame, size_t length, struct msghdr *told, uint8_t *header, size_t size)
{
    struct cmsghdr *each;
    struct tpacket_auxdata aux = {0};
    struct virtio_net_hdr vnet;
    uint16_t tag[2];

    for (each = CMSG_FIRSTHDR(told); each; each = CMSG_NXTHDR(told, each))
        if (each->cmsg_level == SOL_PACKET && each->cmsg_type == PACKET_AUXDATA &&
            each->cmsg_len >= CMSG_LEN(sizeof aux))
            memcpy(&aux, CMSG_DATA(each), sizeof aux);
    if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || length < TAG_AT)
        return 0;
    tag[0] = htons(aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q);
    tag[1] = htons(aux.tp_vlan_tci);
    memmove(frame + TAG_AT + TAG, frame + TAG_AT, length - TAG_AT);
    memcpy(frame + TAG_AT, tag, TAG);
    if (size != sizeof vnet)
        return TAG;
    memcpy(&vnet, header, sizeof vnet);
    if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        vnet.csum_start += TAG;
        if (vnet.gso_type)
            vnet.hdr_len += TAG;
        memcpy(header, &vnet, sizeof vnet);
    }
    return TAG;
}

/* One frame: its length, 0 for less than a header, or the negative errno. */
static ssize_t take(int fd, uint8_t *frame, uint8_t *header, size_t size)
{
    struct iovec iov[2] = {{header, size}, {frame, FRAME_MAX - TAG}};
    union {
        struct cmsghdr align;
        char room[BESIDE];
    } beside;
    struct msghdr told = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &beside, .msg_controllen = sizeof beside};
    ssize_t got;

    do
        got = recvmsg(fd, &told, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (told.msg_flags & MSG_TRUNC)
        return -EMSGSIZE;
    if ((size_t)got <= size)
        return 0;
    got -= size;
    return got + tag_again(frame, got, &told, header, size);
}

static PyObject *packet_receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return burst(args, nargs, take);
}

static PyMethodDef functions[] = {
    {"receive", (PyCFunction)(void (*)(void))packet_receive, METH_FASTCALL, "See packet.py."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_packet",
    .m_doc = "Frames out of packet sockets.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__packet(void)
{
    return PyModule_Create(&module);
}
