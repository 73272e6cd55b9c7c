/* Directories: one that is only held, one in the middle of being read. */
#include "victim.h"
#include <dirent.h>

static int count(DIR *stream)
{
        int entries = 0;

        while (readdir(stream))
                entries++;
        return entries;
}

int main(void)
{
        CALL(mkdir(in_folder("many"), 0755));
        int held = CALL(open(in_folder("many"), O_RDONLY | O_DIRECTORY));
        for (int i = 0; i < 50; i++) {
                char name[16];
                snprintf(name, sizeof(name), "entry%d", i);
                close(CALL(openat(held, name, O_CREAT | O_WRONLY, 0600)));
        }
        DIR *stream = opendir(in_folder("many"));
        CHECK(stream != NULL);
        for (int i = 0; i < 10; i++)
                CHECK(readdir(stream) != NULL);
        ready_and_wait();
        CHECK(count(stream) == 42);
        rewinddir(stream);
        CHECK(count(stream) == 52);
        close(CALL(openat(held, "entry7", O_RDONLY)));
        pass();
}
