/* What GRO reads and writes of plain IPv4 (offsets as in _shape.h): see xnet/frame/gro.py. */
#ifndef XNET_GRO_H
#define XNET_GRO_H

#include <stdint.h>
#include <string.h>

#include "../frame/_shape.h"

enum {
    ETH_HLEN = 14,
    TOTAL_AT = 16,
    FRAGMENT_AT = 20,
    IP_SUM_AT = 24,
    SOURCE_AT = 26,
    TCP_AT = 34,
    SEQ_AT = 38,
    ACK_AT = 42,
    OFFSET_AT = 46,
    FLAGS_AT = 47,
    WINDOW_AT = 48,
    TCP_SUM_AT = 50,
    URGENT_AT = 52,
    HEADERS_MAX = TCP_AT + 60,
    PACKET_MAX = 65535,
    DONT_FRAGMENT = 0x40,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    VNET = 10, /* bytes of a virtio-net header */
};

static inline uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static inline uint32_t get32(const uint8_t *at)
{
    return get16(at) << 16 | get16(at + 2);
}

static inline void put16(uint8_t *at, uint32_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

/* The ones' complement sum of `size` bytes, an even number, and of `sum`. */
static inline uint32_t summed(uint32_t sum, const uint8_t *at, int size)
{
    for (int i = 0; i < size; i += 2)
        sum += get16(at + i);
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return sum;
}

/* Bytes of headers of a frame of `length` bytes that is data of a stream and nothing else, if they are all among its
 * first `size` bytes; else 0. */
static inline int stream_headers(const uint8_t *frame, int64_t size, uint32_t length)
{
    uint32_t offset;
    int headers;

    if (size < TCP_AT + 20 || plain_protocol(frame) != PROTOCOL_TCP || !(frame[FRAGMENT_AT] & DONT_FRAGMENT))
        return 0;
    offset = get16(frame + OFFSET_AT); /* and flags */
    headers = TCP_AT + (offset >> 12) * 4;
    if (headers < TCP_AT + 20 || headers > size || (uint32_t)headers >= length ||
        get16(frame + TOTAL_AT) + ETH_HLEN != length || (offset & 0xFFF & ~TCP_PSH) != TCP_ACK)
        return 0;
    return headers;
}

/* Payload bytes a segment, of `payload` in all; 0 if the checksum is not known to be right, or the word is odd. */
static inline uint32_t segment_of(uint32_t word, uint32_t payload)
{
    if (word & GSO_TYPE_MASK)
        return (word & GSO_TYPE_MASK) == GSO_TCPV4 ? word >> GSO_SIZE_SHIFT : 0;
    return word & (CSUM_BLANK | DATA_VALIDATED) ? payload : 0;
}

/* Whether `next` has the headers of what comes behind `frame`, with this sequence number. */
static inline int goes_on(const uint8_t *frame, const uint8_t *next, int headers, uint32_t seq)
{
    return get32(next + SEQ_AT) == seq && !memcmp(frame, next, TOTAL_AT) &&
           !memcmp(frame + FRAGMENT_AT, next + FRAGMENT_AT, IP_SUM_AT - FRAGMENT_AT) &&
           !memcmp(frame + SOURCE_AT, next + SOURCE_AT, SEQ_AT - SOURCE_AT) &&
           !memcmp(frame + ACK_AT, next + ACK_AT, FLAGS_AT - ACK_AT) &&
           !memcmp(frame + WINDOW_AT, next + WINDOW_AT, TCP_SUM_AT - WINDOW_AT) &&
           !memcmp(frame + URGENT_AT, next + URGENT_AT, headers - URGENT_AT);
}

/* The headers of a frame of `length` bytes: those of its first part, and what `flags` the others had. Its checksum is
 * blank. */
static inline void joined_headers(uint8_t *to, const uint8_t *first, int headers, uint32_t length, uint8_t flags)
{
    memcpy(to, first, headers);
    to[FLAGS_AT] |= flags;
    put16(to + TOTAL_AT, length - ETH_HLEN);
    put16(to + IP_SUM_AT, 0);
    put16(to + IP_SUM_AT, ~summed(0, to + ETH_HLEN, TCP_AT - ETH_HLEN));
    put16(to + TCP_SUM_AT, summed(PROTOCOL_TCP + length - TCP_AT, to + SOURCE_AT, 8) % 0xFFFF);
}

#endif
