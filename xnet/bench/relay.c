/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The yardstick: frames from one TAP to another and back, with no emulation between.
 *
 *   relay FD FD [FD FD ...]
 *
 * Each pair of inherited, non-blocking TAP fds is joined both ways. One process, one thread, one
 * buffer; a frame keeps its vnet header, so offloads pass through untouched. A readable fd is given
 * 64 frames, then the next one has its turn. Ends when standard input does, that is with its parent.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { FRAMES_A_WAKE = 64, MAX_FDS = 1024, FRAME_MAX = 17 * 4096 }; /* 64 KiB, headers, whole pages */

static int peer_of[MAX_FDS];
static char frame[FRAME_MAX] __attribute__((aligned(4096)));

static void watch(int poll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) {
        perror("relay: epoll_ctl");
        exit(1);
    }
}

static void pump(int from, int to)
{
    for (int i = 0; i < FRAMES_A_WAKE; i++) {
        ssize_t len = read(from, frame, sizeof frame);

        if (len <= 0)
            return; /* EAGAIN: empty */
        /* A write that is refused is a frame lost, as on any wire. */
        if (write(to, frame, len) < 0 && errno != EAGAIN && errno != EIO && errno != EINVAL) {
            perror("relay: write");
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[64];
    int poll = epoll_create1(EPOLL_CLOEXEC);

    if (poll < 0 || argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "usage: relay FD FD [FD FD ...]\n");
        return 2;
    }
    prctl(PR_SET_NAME, "relay"); /* for ps: the program is a nameless file */
    for (int i = 1; i < argc; i += 2) {
        int left = atoi(argv[i]), right = atoi(argv[i + 1]);

        if (left <= 0 || right <= 0 || left >= MAX_FDS || right >= MAX_FDS) {
            fprintf(stderr, "relay: bad fd %s or %s\n", argv[i], argv[i + 1]);
            return 2;
        }
        peer_of[left] = right;
        peer_of[right] = left;
        watch(poll, left);
        watch(poll, right);
    }
    watch(poll, STDIN_FILENO);
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);

        if (ready < 0 && errno != EINTR) {
            perror("relay: epoll_wait");
            return 1;
        }
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == STDIN_FILENO)
                return 0;
            pump(events[i].data.fd, peer_of[events[i].data.fd]);
        }
    }
}
