/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>

/* What a guard does that was not sent away, to each of `nr` things. */
struct duty {
        void (*act)(const struct duty *duty, uint64_t index);
        const int32_t *numbers; /* pidfds, directories or ids */
        const char *const *names;
        const struct ckpt_mark *marks;
        uint64_t nr;
        int32_t parent;
        int32_t verdict; /* -1: nobody asks */
};

static void end_task(const struct duty *duty, uint64_t index)
{
        syscall(__NR_pidfd_send_signal, duty->numbers[index], SIGKILL, NULL, 0);
}

static void remove_name(const struct duty *duty, uint64_t index)
{
        unlinkat(duty->numbers[index], duty->names[index], 0);
}

static void remove_segment(const struct duty *duty, uint64_t index)
{
        struct ckpt_shm segment;

        if (!ckpt_shm_look(duty->numbers[index], &segment) && segment.creator == duty->parent)
                ckpt_shm_remove(duty->numbers[index]);
}

static void remove_object(const struct duty *duty, uint64_t index)
{
        const struct ckpt_mark *mark = &duty->marks[index];
        struct ckpt_sysv object;

        if (mark->begun && !ckpt_sysv_look(mark->kind, mark->id, &object) &&
            object.key == mark->key)
                ckpt_sysv_remove(mark->kind, mark->id);
}

static _Noreturn void end(const struct duty *duty, char verdict, int status)
{
        if (duty->verdict >= 0)
                while (write(duty->verdict, &verdict, 1) < 0 && errno == EINTR)
                        ;
        _exit(status);
}

static _Noreturn void stand_guard(const struct duty *duty, int lfd)
{
        char byte;
        ssize_t got;

        setsid();
        do
                got = read(lfd, &byte, 1);
        while (got < 0 && errno == EINTR);
        if (got == 1)
                end(duty, CKPT_GUARD_LET_GO, 0);
        for (uint64_t i = 0; i < duty->nr; i++)
                duty->act(duty, i);
        end(duty, CKPT_GUARD_KILLED, 1);
}

static long start(const struct duty *duty, struct ckpt_guard *guard)
{
        struct clone_args args = {.exit_signal = 0};
        sigset_t all, before;
        int ends[2];
        long pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = syscall(__NR_clone3, &args, sizeof(args));
        if (pid == 0) {
                close(ends[1]);
                stand_guard(duty, ends[0]);
        }
        pid = ckpt_result(pid);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        close(ends[0]);
        if (pid < 0) {
                close(ends[1]);
                return pid;
        }
        guard->pid = (int32_t)pid;
        guard->lfd = ends[1];
        return 0;
}

long ckpt_guard_start(const int32_t *pidfds, uint64_t nr, int32_t verdict, struct ckpt_guard *guard)
{
        struct duty duty = {.act = end_task, .numbers = pidfds, .nr = nr, .verdict = verdict};

        return start(&duty, guard);
}

long ckpt_guard_names(const int32_t *dirs, const char *const *names, uint64_t nr,
                      struct ckpt_guard *guard)
{
        struct duty duty = {
            .act = remove_name, .numbers = dirs, .names = names, .nr = nr, .verdict = -1};

        return start(&duty, guard);
}

long ckpt_guard_segments(const int32_t *ids, uint64_t nr, struct ckpt_guard *guard)
{
        struct duty duty = {
            .act = remove_segment, .numbers = ids, .nr = nr, .parent = getpid(), .verdict = -1};

        return start(&duty, guard);
}

long ckpt_guard_objects(const struct ckpt_mark *marks, uint64_t nr, struct ckpt_guard *guard)
{
        struct duty duty = {.act = remove_object, .marks = marks, .nr = nr, .verdict = -1};

        return start(&duty, guard);
}
