/* Dumpable for root alone, as a change of credentials leaves it where fs.suid_dumpable is 2. */
#include "victim.h"

int main(void)
{
        CALL(setresgid(65534, 65534, 65534));
        CALL(setresuid(65534, 65534, 65534));
        CHECK(prctl(PR_GET_DUMPABLE) == 2);
        ready_and_wait();
        say("dumpable %d\n", prctl(PR_GET_DUMPABLE));
        pass();
}
