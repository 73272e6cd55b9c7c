// args: 4 16
/* MiB of memory as the first argument says, of which it writes as many single pages as the second
 * says, always others, each time that it is let go. */
#include "victim.h"

int main(UNUSED int argc, char **argv)
{
        size_t nr = strtoul(argv[1], NULL, 10) << 8;
        size_t written = strtoul(argv[2], NULL, 10);
        unsigned char *memory = anonymous(nr * PAGE);
        size_t page = 0;

        CALL(madvise(memory, nr * PAGE, MADV_NOHUGEPAGE));
        fill(memory, nr * PAGE, 1);
        CALL(mkfifo(in_folder("step0"), 0666));
        CALL(mkfifo(in_folder("step1"), 0666));
        ready();
        for (int turn = 0;; turn = !turn) {
                wait_for(turn ? "step1" : "step0");
                for (size_t i = 0; i < written; i++) {
                        page = (page + nr / written * 7 + 1) % nr;
                        memory[page * PAGE]++;
                }
                ready();
        }
}
