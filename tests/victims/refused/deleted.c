// args: file
// args: mapping
// args: directory
// args: executable
// refused: deleted
/* Something that has lost its name: an open file, a mapped one, the working directory, the program.
 */
#include "victim.h"

int main(int argc, char **argv)
{
        if (argc == 2 && argv[1][0] == 'e') {
                int from = CALL(open("/proc/self/exe", O_RDONLY));
                int to = CALL(open(in_folder("program"), O_WRONLY | O_CREAT, 0755));
                char block[65536];
                for (ssize_t got; (got = CALL(read(from, block, sizeof(block)))) > 0;)
                        CHECK(write(to, block, got) == got);
                close(to);
                close(from);
                CALL(execl(in_folder("program"), "program", "executable", "copied", NULL));
        }
        int fd = -1;
        char *memory = NULL;
        if (argc == 3) {
                CALL(unlink(in_folder("program")));
        } else if (argv[1][0] == 'd') {
                CALL(mkdir(in_folder("gone"), 0755));
                CALL(chdir(in_folder("gone")));
                CALL(rmdir(in_folder("gone")));
        } else {
                fd = made_file("gone", PAGE, 1);
                CALL(unlink(in_folder("gone")));
        }
        if (argc == 2 && argv[1][0] == 'm') {
                memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                CHECK(memory != MAP_FAILED);
                close(fd);
        }
        ready_and_wait();
        CHECK(!memory || filled(memory, PAGE, 1));
        pass();
}
