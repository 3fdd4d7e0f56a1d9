/* The offload word: see chain.py. */
#ifndef XNET_WORD_H
#define XNET_WORD_H

#define CSUM_BLANK 1
#define DATA_VALIDATED 2
#define GSO_TYPE_SHIFT 8
#define GSO_TYPE_MASK 0xFF00
#define GSO_TCPV4 (1 << GSO_TYPE_SHIFT)
#define GSO_SIZE_SHIFT 16

#endif
