/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static long write_offsets(const struct ckpt_spawn *spawn)
{
        char text[160];
        int len = snprintf(text, sizeof(text),
                           "monotonic %" PRId64 " %" PRId64 "\nboottime %" PRId64 " %" PRId64 "\n",
                           spawn->monotonic[0], spawn->monotonic[1], spawn->boottime[0],
                           spawn->boottime[1]);
        char path[64];
        long err = 0;
        int fd;

        snprintf(path, sizeof(path), "/proc/%ld/timens_offsets", (long)syscall(__NR_gettid));
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (write(fd, text, (size_t)len) != len)
                err = -errno;
        close(fd);
        return err;
}

static _Noreturn void become_seed(const struct ckpt_spawn *spawn)
{
        char *const argv[] = {(char *)"ckpt-seed", NULL};
        char *const envp[] = {NULL};
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigset_t none;
        int seed = spawn->seed;

        for (int signal = 1; signal < NSIG; signal++)
                sigaction(signal, &plain, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        personality(ADDR_NO_RANDOMIZE);
        if (seed == CKPT_SEED_SOCK)
                seed = fcntl(seed, F_DUPFD_CLOEXEC, CKPT_SEED_SOCK + 1);
        if (seed >= 0 && dup2(spawn->sock, CKPT_SEED_SOCK) == CKPT_SEED_SOCK) {
                if (spawn->sock == CKPT_SEED_SOCK)
                        fcntl(CKPT_SEED_SOCK, F_SETFD, 0);
                syscall(__NR_execveat, seed, "", argv, envp, AT_EMPTY_PATH);
        }
        _exit(127);
}

static long clone_seed(const struct ckpt_spawn *spawn)
{
        pid_t wanted = spawn->pid;
        struct clone_args args = {
            .flags = spawn->sibling ? CLONE_PARENT : 0,
            .exit_signal = spawn->sibling ? 0 : SIGCHLD,
            .set_tid = wanted ? (uintptr_t)&wanted : 0,
            .set_tid_size = wanted ? 1 : 0,
        };
        long pid = syscall(__NR_clone3, &args, sizeof(args));

        if (pid == 0)
                become_seed(spawn);
        return ckpt_result(pid);
}

/* Of what comes from now on; the namespace is known by a descriptor. */
static long open_time(const struct ckpt_spawn *spawn)
{
        char path[64];

        (void)spawn;
        snprintf(path, sizeof(path), "/proc/%ld/ns/time_for_children", (long)syscall(__NR_gettid));
        return ckpt_result(open(path, O_RDONLY | O_CLOEXEC));
}

struct job {
        const struct ckpt_spawn *spawn;
        long (*work)(const struct ckpt_spawn *spawn);
        long result;
};

static void *work_in_time(void *arg)
{
        struct job *job = arg;

        job->result = ckpt_result(unshare(CLONE_NEWTIME));
        if (!job->result)
                job->result = write_offsets(job->spawn);
        if (!job->result)
                job->result = job->work(job->spawn);
        return NULL;
}

/* Namespaces are a thread's: one that is made for this takes the new one with it when it ends. To
 * put the old one back setns(2) wants a process of one thread, which we are not. */
static long in_time(const struct ckpt_spawn *spawn, long (*work)(const struct ckpt_spawn *spawn))
{
        struct job job = {.spawn = spawn, .work = work};
        sigset_t all, before;
        pthread_t thread;
        int err;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        err = pthread_create(&thread, NULL, work_in_time, &job);
        if (!err)
                pthread_join(thread, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return err ? -err : job.result;
}

long ckpt_spawn_seed(const struct ckpt_spawn *spawn)
{
        return spawn->timens ? in_time(spawn, clone_seed) : clone_seed(spawn);
}

long ckpt_time_namespace(const struct ckpt_spawn *spawn)
{
        return in_time(spawn, open_time);
}
