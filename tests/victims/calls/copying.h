/* Steps of a world: the kernel writes to its memory, and reads it. */
#ifndef COPYING_H
#define COPYING_H

#include "mapping.h"

/* What the kernel copies to user memory, by a call drawn from three; ends before the first page
 * that can't be written. */
static void step_read_call(struct world *w)
{
        static __thread char buffer[32 * PAGE];
        struct run run = any_run(w, 32);
        uint64_t value = new_value(w), kind = draw(w, 3);
        size_t nr = 0;
        long got;

        if (run.nr > 32)
                run.nr = 32;
        while (nr < run.nr && can(w, &w->pages[run.first + nr], PROT_WRITE))
                nr++;
        if (kind == 0) {
                /* The pages must not be those that are read. */
                int fd = CALL(memfd_create("source", MFD_CLOEXEC));
                for (size_t i = 0; i < run.nr * PAGE / 8; i++)
                        ((uint64_t *)buffer)[i] = value;
                CHECK(write(fd, buffer, run.nr * PAGE) == (ssize_t)(run.nr * PAGE));
                got = pread(fd, at(w, run.first), run.nr * PAGE, 0);
                close(fd);
        } else {
                struct iovec from = {buffer, run.nr * PAGE}, to = {at(w, run.first), run.nr * PAGE};

                for (size_t i = 0; i < run.nr * PAGE / 8; i++)
                        ((uint64_t *)buffer)[i] = value;
                if (kind == 1) {
                        got = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
                } else {
                        int ends[2];
                        CALL(pipe2(ends, O_CLOEXEC));
                        struct iovec part = {buffer, PAGE}, into = {at(w, run.first), PAGE};
                        CHECK(writev(ends[1], &part, 1) == (ssize_t)PAGE);
                        got = readv(ends[0], &into, 1);
                        close(ends[0]);
                        close(ends[1]);
                        nr = nr ? 1 : 0;
                }
        }
        if (nr)
                HOLDS(w, run.first, got == (long)(nr * PAGE));
        else
                HOLDS(w, run.first, got < 0 && errno == EFAULT);
        for (size_t i = 0; i < nr; i++)
                set_value(w, &w->pages[run.first + i], value);
}

/* The kernel reads: process_vm_readv(2), write(2) to a file. */
static void step_write_call(struct world *w)
{
        static __thread uint64_t buffer[32 * PAGE / 8];
        struct run run = any_run(w, 32);
        size_t nr = 0;
        long got;

        if (run.nr > 32)
                run.nr = 32;
        while (nr < run.nr && can(w, &w->pages[run.first + nr], PROT_READ))
                nr++;
        memset(buffer, 0xff, sizeof(buffer));
        if (draw(w, 2)) {
                struct iovec to = {buffer, run.nr * PAGE}, from = {at(w, run.first), run.nr * PAGE};
                got = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
        } else {
                int fd = CALL(memfd_create("sink", MFD_CLOEXEC));
                got = write(fd, at(w, run.first), run.nr * PAGE);
                int error = errno;
                if (nr)
                        CHECK(pread(fd, buffer, nr * PAGE, 0) == (ssize_t)(nr * PAGE));
                close(fd);
                errno = error;
        }
        if (nr)
                HOLDS(w, run.first, got == (long)(nr * PAGE));
        else
                HOLDS(w, run.first, got < 0 && errno == EFAULT);
        for (size_t i = 0; i < nr * PAGE / 8; i++) {
                struct page *p = &w->pages[run.first + i * 8 / PAGE];
                if (p->flags & MAYBE_FREED && !buffer[i])
                        continue;
                HOLDS(w, run.first + i * 8 / PAGE, buffer[i] == value_of(w, p));
        }
}

#endif
