/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ends of TCP connections, for what iperf3 does not do: one byte there and back, and many streams at once.
 *
 *   ends echo PORT                   one connection: a byte back for each that comes, until it ends
 *   ends ask ADDRESS PORT SECONDS    a byte, its answer, the next byte: {"turns": N, "p50_us": X, "p99_us": Y}
 *   ends sink PORT SECONDS GATE...   at each gate takes one stream for SECONDS: a line "START_NS END_NS BYTES"
 *   ends source ADDRESS PORT GATE... at each gate sends a stream until the sink hangs up: a line "done"
 *
 * A gate is the inherited fd of a pipe, and opens for all who wait at it when its writer closes it. Before the
 * first one, sink and source meet once (so the path works and knows the addresses) and say "ready". Time is
 * CLOCK_MONOTONIC, which is the same in all network namespaces.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 128 * 1024, MAX_TURNS = 1 << 20, MEET_S = 20, RETRY_US = 20000 };

static char block[BLOCK];
static uint32_t turn_ns[MAX_TURNS];

static void die(const char *what)
{
    fprintf(stderr, "ends: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t after(const char *seconds)
{
    return now_ns() + (int64_t)(atof(seconds) * 1e9);
}

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
        die("TCP with cubic");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return fd;
}

static int listening(const char *port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int fd = tcp_socket();

    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 8) < 0)
        die("listen");
    return fd;
}

static int connected(const char *address, const char *port)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int64_t until = now_ns() + MEET_S * 1000000000LL;

    if (inet_pton(AF_INET, address, &there.sin_addr) != 1)
        die(address);
    for (;;) {
        int fd = tcp_socket();

        if (connect(fd, (struct sockaddr *)&there, sizeof there) == 0)
            return fd;
        if (now_ns() > until)
            die("connect");
        close(fd);
        usleep(RETRY_US);
    }
}

static int by_length(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

static int echo(const char *port)
{
    int fd = accept(listening(port), NULL, NULL);

    while (read(fd, block, 1) == 1)
        if (write(fd, block, 1) != 1)
            break;
    return 0;
}

static int ask(const char *address, const char *port, const char *seconds)
{
    int fd = connected(address, port);
    int64_t until = after(seconds), before = now_ns();
    size_t turns = 0;

    while (before < until && turns < MAX_TURNS) {
        if (write(fd, block, 1) != 1 || read(fd, block, 1) != 1)
            die("no answer");
        int64_t now = now_ns();
        turn_ns[turns++] = (uint32_t)(now - before);
        before = now;
    }
    qsort(turn_ns, turns, sizeof *turn_ns, by_length);
    printf("{\"turns\": %zu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", turns, turn_ns[turns / 2] / 1e3,
           turn_ns[turns * 99 / 100] / 1e3);
    return 0;
}

static void wait_at(int gate)
{
    while (read(gate, block, 1) != 0) /* 0: the writer has closed it */
        ;
}

/* One stream, for as long as it takes from now; a source that does not come is no bytes. */
static void take(int listener, const char *seconds)
{
    int64_t start = now_ns(), until = after(seconds), bytes = 0;
    struct timeval tick = {.tv_usec = 50000};
    struct pollfd ring = {.fd = listener, .events = POLLIN};
    int fd = -1;

    if (poll(&ring, 1, (int)((until - start) / 1000000)) > 0)
        fd = accept(listener, NULL, NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    while (fd >= 0 && now_ns() < until) {
        ssize_t len = recv(fd, block, sizeof block, 0);

        if (len == 0)
            break;
        bytes += len > 0 ? len : 0;
    }
    printf("%lld %lld %lld\n", (long long)start, (long long)now_ns(), (long long)bytes);
    fflush(stdout);
    close(fd); /* with data unread: the source's next write fails */
}

static int sink(const char *port, const char *seconds, char **gates, int count)
{
    int listener = listening(port);

    close(accept(listener, NULL, NULL));
    say("ready");
    for (int i = 0; i < count; i++) {
        wait_at(atoi(gates[i]));
        take(listener, seconds);
    }
    return 0;
}

static int source(const char *address, const char *port, char **gates, int count)
{
    close(connected(address, port));
    say("ready");
    for (int i = 0; i < count; i++) {
        wait_at(atoi(gates[i]));
        int fd = connected(address, port);
        while (write(fd, block, sizeof block) > 0)
            ;
        close(fd);
        say("done");
    }
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "echo") == 0)
        return echo(argv[2]);
    if (argc == 5 && strcmp(argv[1], "ask") == 0)
        return ask(argv[2], argv[3], argv[4]);
    if (argc >= 5 && strcmp(argv[1], "sink") == 0)
        return sink(argv[2], argv[3], argv + 4, argc - 4);
    if (argc >= 5 && strcmp(argv[1], "source") == 0)
        return source(argv[2], argv[3], argv + 4, argc - 4);
    fprintf(stderr, "usage: ends echo PORT | ask ADDRESS PORT SECONDS | sink PORT SECONDS GATE... | "
                    "source ADDRESS PORT GATE...\n");
    return 2;
}
