/* Shared mappings of a file, one writable and one read-only, and one of an executable kind. */
#include "victim.h"

enum { SIZE = 8 * PAGE };

int main(void)
{
        int fd = made_file("data", SIZE, 1);
        int read_only = CALL(open(in_folder("data"), O_RDONLY));
        char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        char *view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, read_only, 2 * PAGE);

        CHECK(memory != MAP_FAILED && view != MAP_FAILED);
        close(fd);
        close(read_only);
        fill(memory + PAGE, PAGE, 2);
        ready_and_wait();
        CHECK(filled(memory, PAGE, 1) && filled(memory + PAGE, PAGE, 2));
        strcpy(memory + 2 * PAGE, "through the file");
        CHECK(!strcmp(view, "through the file"));
        fd = CALL(open(in_folder("data"), O_RDONLY));
        char text[32];
        CHECK(CALL(pread(fd, text, 17, 2 * PAGE)) == 17 && !strcmp(text, "through the file"));
        CHECK(mprotect(view, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
        pass();
}
