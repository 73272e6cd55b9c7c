// cycles: 2
// differs: */status/Threads -- workers are made anew
/* Rings of two threads whose requests were made by workers of the kernel's, which stay for the next
 * ones. They are threads of the process that no user mode belongs to. */
#include "ring.h"

#define NR 3

static int file;
static volatile pid_t other;

static void read_by_worker(struct ring *r, unsigned word)
{
        uint64_t got = 0;

        ring_submit(r, (struct io_uring_sqe){.opcode = IORING_OP_READ,
                                             .flags = IOSQE_ASYNC,
                                             .fd = file,
                                             .addr = (uintptr_t)&got,
                                             .len = 8,
                                             .off = word * 8});
        CHECK(ring_result(r) == 8 && got == pattern(4, word));
}

static void use(struct ring *r)
{
        for (unsigned i = 0; i < 20; i++)
                read_by_worker(r, i % NR);
}

static void *body(void *argument)
{
        struct ring r = new_ring();

        (void)argument;
        use(&r);
        other = tid_of_caller();
        wait_for("go");
        use(&r);
        return NULL;
}

int main(void)
{
        struct ring r = new_ring();
        pthread_t thread;

        file = made_file("file", 8 * NR, 4);
        use(&r);
        thread = started_thread(body, NULL);
        while (!other)
                sched_yield();
        ready_and_wait();
        use(&r);
        ZERO(pthread_join(thread, NULL));
        pass();
}
