// SPDX-License-Identifier: GPL-2.0-only
/*
 * A ring of io_uring that is idle until a byte in a FIFO comes, which a script writes while the
 * victim stands. "x": read a file into all of the memory, by requests that the kernel makes at
 * once, or has a worker make, from the page cache and past it; say that it is ready. "y": check
 * that the memory is as it was before that, and do the same.
 */
#include "../ring.h"

#define NR_BLOCKS 128
#define BLOCK     (128UL << 10)

static char *memory;
static int files[2];

static void read_all(struct ring *r)
{
        for (unsigned i = 0; i < NR_BLOCKS; i++) {
                ring_submit(r, (struct io_uring_sqe){.opcode = IORING_OP_READ,
                                                     .flags = i & 1 ? IOSQE_ASYNC : 0,
                                                     .fd = files[i >> 1 & 1],
                                                     .addr = (uintptr_t)(memory + i * BLOCK),
                                                     .len = BLOCK});
                CHECK(ring_result(r) == (int)BLOCK);
        }
        for (unsigned i = 0; i < NR_BLOCKS; i++)
                CHECK(filled(memory + i * BLOCK, BLOCK, 2));
}

int main(void)
{
        struct ring r = new_ring();
        char what = 'x';
        int told;

        memory = anonymous(NR_BLOCKS * BLOCK);
        close(made_file("file", BLOCK, 2));
        files[0] = CALL(open(in_folder("file"), O_RDONLY | O_CLOEXEC));
        CALL(fsync(files[0]));
        files[1] = CALL(open(in_folder("file"), O_RDONLY | O_DIRECT | O_CLOEXEC));
        read_all(&r); /* the workers are there */
        fill(memory, NR_BLOCKS * BLOCK, 1);
        CALL(mkfifo(in_folder("told"), 0600));
        told = CALL(open(in_folder("told"), O_RDWR | O_CLOEXEC));
        ready();
        while (what == 'x') {
                CHECK(CALL(read(told, &what, 1)) == 1);
                if (what == 'y')
                        CHECK(filled(memory, NR_BLOCKS * BLOCK, 1));
                read_all(&r);
                if (what == 'x')
                        ready();
        }
        pass();
}
