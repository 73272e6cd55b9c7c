/* Children that are stopped, one of them reported already: they stay stopped until continued. */
#include "victim.h"

static void stop_then_end(void)
{
        CALL((int)raise(SIGSTOP));
        _exit(23);
}

int main(void)
{
        pid_t kids[2];
        siginfo_t info = {0};
        int status;

        for (int i = 0; i < 2; i++) {
                kids[i] = child(stop_then_end);
                CALL(waitid(P_PID, kids[i], &info, WSTOPPED | WNOWAIT));
        }
        CHECK(CALL(waitpid(kids[0], &status, WUNTRACED)) == kids[0]);
        ready_and_wait();
        for (int i = 0; i < 2; i++) {
                char path[64], text[256];
                snprintf(path, sizeof(path), "/proc/%d/stat", kids[i]);
                int fd = CALL(open(path, O_RDONLY));
                text[CALL(read(fd, text, 255))] = 0;
                close(fd);
                CHECK(strrchr(text, ')')[2] == 'T');
                CALL(kill(kids[i], SIGCONT));
                CHECK(CALL(waitpid(kids[i], &status, 0)) == kids[i]);
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 23);
        }
        pass();
}
