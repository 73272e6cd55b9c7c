/* Locked memory: whole, on fault, and all that comes (MCL_FUTURE). */
#include "victim.h"

int main(void)
{
        char *locked = anonymous(16 * PAGE), *on_fault = anonymous(64 * PAGE);

        fill(locked, 16 * PAGE, 1);
        CALL(mlock(locked, 16 * PAGE));
        CALL(mlock2(on_fault, 64 * PAGE, MLOCK_ONFAULT));
        on_fault[5 * PAGE] = 5;
        ready_and_wait();
        CHECK(filled(locked, 16 * PAGE, 1));
        CHECK(on_fault[5 * PAGE] == 5 && on_fault[6 * PAGE] == 0);
        CALL(munlock(locked, 16 * PAGE));
        pass();
}
