/* A mapping that reaches beyond the end of its file: the last page is cut, the next ones SIGBUS. */
#include "victim.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile sig_atomic_t caught;

static void handler(int signo)
{
        caught = signo;
        siglongjmp(back, 1);
}

int main(void)
{
        int fd = made_file("data", PAGE + 800, 1);
        char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

        CHECK(memory != MAP_FAILED);
        memory[PAGE + 900] = 9; /* beyond the end, in the last page */
        CHECK(signal(SIGBUS, handler) != SIG_ERR);
        ready_and_wait();
        CHECK(filled(memory, PAGE + 800, 1) && memory[PAGE + 900] == 9);
        if (!sigsetjmp(back, 1))
                memory[2 * PAGE] = 1;
        CHECK(caught == SIGBUS);
        pass();
}
