/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The traffic: a process in each guest that sends datagrams at a pace, and counts and times what it receives.
 *
 *   load
 *
 * Ordered on standard input, a line each; what it answers is a line too, or lines that end with a line ".":
 *
 *   listen RUN START                     count the datagrams of this run from now on, in bins since START     ok
 *   send RUN START END RATE SIZE ADDR... SIZE bytes, RATE a second (0: as fast as it goes), round robin       JSON
 *   heard                                what has been counted                                                JSON
 *   read PATH                            a file as this guest sees it                                         lines
 *
 * Times are CLOCK_MONOTONIC in ns, which all guests share: a datagram carries when it was sent, at its beginning and at
 * its end, so the receiver knows the latency of each and whether all of it came. Latencies go into a histogram with 32
 * steps an octave. Ends when standard input does, that is with its parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT = 7077,
    BATCH = 16,
    SIZE_MAX_ = 65536,
    STEPS = 32,
    BUCKETS = 40 * STEPS,
    BINS = 1200,
    BIN_NS = 50000000,
    TARGETS = 64,
    BURST = 32,
    BUFFER = 8 << 20,
};

struct stamp {
    uint64_t run, sent;
};

static struct {
    uint64_t run, start, frames, bytes, damaged, strays, first, last, buckets[BUCKETS], bins[BINS];
} heard;

static unsigned char data[BATCH][SIZE_MAX_];
static int sock;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000u, .tv_nsec = ns % 1000000000u};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static int bucket_of(uint64_t ns)
{
    int shift = 0;

    while ((ns >> shift) >= 2 * STEPS)
        shift++;
    int bucket = shift * STEPS + (int)(ns >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static void count(const unsigned char *bytes, size_t size, uint64_t now)
{
    struct stamp head, tail;

    if (size < sizeof head + sizeof tail) {
        heard.strays++;
        return;
    }
    memcpy(&head, bytes, sizeof head);
    memcpy(&tail, bytes + size - sizeof tail, sizeof tail);
    if (head.run != heard.run) {
        heard.strays++; /* of a run that is over */
        return;
    }
    if (memcmp(&head, &tail, sizeof head) != 0)
        heard.damaged++;
    heard.frames++;
    heard.bytes += size;
    heard.buckets[bucket_of(now > head.sent ? now - head.sent : 0)]++;
    if (!heard.first)
        heard.first = now;
    heard.last = now;
    uint64_t bin = now > heard.start ? (now - heard.start) / BIN_NS : 0;
    if (bin < BINS)
        heard.bins[bin]++;
}

static void receive(void)
{
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];

    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], SIZE_MAX_};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(sock, messages, BATCH, MSG_DONTWAIT, NULL);
    uint64_t now = now_ns();
    for (int i = 0; i < n; i++)
        count(data[i], messages[i].msg_len, now);
}

static void say_numbers(const char *name, const uint64_t *numbers, int n)
{
    const char *between = "";

    printf(",\"%s\":[", name);
    for (int i = 0; i < n; i++)
        if (numbers[i]) {
            printf("%s[%d,%llu]", between, i, (unsigned long long)numbers[i]);
            between = ",";
        }
    printf("]");
}

static void say_heard(void)
{
    printf("{\"frames\":%llu,\"bytes\":%llu,\"damaged\":%llu,\"strays\":%llu,\"first\":%llu,\"last\":%llu",
           (unsigned long long)heard.frames, (unsigned long long)heard.bytes, (unsigned long long)heard.damaged,
           (unsigned long long)heard.strays, (unsigned long long)heard.first, (unsigned long long)heard.last);
    say_numbers("latency", heard.buckets, BUCKETS);
    say_numbers("bins", heard.bins, BINS);
    printf("}\n");
}

/* An open loop: what is late by more than 20 ms is left out, not sent in a burst. */
static void send_all(uint64_t run, uint64_t start, uint64_t end, double rate, size_t size,
                     const struct sockaddr_in *to, int n)
{
    static unsigned char bytes[SIZE_MAX_];
    uint64_t sent = 0, refused = 0, behind = 0, turn = 0, now;

    sleep_until(start);
    while ((now = now_ns()) < end) {
        uint64_t due = rate > 0 ? (uint64_t)((double)(now - start) * rate / 1e9) + 1 : turn + BURST;
        if (rate > 0 && due > turn + (uint64_t)(rate / 50) + 1) {
            behind += due - turn - 1;
            turn = due - 1;
        }
        for (int i = 0; i < BURST && turn < due; i++, turn++) {
            struct stamp stamp = {run, now_ns()};

            memcpy(bytes, &stamp, sizeof stamp);
            memcpy(bytes + size - sizeof stamp, &stamp, sizeof stamp);
            if (sendto(sock, bytes, size, 0, (const struct sockaddr *)&to[turn % n], sizeof *to) < 0)
                refused++;
            else
                sent++;
        }
        if (turn >= due && rate > 0)
            sleep_until(start + (uint64_t)((double)turn * 1e9 / rate));
    }
    printf("{\"sent\":%llu,\"refused\":%llu,\"behind\":%llu,\"ended\":%llu}\n", (unsigned long long)sent,
           (unsigned long long)refused, (unsigned long long)behind, (unsigned long long)now);
}

static void order_send(char *rest)
{
    struct sockaddr_in to[TARGETS];
    unsigned long long run, start, end;
    double rate;
    size_t size;
    int used, n = 0;

    if (sscanf(rest, "%llu %llu %llu %lf %zu%n", &run, &start, &end, &rate, &size, &used) != 5 ||
        size < 2 * sizeof(struct stamp) || size > SIZE_MAX_) {
        printf("bad send\n");
        return;
    }
    for (char *word = strtok(rest + used, " \n"); word && n < TARGETS; word = strtok(NULL, " \n")) {
        to[n] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT)};
        n += inet_pton(AF_INET, word, &to[n].sin_addr) == 1;
    }
    if (n)
        send_all(run, start, end, rate, size, to, n);
    else
        printf("no address\n");
}

static void order_read(char *path)
{
    char line[4096];

    path[strcspn(path, "\n")] = 0;
    FILE *file = fopen(path, "r");
    if (file) {
        while (fgets(line, sizeof line, file))
            fputs(line, stdout);
        fclose(file);
    }
    printf(".\n");
}

static void obey(char *line)
{
    unsigned long long run, start;

    if (sscanf(line, "listen %llu %llu", &run, &start) == 2) {
        memset(&heard, 0, sizeof heard);
        heard.run = run;
        heard.start = start;
        printf("ok\n");
    } else if (!strncmp(line, "heard", 5)) {
        say_heard();
    } else if (!strncmp(line, "send ", 5)) {
        order_send(line + 5);
    } else if (!strncmp(line, "read ", 5)) {
        order_read(line + 5);
    } else {
        printf("unknown order\n");
    }
    fflush(stdout);
}

int main(void)
{
    static char line[8192];
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int buffer = BUFFER;
    size_t fill = 0;

    prctl(PR_SET_NAME, "load");
    prctl(PR_SET_PDEATHSIG, 9);
    prctl(PR_SET_TIMERSLACK, 1000);
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    if (sock < 0 || bind(sock, (struct sockaddr *)&own, sizeof own) < 0) {
        perror("load");
        return 1;
    }
    struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (wait[1].revents)
            receive();
        if (!wait[0].revents)
            continue;
        ssize_t n = read(STDIN_FILENO, line + fill, sizeof line - 1 - fill);
        if (n <= 0)
            return 0;
        fill += (size_t)n;
        line[fill] = 0;
        if (memchr(line, '\n', fill)) { /* one order at a time: the next one comes after the answer */
            obey(line);
            fill = 0;
        }
    }
}
