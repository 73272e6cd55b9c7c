/* Memory-deny-write-execute: in force before and after. */
#include "victim.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

int main(void)
{
        CALL(prctl(PR_SET_MDWE, 1, 0, 0, 0));
        ready_and_wait();
        CHECK(prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1);
        CHECK(mmap(NULL, PAGE, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
              MAP_FAILED);
        pass();
}
