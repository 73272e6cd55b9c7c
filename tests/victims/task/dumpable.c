// args: 0
// args: 1
/* The dumpable attribute, of a user's process too: it decides who may trace it. */
#include "victim.h"

int main(UNUSED int argc, char **argv)
{
        int wanted = atoi(argv[1]);

        CALL(setresgid(65534, 65534, 65534));
        CALL(setresuid(65534, 65534, 65534)); /* which clears it */
        CALL(prctl(PR_SET_DUMPABLE, wanted));
        ready_and_wait();
        CHECK(prctl(PR_GET_DUMPABLE) == wanted);
        pass();
}
