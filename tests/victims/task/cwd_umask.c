/* Working directory and file mode mask. */
#include "victim.h"

int main(void)
{
        char path[512];

        CALL(mkdir(in_folder("elsewhere"), 0755));
        CALL(chdir(in_folder("elsewhere")));
        umask(0137);
        ready_and_wait();
        CHECK(getcwd(path, sizeof(path)) != NULL);
        CHECK(strcmp(path, in_folder("elsewhere")) == 0);
        CHECK(umask(0) == 0137);
        close(CALL(open("made-here", O_CREAT | O_WRONLY, 0600)));
        CALL(access(in_folder("elsewhere/made-here"), F_OK));
        pass();
}
