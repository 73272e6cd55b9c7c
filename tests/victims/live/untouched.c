// SPDX-License-Identifier: GPL-2.0-only
/*
 * A private mapping of a file, and reserved memory, of which hardly a page was ever touched.
 */
#include "../victim.h"

enum { SIZE = 32 << 20, SOME = 9 << 20 };

int main(void)
{
        int fd = made_file("file", 4 * PAGE, 1);
        char *file, *memory = anonymous(SIZE);

        CALL(ftruncate(fd, SIZE));
        file = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(file != MAP_FAILED);
        close(fd);
        file[SOME] = memory[SOME] = 7;
        ready_and_wait();
        CHECK(file[SOME] == 7 && memory[SOME] == 7);
        CHECK(filled(file, 4 * PAGE, 1) && all_zero(file + SIZE / 2, SIZE / 2));
        CHECK(all_zero(memory + SIZE / 2, SIZE / 2));
        pass();
}
