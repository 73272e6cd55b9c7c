/* Contexts of AIO: new, used, full of events that nobody took, gone round, behind a number that is
 * free again; a child without. They go on with reads and writes of a file. */
#include "victim.h"
#include <linux/aio_abi.h>

#define NR 5

static aio_context_t contexts[NR];
static int file;

static void submit(int context, uint64_t data, int opcode, void *buffer, uint64_t at)
{
        struct iocb request = {.aio_data = data,
                               .aio_lio_opcode = (uint16_t)opcode,
                               .aio_fildes = (uint32_t)file,
                               .aio_buf = (uint64_t)buffer,
                               .aio_nbytes = 8,
                               .aio_offset = (int64_t)at};
        struct iocb *list[] = {&request};

        CHECK(CALL(syscall(SYS_io_submit, contexts[context], 1, list)) == 1);
}

static struct io_event taken(int context)
{
        struct io_event event;

        CHECK(CALL(syscall(SYS_io_getevents, contexts[context], 1, 1, &event, NULL)) == 1);
        return event;
}

static void expect_none(int context)
{
        struct io_event event;
        struct timespec now = {0};

        CHECK(CALL(syscall(SYS_io_getevents, contexts[context], 0, 1, &event, &now)) == 0);
}

static void use(int context, int times)
{
        uint64_t word;

        for (int i = 0; i < times; i++) {
                word = 0;
                submit(context, (uint64_t)i, IOCB_CMD_PREAD, &word, 8);
                struct io_event event = taken(context);
                CHECK(event.data == (uint64_t)i && event.res == 8 && word == pattern(4, 1));
        }
}

static void leave(int context, int events)
{
        static uint64_t word;

        for (int i = 0; i < events; i++)
                submit(context, 1000u + (uint64_t)i, IOCB_CMD_PREAD, &word, 0);
}

static void take(int context, int events)
{
        for (int i = 0; i < events; i++) {
                struct io_event event = taken(context);
                CHECK(event.data == 1000u + (uint64_t)i && event.res == 8);
        }
        expect_none(context);
}

int main(void)
{
        aio_context_t first = 0;

        file = made_file("file", 64, 4);
        CALL(syscall(SYS_io_setup, 1, &first));
        for (int i = 0; i < NR; i++)
                CALL(syscall(SYS_io_setup, i == 3 ? 1000 : 8, &contexts[i]));
        CALL(syscall(SYS_io_destroy, first));
        unsigned room = ((unsigned *)contexts[2])[1];

        use(1, 5);
        leave(1, 7);
        use(2, (int)room - 3);
        leave(2, 9); /* behind the end, and at the start again */
        use(3, 1500);
        use(4, (int)room * 3 + 5);
        for (int i = 0; i < 2; i++) {
                if (i == 0)
                        ready_and_wait();
                expect_none(0);
                take(1, 7);
                take(2, 9);
                expect_none(3);
                expect_none(4);
                for (int k = 0; k < NR; k++) {
                        use(k, 200);
                        leave(k, 3);
                        take(k, 3);
                }
                leave(1, 7);
                leave(2, 9);
        }
        uint64_t word = 77;
        submit(3, 5, IOCB_CMD_PWRITE, &word, 0);
        CHECK(taken(3).res == 8);
        CHECK(pread(file, &word, 8, 0) == 8 && word == 77);
        for (int i = 0; i < NR; i++)
                CALL(syscall(SYS_io_destroy, contexts[i]));
        pass();
}
