/* Standard input, output and error on a terminal that belongs to somebody else. */
#include "victim.h"
#include <termios.h>

int main(void)
{
        struct termios before, now;
        char name[64], line[16] = "";

        for (int fd = 0; fd < 3; fd++)
                CHECK(isatty(fd));
        ZERO(ttyname_r(0, name, sizeof(name)));
        CALL(tcgetattr(0, &before));
        ready_and_wait();
        CALL(tcgetattr(2, &now));
        CHECK(memcmp(&before, &now, sizeof(now)) == 0);
        char again[64];
        ZERO(ttyname_r(0, again, sizeof(again)));
        CHECK(strcmp(name, again) == 0);
        CHECK(CALL(read(0, line, sizeof(line))) == 5 && !strcmp(line, "word\n"));
        pass();
}
