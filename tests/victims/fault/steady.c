// args: nanosleep
// cflags: -mno-red-zone
/*
 * A program that notices when anything is done to it. Twelve kinds of work, one thread each; the
 * kind that the argument names is done by the main thread too. Every round checks its own result:
 * registers, flags and red zone across a loop, system calls that must not be seen interrupted,
 * real-time signals that must come once each and in order, restartable sequences. A handler runs
 * a thousand times a second in the spinning threads.
 *
 * Rounds are counted in the shared file `rounds`, one 64-bit word for each kind, word 0 for the
 * main thread's. On SIGUSR1 everybody finishes a round and the program passes.
 */
#include "victim.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/rseq.h>
#include <sys/select.h>
#include <sys/socket.h>

#define MS(n) ((n) * 1000000L)
#define TICK  (SIGRTMIN + 1)
#define QUEUE (SIGRTMIN + 2)

static volatile int stop;
static _Atomic uint64_t *rounds;

static int64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A call that waited for nothing else must have waited its whole time. */
static void waited(int64_t since, int64_t ns)
{
        CHECK(now_ns() - since >= ns);
}

static uint64_t in_words[16], out_words[16];

/* Fifteen registers, flags and 128 bytes below rsp, held for 20,000 turns. */
static void registers(void)
{
        uint64_t bad;

        asm volatile("movq %%rsp, %%mm0\n"
                     "mov $0x1111, %%rax\n mov $0x2222, %%rbx\n mov $0x3333, %%rcx\n"
                     "mov $0x4444, %%rdx\n mov $0x5555, %%rsi\n mov $0x6666, %%rdi\n"
                     "mov $0x8888, %%r8\n mov $0x9999, %%r9\n mov $0xaaaa, %%r10\n"
                     "mov $0xbbbb, %%r11\n mov $0xcccc, %%r12\n mov $0xdddd, %%r13\n"
                     "mov $0xeeee, %%r14\n mov $20000, %%r15\n"
                     "movq %%rax, -8(%%rsp)\n movq %%rbx, -64(%%rsp)\n movq %%rcx, -128(%%rsp)\n"
                     "std\n stc\n"
                     "1: pause\n"
                     "jnc 2f\n"
                     "lea -1(%%r15), %%r15\n"
                     "xchg %%r15, %%rcx\n jrcxz 3f\n xchg %%r15, %%rcx\n"
                     "jmp 1b\n"
                     "3: xchg %%r15, %%rcx\n"
                     "jnc 2f\n"
                     "cld\n"
                     "xor $0x1111, %%rax\n xor $0x2222, %%rbx\n or %%rbx, %%rax\n"
                     "xor $0x3333, %%rcx\n or %%rcx, %%rax\n xor $0x4444, %%rdx\n"
                     "or %%rdx, %%rax\n xor $0x5555, %%rsi\n or %%rsi, %%rax\n"
                     "xor $0x6666, %%rdi\n or %%rdi, %%rax\n xor $0x8888, %%r8\n"
                     "or %%r8, %%rax\n xor $0x9999, %%r9\n or %%r9, %%rax\n"
                     "xor $0xaaaa, %%r10\n or %%r10, %%rax\n xor $0xbbbb, %%r11\n"
                     "or %%r11, %%rax\n xor $0xcccc, %%r12\n or %%r12, %%rax\n"
                     "xor $0xdddd, %%r13\n or %%r13, %%rax\n xor $0xeeee, %%r14\n"
                     "or %%r14, %%rax\n"
                     "movq -8(%%rsp), %%rbx\n xor $0x1111, %%rbx\n or %%rbx, %%rax\n"
                     "movq -64(%%rsp), %%rbx\n xor $0x2222, %%rbx\n or %%rbx, %%rax\n"
                     "movq -128(%%rsp), %%rbx\n xor $0x3333, %%rbx\n or %%rbx, %%rax\n"
                     "jmp 4f\n"
                     "2: cld\n mov $-1, %%rax\n"
                     "4: movq %%mm0, %%rbx\n xor %%rsp, %%rbx\n or %%rbx, %%rax\n emms\n"
                     : "=a"(bad)
                     :
                     : "memory", "cc", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
                       "r12", "r13", "r14", "r15", "mm0");
        CHECK(bad == 0);
}

/* Vector registers and mxcsr, the widest that the CPU has. */
__attribute__((target("avx512f,avx512bw"))) static int spin_avx512(void)
{
        uint64_t differs = 0;

        asm volatile("vmovdqu64 (%1), %%zmm0\n vmovdqu64 64(%1), %%zmm31\n kmovq (%1), %%k5\n"
                     "mov $5000, %%ecx\n 1: pause\n dec %%ecx\n jnz 1b\n"
                     "vpcmpeqq (%1), %%zmm0, %%k1\n vpcmpeqq 64(%1), %%zmm31, %%k2\n"
                     "kmovq %%k1, %%rax\n kmovq %%k2, %%rcx\n and %%rcx, %%rax\n"
                     "xor $0xff, %%rax\n kmovq %%k5, %%rcx\n xor (%1), %%rcx\n or %%rcx, %%rax\n"
                     "vzeroupper\n"
                     : "=&a"(differs)
                     : "r"(in_words)
                     : "rcx", "cc", "memory", "xmm0", "xmm31", "k1", "k2", "k5");
        return differs == 0;
}

static int spin_sse(void)
{
        uint64_t differs;

        asm volatile("movdqu (%1), %%xmm7\n mov $5000, %%ecx\n 1: pause\n dec %%ecx\n jnz 1b\n"
                     "movdqu (%1), %%xmm6\n pcmpeqb %%xmm7, %%xmm6\n pmovmskb %%xmm6, %%eax\n"
                     "xor $0xffff, %%eax\n"
                     : "=&a"(differs)
                     : "r"(in_words)
                     : "rcx", "cc", "memory", "xmm6", "xmm7");
        return (uint32_t)differs == 0;
}

static void vectors(void)
{
        if (__builtin_cpu_supports("avx512bw"))
                CHECK(spin_avx512());
        CHECK(spin_sse());
}

static void nanosleeps(void)
{
        struct timespec three_ms = {0, MS(3)};
        int64_t since = now_ns();

        CALL(nanosleep(&three_ms, NULL));
        waited(since, MS(3));
}

static void clock_sleeps(void)
{
        int64_t until = now_ns() + MS(3);
        struct timespec at = {until / 1000000000, until % 1000000000}, two_ms = {0, MS(2)};
        int64_t since = now_ns();

        ZERO(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL));
        CHECK(now_ns() >= until);
        ZERO(clock_nanosleep(CLOCK_REALTIME, 0, &two_ms, NULL));
        waited(since, MS(4));
}

static void futexes(void)
{
        static uint32_t word;
        struct timespec three_ms = {0, MS(3)};
        int64_t since = now_ns();
        long result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &three_ms, NULL, 0);

        CHECK(result == -1 && errno == ETIMEDOUT);
        waited(since, MS(3));
}

static void polls(void)
{
        int64_t since = now_ns();

        CHECK(CALL(poll(NULL, 0, 3)) == 0);
        waited(since, MS(3));
}

static void selects(void)
{
        struct timespec three_ms = {0, MS(3)};
        struct timeval two_ms = {0, 2000};
        int64_t since = now_ns();

        CHECK(CALL(pselect(0, NULL, NULL, NULL, &three_ms, NULL)) == 0);
        CHECK(CALL(select(0, NULL, NULL, NULL, &two_ms)) == 0);
        waited(since, MS(5));
}

/* The kernel never restarts these: they may end early, but by EINTR alone. */
static void epolls(void)
{
        static __thread int epoll = -1;
        struct epoll_event event;

        if (epoll < 0)
                epoll = CALL(epoll_create1(EPOLL_CLOEXEC));
        int n = epoll_wait(epoll, &event, 1, 3);
        CHECK(n == 0 || (n == -1 && errno == EINTR));
}

static void waits_for_signal(void)
{
        struct timespec three_ms = {0, MS(3)};
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        CHECK(sigtimedwait(&set, NULL, &three_ms) == -1);
        CHECK(errno == EAGAIN || errno == EINTR);
}

/* A byte goes to a thread of its own and comes back. */
static void *echo(void *arg)
{
        int *end = arg;
        char byte;

        while (CALL(read(*end, &byte, 1)) == 1)
                CHECK(write(*end, &byte, 1) == 1);
        return NULL;
}

static void reads(void)
{
        static __thread int pair[2], made;
        static __thread char next;
        struct pollfd forever = {.events = POLLIN};
        pthread_t thread;
        char byte;

        if (!made) {
                CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
                ZERO(pthread_create(&thread, NULL, echo, &pair[1]));
                made = 1;
        }
        next++;
        forever.fd = pair[0];
        CHECK(write(pair[0], &next, 1) == 1);
        if (next & 1)
                CHECK(CALL(poll(&forever, 1, -1)) == 1 && forever.revents == POLLIN);
        CHECK(CALL(read(pair[0], &byte, 1)) == 1);
        CHECK(byte == next);
}

/* Queued signals: each once, in order, whoever is stopped meanwhile. */
static __thread volatile int received, wrong;

static void on_queue(UNUSED int number, siginfo_t *info, UNUSED void *context)
{
        if (info->si_value.sival_int != received)
                wrong = 1;
        received++;
}

struct sender {
        pid_t tid;
        int upto;
};

static void *send_some(void *arg)
{
        struct sender *to = arg;

        for (int i = 0; i < to->upto; i++) {
                siginfo_t info = {.si_signo = QUEUE, .si_code = SI_QUEUE};

                info.si_pid = getpid();
                info.si_uid = getuid();
                info.si_value.sival_int = i;
                CALL(syscall(SYS_rt_tgsigqueueinfo, getpid(), to->tid, QUEUE, &info));
        }
        return NULL;
}

static void suspends(void)
{
        struct sender to = {.tid = tid_of_caller(), .upto = 20};
        sigset_t during, before, now;
        pthread_t thread;

        received = 0;
        wrong = 0;
        ZERO(pthread_sigmask(SIG_SETMASK, NULL, &before));
        CHECK(sigismember(&before, QUEUE));
        during = before;
        sigdelset(&during, QUEUE);
        ZERO(pthread_create(&thread, NULL, send_some, &to));
        while (received < to.upto)
                CHECK(sigsuspend(&during) == -1 && errno == EINTR);
        ZERO(pthread_join(thread, NULL));
        ZERO(pthread_sigmask(SIG_SETMASK, NULL, &now));
        CHECK(memcmp(&before, &now, 8) == 0);
        CHECK(received == to.upto && !wrong);
}

/* Per-cpu counters that only a restartable sequence keeps right. */
static struct {
        uint64_t count;
        char pad[56];
} by_cpu[1024];

static int add_on_cpu(struct rseq *area, uint32_t cpu)
{
        asm goto(".pushsection .data.rel.local, \"aw\"\n"
                 ".balign 32\n"
                 "3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n"
                 ".popsection\n"
                 "jmp 9f\n"
                 ".long 0x53053053\n"
                 "4: jmp %l[aborted]\n"
                 "9: lea 3b(%%rip), %%rax\n"
                 "mov %%rax, 8(%0)\n"
                 "1: cmp %1, 4(%0)\n"
                 "jnz 4b\n"
                 "mov (%2), %%rax\n"
                 ".rept 50\n nop\n .endr\n"
                 "inc %%rax\n"
                 "mov %%rax, (%2)\n"
                 "2:\n"
                 :
                 : "r"(area), "r"(cpu), "r"(&by_cpu[cpu].count)
                 : "rax", "memory", "cc"
                 : aborted);
        return 1;
aborted:
        return 0;
}

static _Atomic uint64_t added;

static void sequences(void)
{
        struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);

        if (__rseq_size == 0)
                return;
        for (int i = 0; i < 2000; i++) {
                while (!add_on_cpu(area, *(volatile uint32_t *)&area->cpu_id_start & 1023))
                        ;
                added++;
        }
}

static const struct kind {
        const char *name;
        void (*round)(void);
        int spins; /* takes the ticks */
} kinds[] = {
    {"registers", registers, 1},
    {"vectors", vectors, 1},
    {"nanosleep", nanosleeps, 0},
    {"clock_nanosleep", clock_sleeps, 0},
    {"futex", futexes, 0},
    {"poll", polls, 0},
    {"select", selects, 0},
    {"epoll", epolls, 0},
    {"sigtimedwait", waits_for_signal, 0},
    {"read", reads, 0},
    {"sigsuspend", suspends, 0},
    {"rseq", sequences, 1},
};
#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static volatile int ticks;

/* Uses vector registers, so that they are no longer the spinner's when it is through. */
static void on_tick(UNUSED int number)
{
        asm volatile("pxor %%xmm7, %%xmm7\n pxor %%xmm0, %%xmm0" ::: "xmm0", "xmm7");
        ticks++;
}

static void on_stop(UNUSED int number)
{
        stop = 1;
}

static void start_ticks(void)
{
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK};
        struct itimerspec each_ms = {{0, MS(1)}, {0, MS(1)}};
        sigset_t set;
        timer_t timer;

        event._sigev_un._tid = tid_of_caller();
        sigemptyset(&set);
        sigaddset(&set, TICK);
        ZERO(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
        CALL(timer_create(CLOCK_MONOTONIC, &event, &timer));
        CALL(timer_settime(timer, 0, &each_ms, NULL));
}

static void work(const struct kind *kind, _Atomic uint64_t *count)
{
        if (kind->spins)
                start_ticks();
        while (!stop) {
                kind->round();
                (*count)++;
        }
}

static void *worker(void *arg)
{
        const struct kind *kind = arg;

        work(kind, rounds + 1 + (kind - kinds));
        return NULL;
}

static void *stopper(UNUSED void *unused)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        ZERO(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
        while (!stop)
                pause();
        return NULL;
}

static void handle(int number, void *handler, int flags)
{
        struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

        CALL(sigaction(number, &action, NULL));
}

int main(int argc, char **argv)
{
        pthread_t thread[NR_KINDS], stopping;
        const struct kind *mine = NULL;
        sigset_t all;

        CHECK(argc == 2);
        fill(in_words, sizeof(in_words), 7);
        memcpy(out_words, in_words, sizeof(in_words));
        int fd = made_file("rounds", PAGE, 0);
        rounds = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(rounds != MAP_FAILED);
        memset((void *)rounds, 0, PAGE);
        close(fd);
        handle(TICK, on_tick, SA_RESTART);
        handle(QUEUE, on_queue, SA_SIGINFO | SA_RESTART);
        handle(SIGUSR1, on_stop, 0);
        sigfillset(&all);
        ZERO(pthread_sigmask(SIG_SETMASK, &all, NULL));
        for (size_t i = 0; i < NR_KINDS; i++) {
                ZERO(pthread_create(&thread[i], NULL, worker, (void *)&kinds[i]));
                if (!strcmp(kinds[i].name, argv[1]))
                        mine = &kinds[i];
        }
        CHECK(mine != NULL);
        ZERO(pthread_create(&stopping, NULL, stopper, NULL));
        ready();
        work(mine, rounds);
        for (size_t i = 0; i < NR_KINDS; i++)
                ZERO(pthread_join(thread[i], NULL));
        ZERO(pthread_join(stopping, NULL));
        uint64_t sum = 0;
        for (size_t i = 0; i < 1024; i++)
                sum += by_cpu[i].count;
        CHECK(sum == added);
        CHECK(memcmp(in_words, out_words, sizeof(in_words)) == 0);
        CHECK(ticks > 0);
        pass();
}
