/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "beside.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

struct asking {
        int pidfd, epoll;
        struct ckpt_epoll_watch *watches;
        uint64_t nr;
};

/* Our descriptor `fd` is the file that may be watched under this number. */
static int is_watched(int epoll, const struct ckpt_epoll_watch *watch)
{
        struct pollfd now = {watch->fd, (short)(watch->events & 0x7fff), 0};
        struct epoll_event same = {.events = watch->events & ~EPOLLEXCLUSIVE,
                                   .data.u64 = watch->data};

        if ((watch->events & EPOLLET) && poll(&now, 1, 0) != 0)
                return 0;
        if (!epoll_ctl(epoll, EPOLL_CTL_MOD, watch->fd, &same))
                return 1;
        /* An exclusive one is found, but never changed. */
        return errno == EINVAL && (watch->events & EPOLLEXCLUSIVE);
}

/* Have a descriptor of ours out of the way, in this process alone. */
static int move_from(int *ours, int number)
{
        if (*ours == number)
                *ours = fcntl(*ours, F_DUPFD_CLOEXEC, number + 1);
        return *ours;
}

static int ask_all(void *arg)
{
        struct asking *asking = arg;

        for (uint64_t i = 0; i < asking->nr; i++) {
                struct ckpt_epoll_watch *watch = &asking->watches[i];
                int fd;

                if (move_from(&asking->pidfd, watch->fd) < 0 ||
                    move_from(&asking->epoll, watch->fd) < 0)
                        break;
                fd = (int)ckpt_pidfd_getfd(asking->pidfd, watch->fd);
                if (fd < 0)
                        continue;
                if (fd == watch->fd || dup3(fd, watch->fd, O_CLOEXEC) >= 0)
                        watch->present = (uint32_t)is_watched(asking->epoll, watch);
                close(fd);
                if (fd != watch->fd)
                        close(watch->fd);
        }
        return 0;
}

long ckpt_epoll_watches(int pidfd, int epoll, struct ckpt_epoll_watch *watches, uint64_t nr)
{
        struct asking asking = {pidfd, epoll, watches, nr};

        return ckpt_beside(ask_all, &asking, 0);
}
