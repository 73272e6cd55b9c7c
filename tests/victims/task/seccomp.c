// args: process
// args: synchronized
// args: thread
// args: child
// args: deny
// args: unprivileged
// args: logged
/* Filters of system calls: of the whole process, of all threads at once, of one thread more than of
 * the others, of a child more than of its parent; one that denies what it does not name; one whose
 * process could not install it again; one with a flag. */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static const char *kind;

static int is(const char *name)
{
        return !strcmp(kind, name);
}

/* One more filter: `call` fails with `error` from now on. */
static void forbid(int call, int error, int flags)
{
        struct sock_filter insns[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {.len = sizeof(insns) / sizeof(*insns), .filter = insns};

        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}

/* Everything fails that is not needed here or to bring a thread home. */
static void deny(void)
{
        static const int allowed[] = {
            SYS_rt_sigprocmask, SYS_rt_sigreturn,    SYS_munmap, SYS_close,
            SYS_prlimit64,      SYS_openat,          SYS_read,   SYS_write,
            SYS_exit,           SYS_exit_group,      SYS_futex,  SYS_madvise,
            SYS_newfstatat,     SYS_restart_syscall,
        };
        enum { NR = sizeof(allowed) / sizeof(*allowed) };
        struct sock_filter insns[NR + 3] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        };
        struct sock_fprog program = {.len = NR + 3, .filter = insns};

        for (int i = 0; i < NR; i++)
                insns[1 + i] =
                    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], NR - i, 0);
        insns[1 + NR] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 83);
        insns[2 + NR] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

static int fails_with(int call)
{
        return syscall(call) == -1 ? errno : 0;
}

static void *body(void *built)
{
        if (is("thread"))
                forbid(SYS_getuid, 77, 0);
        if (is("deny"))
                deny();
        pthread_barrier_wait(built);
        wait_for("go");
        CHECK(fails_with(SYS_getppid) == (is("deny") ? 83 : 78));
        CHECK(fails_with(SYS_getuid) == (is("thread") ? 77 : is("deny") ? 83 : 0));
        CHECK(fails_with(SYS_getgid) == (is("synchronized") ? 79 : is("deny") ? 83 : 0));
        return NULL;
}

static void of_child(void)
{
        if (is("child"))
                forbid(SYS_getuid, 81, 0);
        ready_and_wait();
        CHECK(fails_with(SYS_getppid) == 78);
        CHECK(fails_with(SYS_getuid) == (is("child") ? 81 : 0));
}

int main(UNUSED int argc, char **argv)
{
        pthread_barrier_t built;
        pthread_t thread;
        pid_t pid = 0;

        kind = argv[1];
        if (!is("unprivileged"))
                CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        forbid(SYS_getppid, 80, 0);
        forbid(SYS_getppid, 78, is("logged") ? SECCOMP_FILTER_FLAG_LOG : 0);
        if (is("unprivileged"))
                CALL(setresuid(65534, 65534, 65534));
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        if (is("synchronized"))
                forbid(SYS_getgid, 79, SECCOMP_FILTER_FLAG_TSYNC);
        if (is("process") || is("child"))
                pid = child(of_child);
        if (is("deny"))
                deny();
        if (pid)
                wait_for("go");
        else
                ready_and_wait();
        CHECK(fails_with(SYS_getppid) == (is("deny") ? 83 : 78));
        CHECK(fails_with(SYS_getuid) == (is("deny") ? 83 : 0));
        CHECK(fails_with(SYS_getgid) == (is("synchronized") ? 79 : is("deny") ? 83 : 0));
        ZERO(pthread_join(thread, NULL));
        if (pid)
                join_child(pid);
        pass();
}
