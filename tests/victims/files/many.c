/* 1,000 descriptors of as many descriptions, in gaps, of files and pipes. */
#include "victim.h"

enum { NR = 500 };

int main(void)
{
        static int files[NR], pipes[NR / 2][2];
        char name[32];

        for (int i = 0; i < NR; i++) {
                snprintf(name, sizeof(name), "file%d", i % 20);
                files[i] = CALL(open(in_folder(name), O_RDWR | O_CREAT, 0600));
                CALL(lseek(files[i], i * 10, SEEK_SET));
                if (i % 2) {
                        CALL(pipe(pipes[i / 2]));
                        CHECK(write(pipes[i / 2][1], &i, sizeof(i)) == sizeof(i));
                }
        }
        for (int i = 0; i < NR; i += 7)
                close(files[i]);
        ready_and_wait();
        for (int i = 0; i < NR; i++) {
                int value;
                CHECK(lseek(files[i], 0, SEEK_CUR) == (i % 7 ? i * 10 : -1));
                if (i % 2)
                        CHECK(CALL(read(pipes[i / 2][0], &value, sizeof(value))) == sizeof(value) &&
                              value == i);
        }
        pass();
}
