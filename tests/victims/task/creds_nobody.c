/* A process of user nobody, as `su` makes it. */
#include "victim.h"
#include <grp.h>

int main(void)
{
        uid_t r, e, s;

        CALL(setgroups(0, NULL));
        CALL(setresgid(65534, 65534, 65534));
        CALL(setresuid(65534, 65534, 65534));
        ready_and_wait();
        CALL(getresuid(&r, &e, &s));
        CHECK(r == 65534 && e == 65534 && s == 65534);
        CALL(getresgid(&r, &e, &s));
        CHECK(r == 65534 && e == 65534 && s == 65534);
        CHECK(getgroups(0, NULL) == 0);
        CHECK(setuid(0) == -1 && errno == EPERM);
        CHECK(open("/etc/shadow", O_RDONLY) == -1 && errno == EACCES);
        pass();
}
