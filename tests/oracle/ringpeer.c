/*
 * Either end of Xen's own rings, by the macros of io/ring.h and the types of io/netif.h, in a process of its own: a
 * test plays it against Python's ends through one memfd.
 *
 *   ringpeer FD SIZE    maps SIZE bytes of descriptor FD and obeys the lines on stdin, one answer line for each
 *
 * A line names an end by a number 0 to 15, then says what to do. Numbers are decimal; indices are 32 bits.
 *   N front|back tx|rx OFFSET INDEX   attach to the page at byte OFFSET, starting at INDEX (*_RING_ATTACH)
 *   N init                            SHARED_RING_INIT on its page
 *   N request A B C ...               front: fill the next request slot (tx: gref offset flags id size, rx: id gref)
 *   N extra A B C D E F               fill the next slot, request or response, with an extra_info
 *                                     (type flags size gso_type pad features)
 *   N response A B ...                back: fill the next response slot (tx: id status, rx: id offset flags status)
 *   N push                            publish and say whether to notify: 0 or 1 (*_AND_CHECK_NOTIFY)
 *   N pending                         what is there to be consumed (RING_HAS_UNCONSUMED_*)
 *   N get                             consume one: the slot's fields as above
 *   N final                           0: may sleep, 1: there is work (RING_FINAL_CHECK_FOR_*)
 *   N free                            front: RING_FREE_REQUESTS
 *   N sane                            0: the other end's producer is impossible (RING_*_PROD_OVERFLOW)
 * Answers: "ok", a number, or numbers; "error WHY" for a line that makes no sense. A slot is zeroed before it is
 * filled, so that no padding tells tales.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#define xen_mb() __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/io/netif.h>
#include <xen/io/ring.h>

#define ENDS 16
#define PAGE 4096

struct end {
    enum { NONE, TX_FRONT, TX_BACK, RX_FRONT, RX_BACK } kind;
    union {
        netif_tx_front_ring_t tx_front;
        netif_tx_back_ring_t tx_back;
        netif_rx_front_ring_t rx_front;
        netif_rx_back_ring_t rx_back;
    } u;
};

static struct end ends[ENDS];
static unsigned char *memory;
static size_t memory_size;

static void attach(struct end *end, int front, int tx, void *page, RING_IDX index)
{
    end->kind = front ? (tx ? TX_FRONT : RX_FRONT) : (tx ? TX_BACK : RX_BACK);
    switch (end->kind) {
    case TX_FRONT: FRONT_RING_ATTACH(&end->u.tx_front, (netif_tx_sring_t *)page, index, PAGE); break;
    case TX_BACK: BACK_RING_ATTACH(&end->u.tx_back, (netif_tx_sring_t *)page, index, PAGE); break;
    case RX_FRONT: FRONT_RING_ATTACH(&end->u.rx_front, (netif_rx_sring_t *)page, index, PAGE); break;
    default: BACK_RING_ATTACH(&end->u.rx_back, (netif_rx_sring_t *)page, index, PAGE); break;
    }
}

static void init(struct end *end)
{
    switch (end->kind) {
    case TX_FRONT: SHARED_RING_INIT(end->u.tx_front.sring); break;
    case TX_BACK: SHARED_RING_INIT(end->u.tx_back.sring); break;
    case RX_FRONT: SHARED_RING_INIT(end->u.rx_front.sring); break;
    default: SHARED_RING_INIT(end->u.rx_back.sring); break;
    }
}

/* The slot that this end produces next, zeroed; the producer index moves on. */
static void *next_slot(struct end *end)
{
    void *slot;
    size_t size;

    switch (end->kind) {
    case TX_FRONT:
        slot = RING_GET_REQUEST(&end->u.tx_front, end->u.tx_front.req_prod_pvt++);
        size = sizeof(union netif_tx_sring_entry);
        break;
    case TX_BACK:
        slot = RING_GET_RESPONSE(&end->u.tx_back, end->u.tx_back.rsp_prod_pvt++);
        size = sizeof(union netif_tx_sring_entry);
        break;
    case RX_FRONT:
        slot = RING_GET_REQUEST(&end->u.rx_front, end->u.rx_front.req_prod_pvt++);
        size = sizeof(union netif_rx_sring_entry);
        break;
    default:
        slot = RING_GET_RESPONSE(&end->u.rx_back, end->u.rx_back.rsp_prod_pvt++);
        size = sizeof(union netif_rx_sring_entry);
        break;
    }
    return memset(slot, 0, size);
}

static int produce(struct end *end, const long *v, int count)
{
    static const int wanted[] = { 0, 5, 2, 2, 4 }; /* by kind */

    if (count != wanted[end->kind])
        return 0;
    switch (end->kind) {
    case TX_FRONT: *(netif_tx_request_t *)next_slot(end) = (netif_tx_request_t){
            .gref = v[0], .offset = v[1], .flags = v[2], .id = v[3], .size = v[4] };
        break;
    case TX_BACK: *(netif_tx_response_t *)next_slot(end) = (netif_tx_response_t){ .id = v[0], .status = v[1] };
        break;
    case RX_FRONT: *(netif_rx_request_t *)next_slot(end) = (netif_rx_request_t){ .id = v[0], .gref = v[1] };
        break;
    default: *(netif_rx_response_t *)next_slot(end) = (netif_rx_response_t){
            .id = v[0], .offset = v[1], .flags = v[2], .status = v[3] };
        break;
    }
    return 1;
}

static void extra(struct end *end, const long *v)
{
    netif_extra_info_t *slot = next_slot(end);

    slot->type = v[0];
    slot->flags = v[1];
    slot->u.gso.size = v[2];
    slot->u.gso.type = v[3];
    slot->u.gso.pad = v[4];
    slot->u.gso.features = v[5];
}

static int push(struct end *end)
{
    int notify;

    switch (end->kind) {
    case TX_FRONT: RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&end->u.tx_front, notify); break;
    case TX_BACK: RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&end->u.tx_back, notify); break;
    case RX_FRONT: RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&end->u.rx_front, notify); break;
    default: RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&end->u.rx_back, notify); break;
    }
    return notify;
}

static unsigned pending(struct end *end)
{
    switch (end->kind) {
    case TX_FRONT: return RING_HAS_UNCONSUMED_RESPONSES(&end->u.tx_front);
    case TX_BACK: return RING_HAS_UNCONSUMED_REQUESTS(&end->u.tx_back);
    case RX_FRONT: return RING_HAS_UNCONSUMED_RESPONSES(&end->u.rx_front);
    default: return RING_HAS_UNCONSUMED_REQUESTS(&end->u.rx_back);
    }
}

static void get(struct end *end)
{
    netif_tx_request_t tx_request;
    netif_tx_response_t tx_response;
    netif_rx_request_t rx_request;
    netif_rx_response_t rx_response;

    switch (end->kind) {
    case TX_FRONT:
        RING_COPY_RESPONSE(&end->u.tx_front, end->u.tx_front.rsp_cons++, &tx_response);
        printf("%u %d\n", tx_response.id, tx_response.status);
        break;
    case TX_BACK:
        RING_COPY_REQUEST(&end->u.tx_back, end->u.tx_back.req_cons++, &tx_request);
        printf("%u %u %u %u %u\n", tx_request.gref, tx_request.offset, tx_request.flags, tx_request.id,
               tx_request.size);
        break;
    case RX_FRONT:
        RING_COPY_RESPONSE(&end->u.rx_front, end->u.rx_front.rsp_cons++, &rx_response);
        printf("%u %u %u %d\n", rx_response.id, rx_response.offset, rx_response.flags, rx_response.status);
        break;
    default:
        RING_COPY_REQUEST(&end->u.rx_back, end->u.rx_back.req_cons++, &rx_request);
        printf("%u %u\n", rx_request.id, rx_request.gref);
        break;
    }
}

static int final(struct end *end)
{
    int work;

    switch (end->kind) {
    case TX_FRONT: RING_FINAL_CHECK_FOR_RESPONSES(&end->u.tx_front, work); break;
    case TX_BACK: RING_FINAL_CHECK_FOR_REQUESTS(&end->u.tx_back, work); break;
    case RX_FRONT: RING_FINAL_CHECK_FOR_RESPONSES(&end->u.rx_front, work); break;
    default: RING_FINAL_CHECK_FOR_REQUESTS(&end->u.rx_back, work); break;
    }
    return !!work;
}

static int sane(struct end *end)
{
    switch (end->kind) {
    case TX_FRONT: return !RING_RESPONSE_PROD_OVERFLOW(&end->u.tx_front, end->u.tx_front.sring->rsp_prod);
    case TX_BACK: return !RING_REQUEST_PROD_OVERFLOW(&end->u.tx_back, end->u.tx_back.sring->req_prod);
    case RX_FRONT: return !RING_RESPONSE_PROD_OVERFLOW(&end->u.rx_front, end->u.rx_front.sring->rsp_prod);
    default: return !RING_REQUEST_PROD_OVERFLOW(&end->u.rx_back, end->u.rx_back.sring->req_prod);
    }
}

static void obey(char *line)
{
    char *words[10], *save = NULL;
    long v[8] = { 0 };
    int count = 0;
    struct end *end;

    for (char *word = strtok_r(line, " \n", &save); word && count < 10; word = strtok_r(NULL, " \n", &save))
        words[count++] = word;
    if (count < 2 || atoi(words[0]) < 0 || atoi(words[0]) >= ENDS) {
        puts("error which end, and what");
        return;
    }
    end = &ends[atoi(words[0])];
    for (int i = 2; i < count; i++)
        v[i - 2] = strtol(words[i], NULL, 10);
    if (count == 5 && (!strcmp(words[1], "front") || !strcmp(words[1], "back"))) {
        if (v[1] < 0 || v[1] % PAGE || (size_t)v[1] + PAGE > memory_size) {
            puts("error no such page");
            return;
        }
        attach(end, !strcmp(words[1], "front"), !strcmp(words[2], "tx"), memory + v[1], v[2]);
        puts("ok");
    } else if (end->kind == NONE) {
        puts("error not attached");
    } else if (!strcmp(words[1], "init")) {
        init(end);
        puts("ok");
    } else if (!strcmp(words[1], "extra") && count == 8) {
        extra(end, v);
        puts("ok");
    } else if (!strcmp(words[1], end->kind == TX_FRONT || end->kind == RX_FRONT ? "request" : "response")) {
        puts(produce(end, v, count - 2) ? "ok" : "error how many fields");
    } else if (!strcmp(words[1], "push")) {
        printf("%d\n", push(end));
    } else if (!strcmp(words[1], "pending")) {
        printf("%u\n", pending(end));
    } else if (!strcmp(words[1], "get")) {
        get(end);
    } else if (!strcmp(words[1], "final")) {
        printf("%d\n", final(end));
    } else if (!strcmp(words[1], "sane")) {
        printf("%d\n", sane(end));
    } else if (!strcmp(words[1], "free") && end->kind == TX_FRONT) {
        printf("%u\n", RING_FREE_REQUESTS(&end->u.tx_front));
    } else if (!strcmp(words[1], "free") && end->kind == RX_FRONT) {
        printf("%u\n", RING_FREE_REQUESTS(&end->u.rx_front));
    } else {
        puts("error no such order for this end");
    }
}

int main(int argc, char **argv)
{
    char line[256];

    if (argc != 3) {
        fprintf(stderr, "usage: ringpeer FD SIZE\n");
        return 2;
    }
    memory_size = strtoul(argv[2], NULL, 10);
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (memory == MAP_FAILED) {
        perror("ringpeer: mmap");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin))
        obey(line);
    return 0;
}
