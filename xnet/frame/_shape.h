/* A look at headers: see ether.py. Offsets are those of plain IPv4 (no tags, no options, no fragments): type at 12, IP
 * at 14, TCP or UDP at 34. */
#ifndef XNET_SHAPE_H
#define XNET_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#include "_word.h"

#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define SHAPED 128   /* bytes that hold every header of plain IPv4 */
#define SHAPE 0xF080 /* TCP's data offset, and CWR */

static inline int plain_protocol(const uint8_t *frame)
{
    if (frame[12] != 0x08 || frame[13] || frame[14] != 0x45 || frame[20] & 0x3F || frame[21])
        return 0;
    return frame[23];
}

/* TCP's data offset and flags; -1 if it is not TCP in plain IPv4. `size` is what is there of the frame. */
static inline int plain_tcp4(const uint8_t *frame, ptrdiff_t size)
{
    if (size < SHAPED || plain_protocol(frame) != PROTOCOL_TCP)
        return -1;
    return frame[46] << 8 | frame[47];
}

/* ether.header_shape */
static inline int header_shape(int64_t word, const uint8_t *frame, ptrdiff_t size)
{
    int found;

    if (word & GSO_TYPE_MASK) {
        found = (word & GSO_TYPE_MASK) == GSO_TCPV4 ? plain_tcp4(frame, size) : -1;
        return found < 0 ? -1 : found & SHAPE;
    }
    if (word & CSUM_BLANK) {
        found = size < 42 ? 0 : plain_protocol(frame);
        return found == PROTOCOL_UDP || (found == PROTOCOL_TCP && size >= 54) ? found : -1;
    }
    return 0;
}

#endif
