// differs: */in flight -- data put back leave room for more, so the writer goes on
/* A pipe between parent and child, with data in flight and both ends blocked on it afterwards. */
#include "victim.h"
#include <sched.h>
#include <sys/ioctl.h>

enum { TOTAL = 1 << 20 };
static int ends[2];

/* Until the writer can't go on. */
static void until_full(void)
{
        int waiting = 0;

        do
                CALL(ioctl(ends[0], FIONREAD, &waiting));
        while (waiting < 64000 && sched_yield() == 0);
}

static void writer(void)
{
        char block[1000];

        close(ends[0]);
        for (int at = 0; at < TOTAL; at += (int)sizeof(block)) {
                memset(block, at / 1000 % 251, sizeof(block));
                for (size_t done = 0; done < sizeof(block);)
                        done += CALL(write(ends[1], block + done, sizeof(block) - done));
        }
}

int main(void)
{
        unsigned char text[1000];
        int at = 0;

        CALL(pipe(ends));
        pid_t pid = child(writer);
        close(ends[1]);
        until_full();
        ready_and_wait();
        for (;;) {
                ssize_t got = CALL(read(ends[0], text, sizeof(text)));
                for (ssize_t i = 0; i < got; i++, at++)
                        CHECK(text[i] == at / 1000 % 251);
                if (got == 0)
                        break;
        }
        CHECK(at >= TOTAL);
        join_child(pid);
        pass();
}
