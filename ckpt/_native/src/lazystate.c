/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazystate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { NR_AT_ONCE = 16, OPENED = 0xf0, CLOSED = 0xf1 };

static uint64_t room_of(const struct lazy_state *s)
{
        return s->job->journal_len / sizeof(struct uffd_msg);
}

static struct uffd_msg *journal(const struct lazy_state *s)
{
        return s->journals[s->job->told->turn & 1];
}

static long add_space(struct lazy_state *s, struct lazy_space space)
{
        if (s->nr_spaces == s->room) {
                uint64_t room = s->room ? 2 * s->room : 16;
                struct lazy_space *at = realloc(s->spaces, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                s->spaces = at;
                s->room = room;
        }
        s->spaces[s->nr_spaces++] = space;
        return 0;
}

/* Space number `parent` has forked; its child's userfaultfd is `uffd`. */
static long born(struct lazy_state *s, uint64_t parent, int uffd)
{
        struct lazy_space child = {.uffd = uffd, .pidfd = -1};
        struct lazy_runs runs = {0};
        long err = lazy_space_missing(&s->spaces[parent], &runs);

        child.flags = s->spaces[parent].flags | CKPT_LAZY_BORN;
        if (!err)
                err = lazy_space_make(&child, runs.at, runs.nr);
        free(runs.at);
        return err ? err : add_space(s, child);
}

/* 0, or -errno where there is no memory for it. */
static long apply(struct lazy_state *s, uint64_t space, const struct uffd_msg *message)
{
        struct lazy_space *of = &s->spaces[space];
        uint64_t gone = 0;

        switch (message->event) {
        case UFFD_EVENT_FORK:
                return born(s, space, (int)message->arg.fork.ufd);
        case UFFD_EVENT_REMAP:
                of->flags |= of->flags & CKPT_LAZY_SHARES ? CKPT_LAZY_DOUBTED : 0;
                if (space < s->job->nr_moved)
                        s->job->moved[space] = 1;
                return lazy_space_move(of, message->arg.remap.from, message->arg.remap.to,
                                       message->arg.remap.len);
        case UFFD_EVENT_REMOVE:
                if (of->flags & CKPT_LAZY_SHARES)
                        return lazy_state_shared(s) ? -ENOTRECOVERABLE : 0;
                /* fall through */
        case UFFD_EVENT_UNMAP:
                gone = lazy_space_drop(of, message->arg.remove.start, message->arg.remove.end);
                s->job->told->nr_gone += of->flags & CKPT_LAZY_SHARES ? 0 : gone;
                return 0;
        default:
                return 0;
        }
}

static long space_of(const struct lazy_state *s, int uffd)
{
        for (uint64_t i = s->nr_spaces; i-- > 0;)
                if (s->spaces[i].uffd == uffd)
                        return (long)i;
        return -1;
}

static long replay(struct lazy_state *s)
{
        const struct uffd_msg *from = journal(s);
        long space = -1, err = 0;

        for (s->at = 0; !err && s->at < room_of(s) && from[s->at].event; s->at++) {
                const struct uffd_msg *message = &from[s->at];

                if (message->event == OPENED || message->event == CLOSED)
                        space = space_of(s, (int)message->arg.reserved.reserved1);
                if (space < 0)
                        continue;
                if (message->event == CLOSED) {
                        lazy_space_free(&s->spaces[space]);
                        s->spaces[space].uffd = -1;
                } else {
                        err = apply(s, (uint64_t)space, message);
                }
        }
        return err;
}

static long load_space(struct lazy_state *s, const char **at, const char *end)
{
        struct ckpt_lazy_space head;
        struct lazy_space space = {0};
        long err;

        if ((size_t)(end - *at) < sizeof(head))
                return -EILSEQ;
        memcpy(&head, *at, sizeof(head));
        *at += sizeof(head);
        if ((size_t)(end - *at) / sizeof(struct ckpt_lazy_run) < head.nr_runs)
                return -EILSEQ;
        space.uffd = head.uffd;
        space.pidfd = head.pidfd;
        space.flags = head.flags;
        space.object = head.object;
        err = lazy_space_make(&space, (const struct ckpt_lazy_run *)*at, head.nr_runs);
        *at += head.nr_runs * sizeof(struct ckpt_lazy_run);
        return err ? err : add_space(s, space);
}

static long load_layout(struct lazy_state *s, int layout)
{
        struct stat status;
        const char *at, *end;
        void *map;
        long err = 0;

        if (fstat(layout, &status) < 0)
                return -errno;
        if (!status.st_size)
                return 0;
        map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, layout, 0);
        if (map == MAP_FAILED)
                return -errno;
        at = map;
        end = at + status.st_size;
        while (!err && at < end)
                err = load_space(s, &at, end);
        munmap(map, (size_t)status.st_size);
        return err;
}

long lazy_state_load(struct lazy_state *s, const struct ckpt_lazy_job *job)
{
        long err;

        *s = (struct lazy_state){.job = job};
        for (unsigned i = 0; i < 2; i++) {
                s->journals[i] = mmap(NULL, job->journal_len, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_POPULATE, job->journals[i], 0);
                if (s->journals[i] == MAP_FAILED)
                        return -errno;
                /* What read(2) has taken must find its place. */
                mlock(s->journals[i], job->journal_len);
        }
        err = load_layout(s, job->layouts[job->told->turn & 1]);
        return err ? err : replay(s);
}

static long write_all(int to, const void *from, size_t len)
{
        while (len) {
                ssize_t done = write(to, from, len);

                if (done < 0 && errno != EINTR)
                        return -errno;
                if (done > 0) {
                        from = (const char *)from + done;
                        len -= (size_t)done;
                }
        }
        return 0;
}

long lazy_state_renew(struct lazy_state *s)
{
        uint64_t turn = !(s->job->told->turn & 1);
        int to = s->job->layouts[turn];
        long err = 0;

        if (ftruncate(to, 0) < 0 || lseek(to, 0, SEEK_SET) < 0)
                return -errno;
        for (uint64_t i = 0; !err && i < s->nr_spaces; i++) {
                const struct lazy_space *space = &s->spaces[i];
                struct lazy_runs runs = {0};
                struct ckpt_lazy_space head = {
                    .uffd = space->flags & CKPT_LAZY_OBJECT ? -1 : space->uffd,
                    .pidfd = space->pidfd,
                    .flags = space->flags,
                    .object = space->object};

                err = lazy_space_missing(space, &runs);
                head.nr_runs = runs.nr;
                if (!err)
                        err = write_all(to, &head, sizeof(head));
                if (!err)
                        err = write_all(to, runs.at, runs.nr * sizeof(*runs.at));
                free(runs.at);
        }
        if (err)
                return err;
        memset(s->journals[turn], 0, s->job->journal_len);
        __atomic_store_n(&s->job->told->turn, turn, __ATOMIC_SEQ_CST);
        s->at = 0;
        return 0;
}

static void note(struct lazy_state *s, uint8_t event, int uffd)
{
        struct uffd_msg *at = &journal(s)[s->at++];

        at->arg.reserved.reserved1 = (uint64_t)uffd;
        __atomic_store_n(&at->event, event, __ATOMIC_SEQ_CST);
}

/* Take the last messages back, the last of them first: what stays is whole at every moment. */
static void rewind_to(struct lazy_state *s, uint64_t at)
{
        while (s->at > at) {
                struct uffd_msg *message = &journal(s)[--s->at];

                __atomic_store_n(&message->event, 0, __ATOMIC_SEQ_CST);
                memset(message, 0, sizeof(*message));
        }
}

long lazy_state_read(struct lazy_state *s, uint64_t space, int one, struct uffd_msg **messages)
{
        static struct uffd_msg faults[NR_AT_ONCE];
        long nr_faults = 0, nr, err = 0;
        uint64_t began;
        ssize_t got;

        *messages = faults;
        if (room_of(s) - s->at < 2 * NR_AT_ONCE) {
                err = lazy_state_renew(s);
                if (err)
                        return err;
        }
        began = s->at;
        note(s, OPENED, s->spaces[space].uffd);
        got = read(s->spaces[space].uffd, &journal(s)[s->at],
                   (one ? 1 : NR_AT_ONCE) * sizeof(**messages));
        if (got < 0) {
                err = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                rewind_to(s, began);
                return err;
        }
        nr = got / (ssize_t)sizeof(**messages);
        for (long i = 0; !err && i < nr; i++) {
                const struct uffd_msg *message = &journal(s)[s->at++];

                if (message->event == UFFD_EVENT_PAGEFAULT)
                        faults[nr_faults++] = *message;
                else
                        err = apply(s, space, message);
        }
        if (nr_faults == nr)
                rewind_to(s, began);
        return err ? err : nr_faults;
}

void lazy_state_close(struct lazy_state *s, uint64_t space)
{
        int uffd = s->spaces[space].uffd;

        if (room_of(s) - s->at < 2 && lazy_state_renew(s))
                return;
        note(s, CLOSED, uffd);
        lazy_space_free(&s->spaces[space]);
        s->spaces[space].uffd = -1;
        close(uffd);
}

uint64_t lazy_state_shared(const struct lazy_state *s)
{
        uint64_t left = 0;

        for (uint64_t i = 0; i < s->nr_spaces; i++)
                left += s->spaces[i].flags & CKPT_LAZY_OBJECT ? s->spaces[i].nr_left : 0;
        return left;
}

uint64_t lazy_state_left(const struct lazy_state *s)
{
        uint64_t left = 0;

        for (uint64_t i = 0; i < s->nr_spaces; i++)
                left += s->spaces[i].flags & CKPT_LAZY_SHARES ? 0 : s->spaces[i].nr_left;
        return left;
}
