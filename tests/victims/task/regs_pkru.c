// needs: ospke
/* Protection keys: the rights of the thread (PKRU) and the key of a mapping. */
#include "victim.h"

int main(void)
{
        char *memory = anonymous(PAGE);
        int key = CALL(pkey_alloc(0, 0));

        CALL(pkey_mprotect(memory, PAGE, PROT_READ | PROT_WRITE, key));
        memory[0] = 42;
        CALL(pkey_set(key, PKEY_DISABLE_WRITE));
        ready_and_wait();
        CHECK(pkey_get(key) == PKEY_DISABLE_WRITE);
        CHECK(memory[0] == 42);
        CALL(pkey_set(key, 0));
        memory[0] = 43;
        pass();
}
