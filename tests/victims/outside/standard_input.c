/* Standard input from elsewhere: what was read before the dump goes on after the restore. */
#include "victim.h"

int main(void)
{
        char word[8] = "";

        CHECK(CALL(read(0, word, 4)) == 4 && !strcmp(word, "one "));
        ready_and_wait();
        CHECK(CALL(read(0, word, 3)) == 3 && !strncmp(word, "two", 3));
        CHECK(CALL(read(0, word, 1)) == 0); /* the other side has closed */
        pass();
}
