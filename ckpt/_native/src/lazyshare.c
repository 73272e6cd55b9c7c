/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyshare.h"

#include "lazyfill.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int is(const struct lazy_space *space, uint32_t flag)
{
        return (space->flags & flag) != 0;
}

/* ---- objects */

/* A userfaultfd of our own memory: nothing but requests is made with it. */
static long own_uffd(struct server *s)
{
        struct uffdio_api api = {.api = UFFD_API};
        int uffd;

        if (s->told->own_uffd > 0)
                close(s->told->own_uffd); /* of a server that was killed */
        s->told->own_uffd = 0;
        uffd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        if (uffd < 0)
                return -errno;
        if (ioctl(uffd, UFFDIO_API, &api) < 0) {
                long err = -errno;

                close(uffd);
                return err;
        }
        s->told->own_uffd = uffd;
        return 0;
}

static long map_object(struct server *s, struct lazy_space *space)
{
        const struct ckpt_lazy_object *object;
        struct uffdio_register arg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
        void *map;

        if (space->object >= s->job->nr_objects)
                return -EILSEQ;
        object = &s->job->objects[space->object];
        if (space->nr_runs && space->runs[space->nr_runs - 1].end > object->size)
                return -EILSEQ;
        map = mmap(NULL, object->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                   object->lfd, 0);
        if (map == MAP_FAILED)
                return -errno;
        arg.range = (struct uffdio_range){.start = (uintptr_t)map, .len = object->size};
        if (ioctl(s->told->own_uffd, UFFDIO_REGISTER, &arg) < 0)
                return -errno;
        space->base = (uintptr_t)map;
        space->uffd = s->told->own_uffd;
        return 0;
}

long lazy_share_open(struct server *s)
{
        long err = lazy_share_left(s) ? own_uffd(s) : 0;

        for (uint64_t i = 0; !err && i < s->state.nr_spaces; i++)
                if (is(space_at(s, i), CKPT_LAZY_OBJECT) && space_at(s, i)->nr_left)
                        err = map_object(s, space_at(s, i));
        return err;
}

uint64_t lazy_share_left(struct server *s)
{
        return lazy_state_shared(&s->state);
}

int lazy_share_next(struct server *s, uint64_t nr_max, struct lazy_piece *piece, uint64_t *space)
{
        for (*space = 0; s->hurry && *space < s->state.nr_spaces; ++*space)
                if (is(space_at(s, *space), CKPT_LAZY_OBJECT) &&
                    lazy_space_sweep(space_at(s, *space), nr_max, piece))
                        return 1;
        return 0;
}

/* ---- who waits */

static void wake_one(struct server *s, uint64_t i)
{
        struct waiting one = s->waiting[i];

        s->waiting[i] = s->waiting[--s->nr_waiting];
        if (space_at(s, one.space)->uffd >= 0)
                lazy_wake(space_at(s, one.space)->uffd, one.addr);
}

void lazy_share_wake(struct server *s, uint64_t object, uint64_t start, uint64_t end)
{
        for (uint64_t i = 0; s->hurry && i < s->state.nr_spaces; i++)
                if (is(space_at(s, i), CKPT_LAZY_SHARES) && space_at(s, i)->uffd >= 0)
                        lazy_wake_all(space_at(s, i)->uffd); /* whose faults were not read */
        for (uint64_t i = 0; i < s->nr_waiting;) {
                const struct waiting *one = &s->waiting[i];

                if (one->object == object && start <= one->at && one->at < end)
                        wake_one(s, i);
                else
                        i++;
        }
}

static void wait_for(struct server *s, struct waiting one)
{
        if (s->nr_waiting == LAZY_NR_WAITING)
                wake_one(s, 0); /* it faults again */
        s->waiting[s->nr_waiting++] = one;
}

/* ---- faults */

/* Zeros for a page that the images don't have. */
static long fill_hole(struct server *s, uint64_t space, uint64_t addr)
{
        struct lazy_filled filled = {0};
        int uffd = space_at(s, space)->uffd;
        long got = lazy_fill(uffd, addr, NULL, 1, 0, &filled);

        s->told->nr_holes += filled.copied;
        if (got == -ESRCH)
                return 0;
        got = lazy_patient(s, got);
        if (got == 0)
                lazy_wake(uffd, addr); /* after the events */
        return got < 0 ? lazy_lost(s, space, &(struct lazy_piece){.addr = addr}, got) : 0;
}

static long serve_fault(struct server *s, uint64_t space, uint64_t addr)
{
        const struct lazy_space *of = space_at(s, space);
        uint64_t object, at, done;

        if (!lazy_space_find(of, addr, &object, &at)) {
                s->hurry = 1;
                return 0;
        }
        if (lazy_space_has(space_at(s, object), at)) {
                wait_for(s, (struct waiting){space, addr, object, at});
                return lazy_fetch(s, object, at, &done);
        }
        if (!is(of, CKPT_LAZY_DOUBTED | CKPT_LAZY_BORN))
                return fill_hole(s, space, addr);
        s->hurry = 1;
        return 0;
}

/* No event is read: who waits for that has to go on waiting. So once there is one nothing is, for a
 * fault that was seen may be gone when it is read, by a signal, and the event would come instead.
 */
long lazy_share_serve(struct server *s, uint64_t space)
{
        int uffd = space_at(s, space)->uffd;
        struct uffd_msg fault;
        long got;

        if (uffd < 0 || !lazy_share_left(s))
                return 0;
        if (s->hurry || !lazy_nr_faults(uffd) || !lazy_quiet(uffd)) {
                s->hurry |= !lazy_quiet(uffd);
                return 0;
        }
        got = lazy_state_read(&s->state, space, &fault);
        if (got < 0)
                return lazy_lost(s, space, &(struct lazy_piece){.source = ~0ULL}, got);
        return got ? serve_fault(s, space, fault.arg.pagefault.address & ~(LAZY_PAGE - 1)) : 0;
}

/* ---- the end */

static void close_object(struct server *s, struct lazy_space *space)
{
        if (space->base)
                munmap((void *)space->base, s->job->objects[space->object].size);
        space->base = 0;
        space->uffd = -1;
        lazy_space_free(space);
}

long lazy_share_settle(struct server *s)
{
        int open = 0;

        for (uint64_t i = 0; i < s->state.nr_spaces; i++)
                open |= is(space_at(s, i), CKPT_LAZY_SHARES) && space_at(s, i)->uffd >= 0;
        if (!open || lazy_share_left(s))
                return 0;
        /* Before anybody can punch holes: a successor must not fill them again. */
        long err = lazy_state_renew(&s->state);

        if (err)
                return err;
        s->hurry = 0;
        s->nr_waiting = 0;
        for (uint64_t i = 0; i < s->state.nr_spaces; i++) {
                if (is(space_at(s, i), CKPT_LAZY_OBJECT))
                        close_object(s, space_at(s, i));
                else if (is(space_at(s, i), CKPT_LAZY_SHARES) && space_at(s, i)->uffd >= 0)
                        lazy_state_close(&s->state, i);
        }
        if (s->told->own_uffd > 0)
                close(s->told->own_uffd);
        s->told->own_uffd = 0;
        return 0;
}
