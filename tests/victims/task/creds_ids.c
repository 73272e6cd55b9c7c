/* Real, effective, saved and file system ids that all differ, and supplementary groups. */
#include "victim.h"
#include <grp.h>
#include <sys/fsuid.h>

int main(void)
{
        gid_t groups[] = {5, 77, 4000, 70000}, now[16];
        uid_t r, e, s;

        CALL(setgroups(4, groups));
        CALL(setresgid(201, 202, 203));
        setfsgid(204);
        CALL(setresuid(101, 0, 103));
        setfsuid(104);
        ready_and_wait();
        CALL(getresuid(&r, &e, &s));
        CHECK(r == 101 && e == 0 && s == 103);
        CALL(getresgid(&r, &e, &s));
        CHECK(r == 201 && e == 202 && s == 203);
        CHECK(setfsuid(-1) == 104);
        CHECK(setfsgid(-1) == 204);
        CHECK(getgroups(16, now) == 4);
        CHECK(memcmp(groups, now, sizeof(groups)) == 0);
        pass();
}
